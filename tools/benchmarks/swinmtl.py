"""Run SwinMTL's ablations on SynthScapes, and test one model under two protocols.

    make quickstart METHOD=swinmtl                # makes the data
    python tools/benchmarks/swinmtl.py --seeds 0 1 2 --jobs 2

It trains every variant with every seed through ``mim train mmdet`` and evaluates it
through ``mim test mmdet``. Each differs from the first in one thing. SimMIM trains its
encoder once, with the first seed. The last variant is trained as the research code
does and tested twice: with its labels and depth, and with Cityscapes' classes and
metres.

It repeats a finished run only if configs or options have changed. After each run it
writes ``swinmtl.json`` and ``swinmtl.md`` in ``--out`` from all finished runs.
"""

import argparse
import json
import shlex
import shutil
import statistics
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from mmengine import Config
from runs import digest, hardware, mim, once, run_all

from mmcast._requirements import mim_name
from mmcast.files import write_atomic

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'mmcast' / 'swinmtl'
DATA = Path('data/synthscapes/target')
# Columns of the table: names in mmengine's results.
COLUMNS = {
    'mIoU': 'mIoU',
    'depth/abs_rel': 'abs rel',
    'depth/rmse': 'RMSE (m)',
    'depth/d1': 'd1',
    'per_image/mIoU': 'per-image mIoU',
}
RESEARCH_CODE = {'PRESET': 'research_code'}


@dataclass(frozen=True)
class Variant:
    """A row of the table: a config, the options changed in it, and its switches.

    ``{encoder}`` in the options is the file of the pre-trained encoder. ``test`` are
    the options of the test if it is not the training's config that is tested.
    """

    title: str
    options: dict[str, object] = field(default_factory=dict)
    config: str = 'synthscapes'
    switches: dict[str, str] = field(default_factory=dict)
    test: dict[str, object] | None = None


EPS = {'model.depth_head.eps': 1e-8}  # the published 0 can give NaN
VARIANTS = {
    'default': Variant('SwinMTL'),
    'no_critic': Variant('no critic', {'model.critic': None}),
    'published_critic': Variant(
        'critic as published',
        {**EPS, 'model.preset': 'research_code', 'model.depth_head.cap_targets': True},
    ),
    'linear': Variant('linear depth', {'model.depth_head.log_depth': False}),
    'paste_mix': Variant(
        'paste-mixing', {'model.data_preprocessor.batch_augments.0.prob': 1.0}
    ),
    'depth_only': Variant('depth alone', {}, 'depth_only_synthscapes'),
    'segmentation_only': Variant('labels alone', {}, 'segmentation_only_synthscapes'),
    # Late, since it waits for its encoder.
    'simmim': Variant(
        'encoder pre-trained by SimMIM',
        {
            'model.backbone.init_cfg.type': 'Pretrained',
            'model.backbone.init_cfg.checkpoint': '{encoder}',
        },
    ),
    'research_code': Variant(
        "preset research_code, the code's protocol", EPS, switches=RESEARCH_CODE
    ),
    'true_protocol': Variant(
        'the same model, true protocol',
        EPS,
        switches=RESEARCH_CODE,
        test={
            'model.preset': 'research_code',
            'model.seg_head.num_classes': 20,
            'model.test_cfg.classes': 19,  # the last one is void
            # The code was encoded from 1e-4 m, so this gives metres.
            'model.depth_head.depth_range': '[1e-4,80.0]',
        },
    ),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--variants', nargs='+', choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument('--iterations', type=int, default=400)
    parser.add_argument('--pretrain', type=int, default=1000, help='steps of SimMIM')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/swinmtl_ablation'))
    return parser.parse_args()


def train(
    config: str, folder: Path, seed: int, options: dict, switches: dict[str, str]
) -> None:
    """Run ``mim train``.

    Raises:
        RuntimeError: It failed; the message names its log.
    """
    shutil.rmtree(folder, ignore_errors=True)
    given = {
        'randomness.seed': seed,
        'default_hooks.checkpoint.save_last': False,
        **options,
    }
    words = ['train', mim_name(), CONFIGS / f'{config}.py', '--work-dir', folder]
    words += ['--cfg-options', *(f'{name}={value}' for name, value in given.items())]
    mim(*words, log=folder / 'train.log', switches=switches)


def pretrain(args: argparse.Namespace) -> Path:
    """Train the encoder with SimMIM, or find it; return its file."""
    folder = args.out / f'simmim_{args.pretrain}_{args.key[:8]}'
    seed = args.seeds[0]
    options = {
        'train_cfg.max_iters': args.pretrain,
        'param_scheduler.T_max': args.pretrain,
    }

    def action() -> dict:
        train('pretrain_synthscapes', folder, seed, options, {})
        return {}

    once(folder / 'result.json', f'{args.key} {seed}', action)
    return folder / 'backbone.pth'


def run(key: str, seed: int, args: argparse.Namespace) -> dict:
    """Train and test one variant with one seed, or return its earlier result."""
    variant = VARIANTS[key]
    trained = 'research_code' if key == 'true_protocol' else key
    folder = args.out / f'{trained}_{args.iterations}_{seed}_{args.key[:8]}'
    encoder = args.out.resolve() / f'simmim_{args.pretrain}_{args.key[:8]}/backbone.pth'
    options = {
        name: value.format(encoder=encoder) if isinstance(value, str) else value
        for name, value in variant.options.items()
    }

    def action() -> dict:
        if trained == key:
            length = {'train_cfg.max_iters': args.iterations}
            train(variant.config, folder, seed, {**length, **options}, variant.switches)
        config, given, switches = variant.config, options, variant.switches
        if variant.test is not None:
            given, switches = variant.test, {}
        tested = folder / f'test_{key}'
        shutil.rmtree(tested, ignore_errors=True)
        words = ['test', mim_name(), CONFIGS / f'{config}.py', '--work-dir', tested]
        words += ['--checkpoint', folder / 'model.pth']
        if given:
            words += ['--cfg-options']
            words += [f'{name}={value}' for name, value in given.items()]
        mim(*words, log=folder / f'test_{key}.log', switches=switches)
        (metrics,) = tested.glob('*/*.json')
        found = json.loads(metrics.read_text())
        return {name: found[name] for name in COLUMNS if name in found}

    return once(folder / f'{key}.json', f'{args.key} {options} {variant.test}', action)


def report(results: dict[str, dict[int, dict]], args: argparse.Namespace) -> None:
    """Write both files from the results so far."""
    command = f'python tools/benchmarks/swinmtl.py {shlex.join(sys.argv[1:])}'.strip()
    made = dict(
        command=command,
        hardware=hardware('cpu'),
        iterations=args.iterations,
        pretrain=args.pretrain,
        runs=results,
    )
    write_atomic(args.out / 'swinmtl.json', json.dumps(made, indent=2) + '\n')
    lines = [
        f'`{command}` on {made["hardware"]}: {args.iterations} iterations a run; mean '
        'and range over seeds.\n',
        '| variant | ' + ' | '.join(COLUMNS.values()) + ' | seeds |',
        '|---' * (len(COLUMNS) + 2) + '|',
    ]
    for key, variant in VARIANTS.items():
        runs = list(results.get(key, {}).values())
        if not runs:
            continue
        cells = []
        for name in COLUMNS:
            values = [each[name] for each in runs if name in each]
            digits = 1 if name.endswith('mIoU') else 3
            cells.append(
                f'{statistics.mean(values):.{digits}f} '
                f'({min(values):.{digits}f} to {max(values):.{digits}f})'
                if values
                else ''
            )
        lines.append(f'| {variant.title} | ' + ' | '.join(cells) + f' | {len(runs)} |')
    write_atomic(args.out / 'swinmtl.md', '\n'.join([*lines, '']))


def main() -> None:
    args = parse_args()
    if not DATA.is_dir():
        sys.exit(
            f'error: {DATA} is missing; make it with: make quickstart METHOD=swinmtl'
        )
    configs = sorted(CONFIGS.glob('*synthscapes.py'))
    args.key = digest(*(Config.fromfile(path).pretty_text for path in configs))
    wanted = {*args.variants}
    if 'true_protocol' in wanted:
        wanted.add('research_code')
    pretraining = [('pretrain', args.seeds[0])] if 'simmim' in wanted else []
    # Seeds are the outer loop: after an early stop, all variants have equally many.
    todo = [(key, seed) for seed in args.seeds for key in VARIANTS if key in wanted]
    results: dict[str, dict[int, dict]] = {}
    lock = threading.Lock()

    def needs(key: str, seed: int) -> list[tuple]:
        if key == 'true_protocol':
            return [('research_code', seed)]
        return pretraining if key == 'simmim' else []

    def work(key: str, seed: int) -> None:
        if key == 'pretrain':
            pretrain(args)
            return
        result = run(key, seed, args)
        with lock:
            results.setdefault(key, {})[seed] = result
            report(results, args)

    run_all('SwinMTL', [*pretraining, *todo], work, args.jobs, needs)
    print((args.out / 'swinmtl.md').read_text())


if __name__ == '__main__':
    main()
