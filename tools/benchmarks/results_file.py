"""The runs of tools/benchmarks/results.py so far: what is known, what is missing."""

import argparse
import copy
import inspect
import json
import shlex
import statistics
import threading
import time
from pathlib import Path

import photograph_rows
import results_tables
from mmengine.runner import Runner
from results_bench import CONFIGS, Bench
from runs import digest, hardware

from mmcast._requirements import distribution_of
from mmcast.files import write_atomic

BENCHES = {each.name: each for each in (results_tables.BENCH, photograph_rows.BENCH)}
KEY = 'key.txt'  # in a row's folder: the settings of its model
KEEPING = ('timer', 'logger', 'checkpoint', 'visualization')
COLUMNS = (
    *('row', 'mask AP', 'mask AP50', 'gain', 'over', 'seeds', 'iterations', 'paper'),
)


def command_line(args: argparse.Namespace) -> str:
    """Return the command line, without what depends on the machine."""
    words = ['python', 'tools/benchmarks/results.py']
    for name in ('data', 'seeds', 'tables', 'rows', 'split', 'scale', 'rules'):
        value = getattr(args, name)
        if value:
            each = value if isinstance(value, list) else [value]
            words += [f'--{name}', *map(str, each)]
    return shlex.join(words)


class Results:
    """All finished runs, in a file that a later call continues from."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.bench: Bench = BENCHES[args.data]
        self.lock = threading.Lock()
        rules = '' if args.rules == 'stock' else f'_{args.rules}_rules'
        self.file = args.out / f'results{rules}.json'
        self.runs: dict[str, dict[str, dict]] = {}
        self.commands: list[str] = []
        if self.file.is_file():
            found = json.loads(self.file.read_text())
            self.runs, self.commands = found['runs'], found['commands']
        self.commands.append(command_line(args))

    def folder(self, name: str, seed: int) -> Path:
        """Return the folder of a run."""
        return (self.args.out / f'seed{seed}' / 'work_dirs' / name).resolve()

    def left(self, name: str, seed: int) -> Path:
        """Return the path of the file that a row's training leaves."""
        return self.folder(name, seed) / self.bench.rows[name].file

    def iterations(self, name: str) -> int:
        """Return how long a row is trained."""
        row = self.bench.rows[name]
        if row.config is None:
            return 0
        full = self.bench.config(row.config).train_cfg.max_iters
        return max(1, round(full * row.share * self.scale_of(name)))

    def scale_of(self, name: str) -> float:
        """Return the factor on a row's iterations: teachers are trained in full."""
        return 1.0 if self.bench.rows[name].file == 'teacher.pth' else self.args.scale

    def key(self, name: str, seed: int, rules: str | None = None) -> str:
        """Return the digest of all inputs of a run, without the code.

        Args:
            name: The row.
            seed: The seed.
            rules: Those of the evaluation; None for the given ones.
        """
        row = self.bench.rows[name]
        rules = rules or self.args.rules
        parts = [
            repr((self.bench.images, *self.bench.inputs, seed, self.args.split)),
            repr(self.iterations(name)),
            *([repr(self.bench.views)] if row.views else []),
            *([rules] if rules != 'stock' else []),
            content_of(self.bench, row.judge),
            *(
                f'{option} {self.key(read, seed, rules)}'
                for option, read in row.reads.items()
            ),
        ]
        if row.config:
            parts.append(content_of(self.bench, row.config, row.options))
        return digest(*parts, *self.bench.starts.get(row.judge, ()))

    def has_model(self, name: str, seed: int) -> bool:
        """Return whether the file that a row leaves is there, of these settings.

        A file that was copied there has no key and counts.
        """
        of = self.folder(name, seed) / KEY
        if not self.left(name, seed).is_file():
            return False
        return not of.is_file() or of.read_text() == self.key(name, seed, 'stock')

    def finished(self, name: str, seed: int) -> bool:
        """Return whether the result of a run is known."""
        found = self.runs.get(name, {}).get(str(seed))
        return found is not None and found['key'] == self.key(name, seed)

    def todo(self, names: list[str], seed: int) -> list[str]:
        """Return the runs that are needed, in the bench's order."""
        needed: set[str] = set()

        def visit(name: str, as_input: bool) -> None:
            ready = not as_input or self.has_model(name, seed)
            if name in needed or (ready and self.finished(name, seed)):
                return
            needed.add(name)
            for read in self.bench.rows[name].reads.values():
                visit(read, as_input=True)

        for name in names:
            visit(name, as_input=False)
        return [name for name in self.bench.rows if name in needed]

    def add(self, name: str, seed: int, result: dict) -> None:
        """Store a result and write both files."""
        with self.lock:
            found = dict(result, key=self.key(name, seed))
            self.runs.setdefault(name, {})[str(seed)] = found
            self.write()

    def add_minutes(self, name: str, seed: int, start: float) -> None:
        """Count the time since ``start`` as time of a run: it labelled."""
        with self.lock:
            run = self.runs[name][str(seed)]
            if 'minutes' in run:
                run['minutes'] = round(run['minutes'] + minutes_since(start), 1)
                self.write()

    def write(self) -> None:
        """Write ``results.json`` and ``results.md`` from the results so far."""
        rows = [self.row(name) for name in self.bench.rows if self.seeds_of(name)]
        packages = ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmcast')
        content = dict(
            regime=self.regime(),
            rows=rows,
            commands=[*dict.fromkeys(self.commands)],
            hardware=hardware('cpu'),
            versions={name: distribution_of(name).version for name in packages},
            data=self.args.data,
            images=self.bench.images,
            inputs=self.bench.inputs,
            split=self.args.split,
            runs=self.runs,
        )
        write_atomic(self.file, json.dumps(content, indent=1) + '\n')
        write_atomic(self.file.with_suffix('.md'), '\n'.join(self.tables()) + '\n')

    def seeds_of(self, name: str) -> list[str]:
        """Return the seeds with a valid result, as text, in order."""
        seeds = sorted(self.runs.get(name, {}), key=int)
        return [seed for seed in seeds if self.finished(name, int(seed))]

    def row(self, name: str) -> dict:
        """Summarise a row over its seeds."""
        seeds = self.seeds_of(name)
        of_row = self.runs[name]
        summary = dict(
            name=name,
            title=self.bench.rows[name].title,
            seeds=[int(seed) for seed in seeds],
            mask_ap=[of_row[seed]['mask_ap'] for seed in seeds],
            mask_ap50=[of_row[seed]['mask_ap50'] for seed in seeds],
            iterations=self.iterations(name),
            labels=self.bench.rows[name].labels,
            minutes=[of_row[seed].get('minutes') for seed in seeds],
            params_m=of_row[seeds[0]]['params_m'],
            gflops=of_row[seeds[0]].get('gflops'),
            paper=self.bench.rows[name].paper,
        )
        over = self.bench.rows[name].against
        gain = self.gain(name, over) if over else []
        if gain:
            summary |= dict(against=over, gain=gain)
        return summary

    def gain(self, name: str, other: str) -> list[float]:
        """Return the difference of two rows, by seed."""
        both = set(self.seeds_of(name)) & set(self.seeds_of(other))
        return [
            round(self.runs[name][s]['mask_ap'] - self.runs[other][s]['mask_ap'], 3)
            for s in sorted(both, key=int)
        ]

    def regime(self) -> dict:
        """Return each condition with what was measured and whether it holds."""
        found = {}
        for title, (name, over, least, most) in self.bench.regime.items():
            values = (
                self.gain(name, over)
                if over
                else [self.runs[name][s]['mask_ap'] for s in self.seeds_of(name)]
            )
            if not values:
                continue
            mean = statistics.mean(values)
            holds = mean >= least if least is not None else mean < most
            bound = dict(least=least) if least is not None else dict(below=most)
            found[title] = dict(bound, mean=round(mean, 3), values=values, holds=holds)
        return found

    def tables(self) -> list[str]:
        """Return the tables as lines of Markdown."""
        lines = ['### The regime\n', '| condition | asked | measured | holds |']
        lines.append('|---|---|---|---|')
        for title, each in self.regime().items():
            least = each.get('least')
            asked = f'below {each["below"]}' if least is None else f'at least {least}'
            holds = 'yes' if each['holds'] else 'no'
            lines.append(f'| {title} | {asked} | {spread(each["values"])} | {holds} |')
        shown: set[str] = set()
        for title, names in self.bench.tables.values():
            finished = [name for name in names if self.seeds_of(name)]
            if shown.issuperset(finished):
                continue  # no row of its own
            shown.update(finished)
            rows = [self.row(name) for name in finished]
            lines += [
                f'\n### {title}\n',
                f'| {" | ".join(COLUMNS)} |',
                '|---' * len(COLUMNS) + '|',
            ]
            for row in rows:
                over = row.get('against')
                cells = [
                    row['title'],
                    spread(row['mask_ap']),
                    f'{statistics.mean(row["mask_ap50"]):.1f}',
                    spread(row['gain'], '+') if over else '',
                    self.bench.rows[over].title if over else '',
                    str(len(row['seeds'])),
                    str(row['iterations']),
                    '' if row['paper'] is None else str(row['paper']),
                ]
                lines.append(f'| {" | ".join(cells)} |')
            times = [minutes for row in rows for minutes in row['minutes']]
            known = [minutes for minutes in times if minutes is not None]
            if known:
                lines.append(
                    f'\n{len(known)} of {len(times)} runs took '
                    f'{sum(known) / 60:.1f} hours, with labelling.'
                )
        return lines


def minutes_since(start: float) -> float:
    return round((time.monotonic() - start) / 60, 1)


def spread(values: list[float], sign: str = '') -> str:
    """Return mean, lowest and highest of the values as text."""
    mean, low, high = statistics.mean(values), min(values), max(values)
    text = f'{mean:{sign}.1f}'
    return f'{text} ({low:.1f} to {high:.1f})' if len(values) > 1 else text


def content_of(
    bench: Bench, stage: str, options: dict[str, object] | None = None
) -> str:
    """Return what the runner gets of a stage's config, the same on every machine.

    Args:
        bench: The page.
        stage: The stage's name.
        options: Changes of the config. What they switch off is not in the result.
    """
    changed = copy.deepcopy(bench.config(stage))
    changed.merge_from_dict(options or {})
    config = changed.to_dict()
    # Logs and checkpoints along the way decide nothing.
    hooks = config['default_hooks'].items()
    config['default_hooks'] = {k: v for k, v in hooks if k not in KEEPING}
    read = sorted(config.keys() & inspect.signature(Runner).parameters.keys())
    return repr([(key, config[key]) for key in read]).replace(str(CONFIGS), '')
