"""Measure what the methods gain on SynthScapes, with several seeds.

    python tools/benchmarks/results.py --seeds 0 1 2 --jobs 2
    python tools/benchmarks/results.py --tables losses scores --seeds 0 1 2 --jobs 2

A seed has a folder in ``--out``, laid out as the quickstart's: images, the draw of the
labelled ones and all trainings come from the seed. Rows train through ``mim train
mmdet`` and are evaluated through ``mim test mmdet``. If a row reads another row's
file, that one is trained first.

``results.json`` and ``results.md`` in ``--out`` are written after each run. A later
call continues from ``results.json``: it repeats a run only if configs, options, weights
or data have changed, or if another run needs its file and the file is gone.

Settings are chosen on ``--split test``, images that no published table uses.
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
from concurrent.futures import Future
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from results_rows import IMAGES, LABELLER, MORE_LABELS, ROWS, TABLES
from runs import (
    ANNOTATIONS,
    TOOLS,
    count_parameters,
    digest,
    hardware,
    make_synthscapes,
    mim,
    run_all,
)

from mmcast._requirements import distribution_of, mim_name
from mmcast.datasets.synthscapes.generate import GENERATOR_VERSION
from mmcast.files import write_atomic

CONFIGS = TOOLS.parent / 'configs' / 'mmcast'
FOUNDATION = CONFIGS / 'weights' / 'synthscapes_teacher.pth'
STUDENT = CONFIGS / 'weights' / 'synthscapes_student.pth'
DATA = Path('data/synthscapes/target')
KEEPING = ('timer', 'logger', 'checkpoint', 'visualization')
COLUMNS = (
    *('row', 'mask AP', 'mask AP50', 'gain', 'over', 'seeds', 'iterations', 'paper'),
)
# What must hold before methods are compared: a row's gain, and its bounds.
REGIME = {
    'oracle student over adapted teacher': ('oracle_student', 5.0, None),
    'supervised student, twice as long': ('supervised_student_twice', None, 0.5),
    'adapted teacher over zero-shot': ('adapted_teacher', 5.0, None),
    'zero-shot teacher': ('zero_shot_teacher', 15.0, None),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--tables', nargs='+', choices=TABLES, default=[])
    parser.add_argument(
        '--rows', nargs='+', choices=ROWS, default=[], help='rows (default: table main)'
    )
    parser.add_argument(
        '--split', choices=['val', 'test'], default='val', help='evaluate on'
    )
    parser.add_argument(
        '--scale', type=float, default=1.0, help="factor on the students' iterations"
    )
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument(
        '--out', type=Path, help='default: work_dirs/results, or results_test for test'
    )
    args = parser.parse_args()
    if args.out is None:
        args.out = Path('work_dirs/results' + '_test' * (args.split == 'test'))
    return args


def command_line(args: argparse.Namespace) -> str:
    """Return the command line, without what depends on the machine."""
    words = ['python', 'tools/benchmarks/results.py']
    for name in ('seeds', 'tables', 'rows', 'split', 'scale'):
        value = getattr(args, name)
        if value:
            each = value if isinstance(value, list) else [value]
            words += [f'--{name}', *map(str, each)]
    return shlex.join(words)


class Results:
    """All finished runs, in a file that a later call continues from."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.lock = threading.Lock()
        self.file = args.out / 'results.json'
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
        return self.folder(name, seed) / ROWS[name].file

    def iterations(self, name: str) -> int:
        """Return how long a row is trained."""
        row = ROWS[name]
        if row.config is None:
            return 0
        full = config_of(row.config).train_cfg.max_iters
        return max(1, round(full * row.share * self.scale_of(name)))

    def scale_of(self, name: str) -> float:
        """Return the factor on a row's iterations: teachers are trained in full."""
        return 1.0 if ROWS[name].judge == 'adapt' else self.args.scale

    def key(self, name: str, seed: int) -> str:
        """Return the digest of all inputs of a run, without the code."""
        row = ROWS[name]
        parts = [
            repr((IMAGES, MORE_LABELS, GENERATOR_VERSION, seed, self.args.split)),
            repr(self.iterations(name)),
            content_of(row.judge),
            *(self.key(read, seed) for read in row.reads.values()),
        ]
        if row.config:
            parts.append(content_of(row.config, row.options))
        return digest(*parts, FOUNDATION if row.judge == 'adapt' else STUDENT)

    def finished(self, name: str, seed: int) -> bool:
        """Return whether the result of a run is known."""
        found = self.runs.get(name, {}).get(str(seed))
        return found is not None and found['key'] == self.key(name, seed)

    def todo(self, names: list[str], seed: int) -> list[str]:
        """Return the runs that are needed, in the order of :data:`ROWS`."""
        needed: set[str] = set()

        def visit(name: str, as_input: bool) -> None:
            ready = not as_input or self.left(name, seed).is_file()
            if name in needed or (ready and self.finished(name, seed)):
                return
            needed.add(name)
            for read in ROWS[name].reads.values():
                visit(read, as_input=True)

        for name in names:
            visit(name, as_input=False)
        return [name for name in ROWS if name in needed]

    def add(self, name: str, seed: int, result: dict) -> None:
        """Store a result and write both files."""
        with self.lock:
            found = dict(result, key=self.key(name, seed))
            self.runs.setdefault(name, {})[str(seed)] = found
            self.write()

    def write(self) -> None:
        """Write ``results.json`` and ``results.md`` from the results so far."""
        rows = [self.row(name) for name in ROWS if self.seeds_of(name)]
        packages = ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmcast')
        content = dict(
            regime=self.regime(),
            rows=rows,
            commands=[*dict.fromkeys(self.commands)],
            hardware=hardware('cpu'),
            versions={name: distribution_of(name).version for name in packages},
            images=dict(IMAGES, generator_version=GENERATOR_VERSION),
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
            title=ROWS[name].title,
            seeds=[int(seed) for seed in seeds],
            mask_ap=[of_row[seed]['mask_ap'] for seed in seeds],
            mask_ap50=[of_row[seed]['mask_ap50'] for seed in seeds],
            iterations=self.iterations(name),
            params_m=of_row[seeds[0]]['params_m'],
            paper=ROWS[name].paper,
        )
        gain = self.gain(name)
        if gain:
            summary |= dict(against=ROWS[name].against, gain=gain)
        return summary

    def gain(self, name: str) -> list[float]:
        """Return the difference to the row that it is compared with, by seed."""
        other = ROWS[name].against
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
        for title, (name, least, most) in REGIME.items():
            values = self.gain(name) if ROWS[name].against else []
            if name == 'zero_shot_teacher':
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
        for title, names in TABLES.values():
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
                    ROWS[over].title if over else '',
                    str(len(row['seeds'])),
                    str(row['iterations']),
                    '' if row['paper'] is None else str(row['paper']),
                ]
                lines.append(f'| {" | ".join(cells)} |')
        return lines


def spread(values: list[float], sign: str = '') -> str:
    """Return mean, lowest and highest of the values as text."""
    mean, low, high = statistics.mean(values), min(values), max(values)
    text = f'{mean:{sign}.1f}'
    return f'{text} ({low:.1f} to {high:.1f})' if len(values) > 1 else text


@functools.cache
def config_of(stage: str) -> Config:
    """Return the parsed config of a stage."""
    return Config.fromfile(CONFIGS / f'{stage}_synthscapes.py')


def content_of(stage: str, options: dict[str, object] | None = None) -> str:
    """Return what the runner gets of a stage's config, the same on every machine.

    Args:
        stage: Its name.
        options: Changes of the config. What they switch off is not in the result.
    """
    changed = copy.deepcopy(config_of(stage))
    changed.merge_from_dict(options or {})
    config = changed.to_dict()
    # Logs and checkpoints along the way decide nothing.
    hooks = config['default_hooks'].items()
    config['default_hooks'] = {k: v for k, v in hooks if k not in KEEPING}
    read = sorted(config.keys() & inspect.signature(Runner).parameters.keys())
    return repr([(key, config[key]) for key in read]).replace(str(CONFIGS), '')


def make_data(root: Path, seed: int) -> None:
    """Make a seed's images and lists, unless they are complete.

    Raises:
        RuntimeError: A script failed.
    """
    data = root / DATA
    done = data / 'splits' / 'done'
    if done.is_file():
        return
    make_synthscapes(data, **IMAGES, more_labels=MORE_LABELS, seed=seed)
    done.touch()


def train(results: Results, name: str, seed: int) -> None:
    """Train a row through ``mim train mmdet``.

    Raises:
        RuntimeError: It failed; the message names its log.
    """
    row, folder = ROWS[name], results.folder(name, seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if row.config is None:
        shutil.copy(FOUNDATION, folder / row.file)
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
        config = CONFIGS / 'adapt_synthscapes.py'
        options['default_hooks.pseudo_labels.config'] = config
    if row.config.startswith('guided'):
        update = config_of(row.config).default_hooks.teacher_update
        switch = int(update.burn_in_iters * row.share * results.scale_of(name))
        options['default_hooks.teacher_update.burn_in_iters'] = switch
    given = [
        f'{key}={value}'.replace('{iterations}', str(iterations))
        for key, value in options.items()
    ]
    config = CONFIGS / f'{row.config}_synthscapes.py'
    command = ('train', mim_name(), config, '--work-dir', folder)
    command += ('--cfg-options', *given)
    mim(*command, log=folder / 'train.log', cwd=results.args.out / f'seed{seed}')


def evaluate(results: Results, name: str, seed: int) -> dict:
    """Evaluate a row through ``mim test mmdet``; return its metrics and its size.

    Raises:
        RuntimeError: It failed; the message names its log.
    """
    row, folder = ROWS[name], results.folder(name, seed)
    tested, split = folder / 'test', results.args.split
    shutil.rmtree(tested, ignore_errors=True)
    config = CONFIGS / f'{row.judge}_synthscapes.py'
    command = ('test', mim_name(), config, '--checkpoint', results.left(name, seed))
    options = {
        'test_dataloader.dataset.ann_file': ANNOTATIONS.format(split),
        'test_dataloader.dataset.data_prefix.img': f'leftImg8bit/{split}/',
        'test_evaluator.ann_file': DATA / ANNOTATIONS.format(split),
    }
    given = [f'{key}={value}' for key, value in options.items()]
    command += ('--work-dir', tested, '--cfg-options', *given)
    mim(*command, log=folder / 'test.log', cwd=results.args.out / f'seed{seed}')
    (metrics,) = tested.glob('*/*.json')
    found = json.loads(metrics.read_text())
    return dict(
        mask_ap=round(100 * found['coco/segm_mAP'], 2),
        mask_ap50=round(100 * found['coco/segm_mAP_50'], 2),
        params_m=round(count_parameters(config) / 1e6, 3),
    )


def label(results: Results, name: str, seed: int) -> None:
    """Label all training images with a teacher, so that no two students do.

    Raises:
        RuntimeError: It failed; it has said why.
    """
    checkpoint = results.left(name, seed)
    script = [
        *('-m', 'mmcast', 'label', CONFIGS / 'adapt_synthscapes.py'),
        *(checkpoint, '--img-root', 'leftImg8bit/train', '--num-workers', 0),
        *('--store', checkpoint.parent / 'pseudo_labels'),
    ]
    log = checkpoint.parent / 'label.log'
    with log.open('w') as file:
        done = subprocess.run(
            [sys.executable, *map(str, script)],
            cwd=results.args.out / f'seed{seed}' / DATA,
            # One thread, as trainings have: jobs share the cores.
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f'labelling failed; the whole output is in {log}')


def main() -> None:
    args = parse_args()
    results = Results(args)
    tables = args.tables or ([] if args.rows else ['main'])
    names = [name for table in tables for name in TABLES[table][1]] + args.rows
    todo: list[tuple[str, str, int]] = []
    # Seeds are the outer loop: after an early stop, all rows have equally many.
    for seed in args.seeds:
        runs = results.todo(names, seed)
        labelling = {ROWS[name].reads.get(LABELLER) for name in runs}
        todo += [('data', '', seed)] if runs else []
        for name in runs:
            todo.append(('train', name, seed))
        for name in labelling - {None}:
            after = [('train', name, seed), ('data', '', seed)]
            place = max(todo.index(each) for each in after if each in todo)
            todo.insert(place + 1, ('label', name, seed))

    def work(kind: str, name: str, seed: int, submitted: dict[tuple, Future]) -> None:
        # All of these were submitted earlier, so they end.
        for other in waits_for(kind, name, seed):
            if other in submitted:
                submitted[other].result()
        if kind == 'data':
            make_data(args.out / f'seed{seed}', seed)
        elif kind == 'label':
            label(results, name, seed)
        else:
            train(results, name, seed)
            results.add(name, seed, evaluate(results, name, seed))

    run_all('results', todo, work, args.jobs)
    results.write()
    print(results.file.with_suffix('.md').read_text())


def waits_for(kind: str, name: str, seed: int) -> list[tuple[str, str, int]]:
    """Return the jobs that must end before another one starts."""
    if kind == 'data':
        return []
    before = [('data', '', seed)]
    if kind == 'label':
        return [*before, ('train', name, seed)]
    for option, read in ROWS[name].reads.items():
        before.append(('train', read, seed))
        if option == LABELLER:
            before.append(('label', read, seed))
    return before


if __name__ == '__main__':
    main()
