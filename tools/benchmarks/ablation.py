"""Which parts of the method matter: the paper's ablations on SynthScapes.

    make quickstart                               # makes data, teacher, pseudo-labels
    python tools/benchmarks/ablation.py --seeds 0 1 2 --jobs 2

Trains every variant with every seed through ``mim train mmdet`` and evaluates it
through ``mim test mmdet``; all else is equal, the number of iterations included. A run
that is done is not repeated, so an interrupted call goes on where it was, unless its
configs, weights or data have changed: their digest is part of a run's name. Leaves
``ablation.json`` and ``ablation.md`` in ``--out``, made anew after each run from what
is done.
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine import Config
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from mmcast.utils import digest, hardware, write_atomic

REPO = Path(__file__).resolve().parents[2]
CONFIGS = REPO / 'configs' / 'mmcast'
CONTRAST = 'model.student.pixel_contrast.'
STUDENT = CONFIGS / 'weights' / 'synthscapes_student.pth'
TEACHER = Path('work_dirs/adapt_synthscapes/teacher.pth')
DATA = Path('data/synthscapes/target')


@dataclass(frozen=True)
class Variant:
    """A row of a table: a config, what is changed in it, and the paper's mask AP."""

    title: str
    config: str = 'distill'
    options: dict[str, object] = field(default_factory=dict)
    paper: float | None = None


NO_CONTRAST = {'model.student.pixel_contrast': None, 'model.student.strong_view': None}
AUTHOR = {
    f'{CONTRAST}preset': 'author',
    f'{CONTRAST}loss.temperature.start': 0.3,
    f'{CONTRAST}loss.temperature.end': 0.07,
    f'{CONTRAST}loss.temperature.iters': '{iterations}',
}


def score(name: str) -> dict[str, object]:
    return {f'{CONTRAST}loss.score': name}


VARIANTS = {
    'supervised': Variant(
        'labels alone, half of each batch',
        'distill',
        {**NO_CONTRAST, 'model.semi_weight': 0.0},
        21.1,
    ),
    'baseline': Variant('labels alone, whole batches', 'supervised'),
    'semi': Variant('+ pseudo-labels', 'distill', NO_CONTRAST, 30.7),
    'pixel': Variant('+ pixel loss', 'distill', {'model.semi_weight': 0.0}, 27.5),
    'both': Variant('+ both (the default)', 'distill', {}, 32.2),
    'uniform': Variant('uniform', 'distill', score('uniform'), 29.4),
    'mask': Variant('mask only', 'distill', score('mask'), 30.6),
    'class': Variant('class only', 'distill', score('class'), 31.1),
    'sampled': Variant(
        'default, sampled', 'distill', {f'{CONTRAST}loss.negatives': 'sampled'}
    ),
    'paper': Variant('preset paper', 'distill', {f'{CONTRAST}preset': 'paper'}),
    'author': Variant('preset author', 'distill', AUTHOR),
}
TABLES = {
    'Losses (the paper: Table 2, Cityscapes 10 %, student)': (
        *('supervised', 'baseline', 'semi', 'pixel', 'both'),
    ),
    'Scores of negatives (the paper: Table 4); fused is the default': (
        *('semi', 'uniform', 'mask', 'class', 'both'),
    ),
    'Negatives and presets': ('both', 'sampled', 'paper', 'author'),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--variants', nargs='+', choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument('--iterations', type=int, default=700)
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/ablation'))
    return parser.parse_args()


def digest_inputs(name: str) -> str:
    """SHA-256 of what a run of a config depends on, but its options and the code."""
    config = Config.fromfile(CONFIGS / f'{name}_synthscapes.py')
    data = [*DATA.glob('annotations/*.json'), *DATA.glob('splits/*.txt')]
    files = digest(STUDENT, TEACHER, *sorted(data))
    text = config.pretty_text.replace(str(REPO), '') + files
    return hashlib.sha256(text.encode()).hexdigest()


def run(key: str, seed: int, args: argparse.Namespace) -> dict:
    """Train and evaluate one variant with one seed, unless that is done.

    Raises:
        RuntimeError: A command failed; the message names its log.
    """
    variant = VARIANTS[key]
    folder = (
        args.out / f'{key}_{args.iterations}_{seed}_{args.inputs[variant.config][:8]}'
    )
    done = folder / 'result.json'
    if done.is_file():
        return json.loads(done.read_text())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = {
        'randomness.seed': seed,
        'train_cfg.max_iters': args.iterations,
        'param_scheduler.0.end': args.iterations,
        'default_hooks.checkpoint.save_last': False,
        **variant.options,
    }
    given = [
        f'{name}={value}'.format(iterations=args.iterations)
        for name, value in options.items()
    ]
    train = CONFIGS / f'{variant.config}_synthscapes.py'
    test = CONFIGS / 'supervised_synthscapes.py'
    student, tested = folder / 'student.pth', folder / 'test'
    for command in (
        ['train', 'mmdet', train, '--work-dir', folder, '--cfg-options', *given],
        ['test', 'mmdet', test, '--checkpoint', student, '--work-dir', tested],
    ):
        call([str(part) for part in command], folder / f'{command[0]}.log')
    (metrics,) = tested.glob('*/*.json')
    found = json.loads(metrics.read_text())
    result = dict(
        mask_ap=100 * found['coco/segm_mAP'], mask_ap50=100 * found['coco/segm_mAP_50']
    )
    student.unlink()
    write_atomic(done, json.dumps(result) + '\n')
    return result


def call(command: list[str], log: Path) -> None:
    program = str(Path(sys.executable).with_name('mim'))
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    with log.open('w') as file:
        code = subprocess.run(
            [program, *command], stdout=file, stderr=subprocess.STDOUT, env=env
        ).returncode
    if code:
        raise RuntimeError(f'"mim {shlex.join(command)}" failed, see {log}')


def summarise(key: str, runs: list[dict]) -> dict:
    """A variant over its seeds, beside the paper's mask AP."""
    ap = [each['mask_ap'] for each in runs]
    return dict(
        title=VARIANTS[key].title,
        mask_ap=statistics.mean(ap),
        spread=[min(ap), max(ap)],
        mask_ap50=statistics.mean(each['mask_ap50'] for each in runs),
        seeds=len(runs),
        paper=VARIANTS[key].paper,
    )


def report(results: dict[str, dict[int, dict]], args: argparse.Namespace) -> None:
    """Write both tables from the results that there are."""
    variants = {
        key: summarise(key, list(results[key].values()))
        for key in VARIANTS
        if key in results
    }
    made = dict(
        command=f'python tools/benchmarks/ablation.py {shlex.join(sys.argv[1:])}',
        hardware=hardware('cuda' if torch.cuda.is_available() else 'cpu'),
        iterations=args.iterations,
        inputs=args.inputs,
    )
    inputs = ', '.join(f'{name} {sha[:8]}' for name, sha in args.inputs.items())
    content = made | dict(variants=variants, runs=results)
    write_atomic(args.out / 'ablation.json', json.dumps(content, indent=2) + '\n')
    lines = [
        f'`{made["command"].strip()}` on {made["hardware"]}: {args.iterations} '
        f'iterations a run. SHA-256 of configs, weights and data: {inputs}.\n'
    ]
    for title, keys in TABLES.items():
        lines += [
            f'### {title}\n',
            '| variant | mask AP | spread | mask AP50 | seeds | paper |',
            '|---|---|---|---|---|---|',
        ]
        for row in (variants[key] for key in keys if key in variants):
            low, high = row['spread']
            paper = '' if row['paper'] is None else row['paper']
            lines.append(
                f'| {row["title"]} | {row["mask_ap"]:.2f} | {low:.1f} to {high:.1f} '
                f'| {row["mask_ap50"]:.1f} | {row["seeds"]} | {paper} |'
            )
        lines.append('')
    write_atomic(args.out / 'ablation.md', '\n'.join(lines))


def main() -> None:
    args = parse_args()
    if not TEACHER.is_file():
        sys.exit(f'error: {TEACHER} is missing; make it with: make quickstart')
    names = sorted({VARIANTS[key].config for key in args.variants})
    args.inputs = {name: digest_inputs(name) for name in names}
    # Seeds outermost: stopped early, every variant has as many.
    todo = [(key, seed) for seed in args.seeds for key in args.variants]
    results: dict[str, dict[int, dict]] = {}
    lock = threading.Lock()
    bar = Progress(
        TextColumn('ablation'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with bar, ThreadPoolExecutor(args.jobs) as pool:
        task = bar.add_task('', total=len(todo))

        def work(key: str, seed: int) -> None:
            result = run(key, seed, args)
            with lock:
                results.setdefault(key, {})[seed] = result
                report(results, args)
            bar.advance(task)

        jobs = [pool.submit(work, *each) for each in todo]
        try:
            for job in jobs:
                job.result()
        except BaseException as error:
            for job in jobs:
                job.cancel()
            if isinstance(error, RuntimeError):
                sys.exit(f'error: {error}')
            raise
    print((args.out / 'ablation.md').read_text())


if __name__ == '__main__':
    main()
