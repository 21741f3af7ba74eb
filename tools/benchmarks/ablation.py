"""Run ablations on SynthScapes: which parts of a method matter, and which method.

    make quickstart                               # makes data, teacher, pseudo-labels
    python tools/benchmarks/ablation.py --seeds 0 1 2 --jobs 2

It trains every variant with every seed through ``mim train mmdet`` and evaluates it
through ``mim test mmdet``. All have the same number of iterations, except ``refined``,
which adds some to a distilled student. If a variant starts from another variant's
model, it trains the other one first. It repeats a finished run only if configs,
options, weights or data have changed: their digest is part of the run's name. So an
interrupted call continues. After each run it writes ``ablation.json``
and ``ablation.md`` in ``--out`` from all finished runs.
"""

import argparse
import json
import shlex
import shutil
import statistics
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine import Config

from mmcast.utils import write_atomic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from runs import digest, hardware, mim, once, run_all

REPO = Path(__file__).resolve().parents[2]
CONFIGS = REPO / 'configs' / 'mmcast'
CONTRAST = 'model.student.pixel_contrast.'
STUDENT = CONFIGS / 'weights' / 'synthscapes_student.pth'
TEACHER = Path('work_dirs/adapt_synthscapes/teacher.pth')
DATA = Path('data/synthscapes/target')


@dataclass(frozen=True)
class Variant:
    """A row of a table: a config, the options changed in it, and the paper's mask AP.

    ``start`` names another variant: ``{start}`` in the options is its student's file.
    ``share`` is the part of the iterations.
    """

    title: str
    config: str = 'distill'
    options: dict[str, object] = field(default_factory=dict)
    paper: float | None = None
    start: str | None = None
    share: float = 1.0


NO_CONTRAST = {'model.student.pixel_contrast': None}
RESEARCH_CODE = {
    f'{CONTRAST}preset': 'research_code',
    f'{CONTRAST}loss.temperature.start': 0.3,
    f'{CONTRAST}loss.temperature.end': 0.07,
    f'{CONTRAST}loss.temperature.iters': '{iterations}',
}
# Switch and memory have the published share of the run: 50k and 2.5k of 90k iterations.
GUIDED = {
    'default_hooks.teacher_update.burn_in_iters': '{switch}',
    'default_hooks.teacher_update.momentum': '{momentum}',
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
    'both': Variant('+ both: CAST, distilled', 'distill', {}, 32.2),
    'uniform': Variant('uniform', 'distill', score('uniform'), 29.4),
    'mask': Variant('mask only', 'distill', score('mask'), 30.6),
    'class': Variant('class only', 'distill', score('class'), 31.1),
    'sampled': Variant(
        'default, sampled', 'distill', {f'{CONTRAST}loss.negatives': 'sampled'}
    ),
    'paper': Variant('preset paper', 'distill', {f'{CONTRAST}preset': 'paper'}),
    'research_code': Variant('preset research_code', 'distill', RESEARCH_CODE),
    'unguided': Variant(
        'Guided Distillation without guidance',
        'guided_distillation/distill',
        {
            **GUIDED,
            'default_hooks.teacher_update.guided': False,
            'model.teacher.checkpoint': None,
        },
    ),
    'guided': Variant(
        'Guided Distillation',
        'guided_distillation/distill',
        {**GUIDED, 'model.teacher.checkpoint': '{start}'},
        30.8,
        start='baseline',
    ),
    'refined': Variant(
        'CAST, refined',
        'finetune',
        {'load_from': '{start}'},
        33.9,
        start='both',
        share=80 / 2500,
    ),
}
TABLES = {
    'Losses (the paper: Table 2, Cityscapes 10 %, student)': (
        *('supervised', 'baseline', 'semi', 'pixel', 'both'),
    ),
    'Scores of negatives (the paper: Table 4); fused is the default': (
        *('semi', 'uniform', 'mask', 'class', 'both'),
    ),
    'Negatives and presets': ('both', 'sampled', 'paper', 'research_code'),
    'Methods (the paper: Table 1, Cityscapes 10 %)': (
        *('supervised', 'baseline', 'unguided', 'guided', 'both', 'refined'),
    ),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--variants', nargs='+', choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument('--iterations', type=int, default=300)
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/ablation'))
    return parser.parse_args()


def digest_inputs(key: str) -> str:
    """Return the digest of a variant's inputs, without the code."""
    variant = VARIANTS[key]
    config = Config.fromfile(CONFIGS / f'{variant.config}_synthscapes.py')
    data = [*DATA.glob('annotations/*.json'), *DATA.glob('splits/*.txt')]
    text = config.pretty_text.replace(str(REPO), '') + repr(variant.options)
    if variant.start:
        text += digest_inputs(variant.start)
    return digest(text, STUDENT, TEACHER, *sorted(data))


def run(key: str, seed: int, args: argparse.Namespace) -> dict:
    """Train and evaluate one variant with one seed, or return its earlier result.

    Raises:
        RuntimeError: A command failed; the message names its log.
    """
    folder = place(key, seed, args)

    def train_and_test() -> dict:
        shutil.rmtree(folder, ignore_errors=True)
        variant = VARIANTS[key]
        iterations = max(1, round(variant.share * args.iterations))
        options = {
            'randomness.seed': seed,
            'train_cfg.max_iters': iterations,
            'default_hooks.checkpoint.save_last': False,
            **variant.options,
        }
        values = dict(
            iterations=iterations,
            switch=iterations * 5 // 9,
            momentum=max(0.0, 1 - 36 / iterations),
            start=variant.start and place(variant.start, seed, args) / 'student.pth',
        )
        given = [f'{name}={value}'.format(**values) for name, value in options.items()]
        config = CONFIGS / f'{variant.config}_synthscapes.py'
        command = ('train', 'mmdet', config, '--work-dir', folder)
        mim(*command, '--cfg-options', *given, log=folder / 'train.log')
        tested = folder / 'test'
        command = ('test', 'mmdet', CONFIGS / 'supervised_synthscapes.py')
        command += ('--checkpoint', folder / 'student.pth', '--work-dir', tested)
        mim(*command, log=folder / 'test.log')
        (metrics,) = tested.glob('*/*.json')
        found = json.loads(metrics.read_text())
        return dict(
            mask_ap=100 * found['coco/segm_mAP'],
            mask_ap50=100 * found['coco/segm_mAP_50'],
        )

    return once(folder / 'result.json', args.inputs[key], train_and_test)


def place(key: str, seed: int, args: argparse.Namespace) -> Path:
    """Return the folder of a run."""
    return args.out / f'{key}_{args.iterations}_{seed}_{args.inputs[key][:8]}'


def summarise(key: str, runs: list[dict]) -> dict:
    """Summarise a variant over its seeds, with the paper's mask AP."""
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
    """Write both files from the results so far."""
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
    content = made | dict(variants=variants, runs=results)
    write_atomic(args.out / 'ablation.json', json.dumps(content, indent=2) + '\n')
    lines = [
        f'`{made["command"].strip()}` on {made["hardware"]}: {args.iterations} '
        'iterations a run.\n'
    ]
    for title, keys in TABLES.items():
        rows = [variants[key] for key in keys if key in variants]
        if not rows:
            continue
        lines += [
            f'### {title}\n',
            '| variant | mask AP | spread | mask AP50 | seeds | paper |',
            '|---|---|---|---|---|---|',
        ]
        for row in rows:
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
    starts = {VARIANTS[key].start for key in args.variants} - {None}
    variants = [key for key in VARIANTS if key in {*args.variants, *starts}]
    args.inputs = {key: digest_inputs(key) for key in variants}
    # Seeds are the outer loop: after an early stop, all variants have equally many.
    todo = [(key, seed) for seed in args.seeds for key in variants]
    results: dict[str, dict[int, dict]] = {}
    lock = threading.Lock()

    def work(key: str, seed: int, submitted: dict[tuple, Future]) -> None:
        start = VARIANTS[key].start
        if start:
            submitted[start, seed].result()  # submitted earlier, so it will end
        result = run(key, seed, args)
        with lock:
            results.setdefault(key, {})[seed] = result
            report(results, args)

    run_all('ablation', todo, work, args.jobs)
    print((args.out / 'ablation.md').read_text())


if __name__ == '__main__':
    main()
