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
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from results_bench import LABELLER, PSEUDO_LABELS, TAKE_OVER, Bench
from results_file import BENCHES, KEY, Results, minutes_since
from runs import (
    count_gflops,
    count_parameters,
    label_ap,
    mim,
    run_all,
)

from mmcast._requirements import mim_name
from mmcast.files import lock, write_atomic

# What the configs read from the environment; the rows give all of it by options.
SWITCHES = ('SPLIT', 'STUDENT', 'TEACHER')


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
        burn_in = row.options.get(TAKE_OVER, update.burn_in_iters)
        # The switch, and the average's memory, keep their share of the run.
        options[TAKE_OVER] = None if burn_in is None else int(burn_in * factor)
        momentum = max(0.0, 1 - (1 - update.momentum) / factor)
        options['default_hooks.teacher_update.momentum'] = momentum
        # A validation that decides about the switch is on other images than the result.
        other = {'val': 'test', 'test': 'val'}[results.args.split]
        for key, value in bench.options(other).items():
            options[key.replace('test_', 'val_', 1)] = value
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
