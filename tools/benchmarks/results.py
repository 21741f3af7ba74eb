"""Measure what the methods gain, with several seeds.

    python tools/benchmarks/results.py --seeds 0 1 2 --jobs 2
    python tools/benchmarks/results.py --tables losses scores --seeds 0 1 2 --jobs 2
    python tools/benchmarks/results.py --data ccp --split test --seeds 0 1 2 --jobs 2

A seed has a folder in ``--out``: the draw of the labelled images and all trainings
come from the seed, and SynthScapes' images, too. The photographs (``--data ccp``) are
where tools/dataset_converters/ccp.py wrote them, in ``data/ccp``. Rows train through
``mim train mmdet`` and are evaluated through ``mim test mmdet``. If a row reads another
row's file, that one is trained first.

``results.json`` and ``results.md`` in ``--out`` are written after each run (with
``--rules teacher`` files of other names, from the same models). A later call continues
from there: it repeats a run only if configs, options, weights or data have changed, or
if another run needs its file and the file is gone or of other settings. If the
photographs change, it asks for another folder.

Settings are chosen on the other split than the published tables use: on
SynthScapes' ``test`` and the photographs' ``val``.
"""

import argparse
import copy
import functools
import inspect
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import photograph_rows
import results_rows
from mmengine.runner import Runner
from results_bench import CONFIGS, LABELLER, PSEUDO_LABELS, Bench
from runs import (
    count_gflops,
    count_parameters,
    digest,
    hardware,
    label_ap,
    mim,
    run_all,
)

from mmcast._requirements import distribution_of, mim_name
from mmcast.files import lock, write_atomic

BENCHES = {each.name: each for each in (results_rows.BENCH, photograph_rows.BENCH)}
KEY = 'key.txt'  # in a row's folder: the settings of its model
KEEPING = ('timer', 'logger', 'checkpoint', 'visualization')
# What the configs read from the environment; the rows give all of it by options.
SWITCHES = ('SPLIT', 'STUDENT', 'TEACHER')
COLUMNS = (
    *('row', 'mask AP', 'mask AP50', 'gain', 'over', 'seeds', 'iterations', 'paper'),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', choices=BENCHES, default='synthscapes')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--tables', nargs='+', default=[])
    parser.add_argument(
        '--rows', nargs='+', default=[], help='rows (default: table main)'
    )
    parser.add_argument(
        '--split', choices=['val', 'test'], default='val', help='evaluate on'
    )
    parser.add_argument(
        '--scale', type=float, default=1.0, help="factor on the students' iterations"
    )
    parser.add_argument(
        '--rules',
        choices=('stock', 'teacher'),
        default='stock',
        help="evaluate as CocoMetric, or as CAST's code evaluates its teacher",
    )
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument(
        '--out', type=Path, help='default: work_dirs/results[_ccp][_test]'
    )
    args = parser.parse_args()
    if args.out is None:
        folder = 'results' if args.data == 'synthscapes' else f'results_{args.data}'
        args.out = Path('work_dirs', folder + '_test' * (args.split == 'test'))
    if args.data == 'ccp' and args.rules == 'teacher':
        parser.error(
            '--rules teacher needs class score and mask quality of each object: the '
            'detectors of --data ccp have one score'
        )
    bench = BENCHES[args.data]
    for given, known in ((args.tables, bench.tables), (args.rows, bench.rows)):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f'{unknown[0]!r} is none of {", ".join(known)}')
    return args


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
            *(self.key(read, seed, rules) for read in row.reads.values()),
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
        gain = self.gain(name)
        if gain:
            summary |= dict(against=self.bench.rows[name].against, gain=gain)
        return summary

    def gain(self, name: str) -> list[float]:
        """Return the difference to the row that it is compared with, by seed."""
        other = self.bench.rows[name].against
        if other is None:
            return []
        both = set(self.seeds_of(name)) & set(self.seeds_of(other))
        return [
            round(self.runs[name][s]['mask_ap'] - self.runs[other][s]['mask_ap'], 3)
            for s in sorted(both, key=int)
        ]

    def regime(self) -> dict:
        """Return each condition with what was measured and whether it holds."""
        found = {}
        for title, (name, least, most) in self.bench.regime.items():
            values = self.gain(name)
            if not self.bench.rows[name].against:
                values = [self.runs[name][s]['mask_ap'] for s in self.seeds_of(name)]
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


def labels_of(results: Results, name: str, seed: int, views: bool) -> Path:
    """Return the folder of a teacher's labels."""
    return results.folder(name, seed) / ('merged_labels' if views else 'pseudo_labels')


def train(results: Results, name: str, seed: int) -> None:
    """Train a row through ``mim train mmdet``.

    Raises:
        RuntimeError: It failed; the message names its log.
    """
    bench, folder = results.bench, results.folder(name, seed)
    row = bench.rows[name]
    results.left(name, seed).unlink(missing_ok=True)  # before its key
    shutil.rmtree(folder, ignore_errors=True)
    write_atomic(folder / KEY, results.key(name, seed, 'stock'))
    if row.config is None:
        if not row.reads:
            (start,) = bench.starts[row.judge]
            shutil.copy(start, folder / row.file)
        return
    iterations = results.iterations(name)
    options = {
        'randomness.seed': seed,
        'train_cfg.max_iters': iterations,
        'default_hooks.checkpoint.save_last': False,
        **row.options,
        **{key: results.left(read, seed) for key, read in row.reads.items()},
    }
    if LABELLER in row.reads:
        teacher = row.reads[LABELLER]
        judge = bench.path(bench.rows[teacher].judge)
        options['default_hooks.pseudo_labels.config'] = judge
        store = labels_of(results, teacher, seed, row.views)
        options[f'{PSEUDO_LABELS}store'] = store
    if row.config.startswith('guided'):
        update = bench.config(row.config).default_hooks.teacher_update
        factor = row.share * results.scale_of(name)
        # The switch, and the average's memory, keep their share of the run.
        changes = dict(
            burn_in_iters=int(update.burn_in_iters * factor),
            momentum=max(0.0, 1 - (1 - update.momentum) / factor),
        )
        for key, value in changes.items():
            options.setdefault(f'default_hooks.teacher_update.{key}', value)
    given = [
        f'{key}={value}'.replace('{iterations}', str(iterations)).replace(
            '{seed}', str(seed)
        )
        for key, value in options.items()
    ]
    command = ('train', mim_name(), bench.path(row.config), '--work-dir', folder)
    command += ('--cfg-options', *given)
    mim(*command, log=folder / 'train.log', cwd=results.args.out / f'seed{seed}')


def evaluate(results: Results, name: str, seed: int) -> dict:
    """Evaluate a row through ``mim test mmdet``; return its metrics and its size.

    Raises:
        RuntimeError: It failed; the message names its log.
    """
    bench, folder, split = results.bench, results.folder(name, seed), results.args.split
    row = bench.rows[name]
    config, tested = bench.path(row.judge), folder / 'test'
    size = dict(
        params_m=round(count_parameters(config) / 1e6, 3),
        gflops=round(count_gflops(config, bench.image_size), 2),
    )
    options = bench.options(split)
    merged = row.views and row.config is None
    if merged or results.args.rules != 'stock':
        (read,) = row.reads.values() if merged else (name,)
        root = bench.config(row.judge).test_dataloader.dataset.data_root
        images = Path(root, str(options['test_dataloader.dataset.data_prefix.img']))
        store = folder / f'labels_of_{split}'
        label(results, read, seed, merged, ('--img-root', images), store)
        truth = Path(str(options['test_evaluator.ann_file']))
        of_seed = results.args.out / f'seed{seed}'
        return label_ap(store, of_seed / truth, results.args.rules) | size
    shutil.rmtree(tested, ignore_errors=True)
    command = ('test', mim_name(), config, '--checkpoint', results.left(name, seed))
    given = [f'{key}={value}' for key, value in options.items()]
    command += ('--work-dir', tested, '--cfg-options', *given)
    mim(*command, log=folder / 'test.log', cwd=results.args.out / f'seed{seed}')
    (metrics,) = tested.glob('*/*.json')
    found = json.loads(metrics.read_text())
    return dict(
        mask_ap=round(100 * found['coco/segm_mAP'], 2),
        mask_ap50=round(100 * found['coco/segm_mAP_50'], 2),
        **size,
    )


def label(
    results: Results,
    name: str,
    seed: int,
    views: bool,
    images: Sequence[object],
    store: Path,
) -> None:
    """Label images with a row's model.

    Raises:
        RuntimeError: It failed; it has said why.
    """
    bench = results.bench
    flags: list[object] = []
    if views:
        flags = ['--scales', *bench.views['scales']]
        flags += ['--flip'] if bench.views['flip'] else []
    script = [
        *('-m', 'mmcast', 'label', bench.path(bench.rows[name].judge)),
        *(results.left(name, seed), *images, '--num-workers', 0),
        *('--store', store, *flags),
    ]
    log = store.with_suffix('.log')
    with log.open('w') as file:
        done = subprocess.run(
            [sys.executable, *map(str, script)],
            cwd=results.args.out / f'seed{seed}',
            # One thread, as trainings have: jobs share the cores.
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            stdout=file,
            stderr=subprocess.STDOUT,
            close_fds=False,  # it holds the lock, too
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f'labelling failed; the whole output is in {log}')


Job = tuple[str, str, int]


def main() -> None:
    args = parse_args()
    for name in SWITCHES:
        os.environ.pop(name, None)
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / 'lock').open('wb') as file:
        if lock(file) is False:
            sys.exit(
                f'error: another call, or a training of a killed one, works in '
                f'{args.out}: wait for it, or give another folder as --out'
            )
        os.set_inheritable(file.fileno(), True)
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Make the runs that are missing, and show the tables."""
    results = Results(args)
    bench = results.bench
    tables = args.tables or ([] if args.rows else ['main'])
    names = [name for table in tables for name in bench.tables[table][1]] + args.rows
    todo: list[Job] = []
    # Seeds are the outer loop: after an early stop, all rows have equally many.
    for seed in args.seeds:
        runs = results.todo(names, seed)
        todo += [('data', '', seed)] if runs else []
        for name in runs:
            # No two students label the same images at once.
            todo += [job for job in labelling(bench, name, seed) if job not in todo]
            todo.append(('train', name, seed))

    def work(kind: str, name: str, seed: int) -> None:
        start = time.monotonic()
        if kind == 'data':
            bench.make_data(args.out / f'seed{seed}', seed)
        elif kind == 'train':
            # Other rules judge the same models.
            if args.rules == 'stock' or not results.has_model(name, seed):
                train(results, name, seed)
            found = evaluate(results, name, seed)
            results.add(name, seed, found | dict(minutes=minutes_since(start)))
        else:
            views = kind == 'merged labels'
            images = [each.format(seed=seed) for each in bench.unlabeled]
            store = labels_of(results, name, seed, views)
            label(results, name, seed, views, images, store)
            results.add_minutes(name, seed, start)

    run_all('results', todo, work, args.jobs, functools.partial(needs, bench))
    results.write()
    print(results.file.with_suffix('.md').read_text())


def labelling(bench: Bench, name: str, seed: int) -> list[Job]:
    """Return the jobs that make the labels a row learns from."""
    row = bench.rows[name]
    if LABELLER not in row.reads:
        return []
    return [('merged labels' if row.views else 'labels', row.reads[LABELLER], seed)]


def needs(bench: Bench, kind: str, name: str, seed: int) -> list[Job]:
    """Return the jobs that must have ended before another one starts."""
    if kind == 'data':
        return []
    before = [('data', '', seed)]
    if kind != 'train':
        return [*before, ('train', name, seed)]
    before += [('train', read, seed) for read in bench.rows[name].reads.values()]
    return before + labelling(bench, name, seed)


if __name__ == '__main__':
    main()
