"""Does L_pxl help the composite teacher? A tiny one, adapted with it and without.

    OMP_NUM_THREADS=1 python tools/benchmarks/teacher_contrast.py --seeds 0 1 2

What stands for the foundation models is trained once, from random weights, on
SynthScapes' source domain: SAM 2 through ``adapt_sam2_cityscapes``, then Grounding-DINO
through ``adapt_cityscapes``. From these the detector is adapted to a few images of the
target domain, once a seed with the contrast and once without, all else equal, and boxes
and masks are evaluated on images that it has not seen.

What is done is not repeated, so an interrupted call goes on where it was; the digest of
a run's config and of the files it reads is part of its name. Leaves
``teacher_contrast.json`` and ``teacher_contrast.md`` in ``--out``, made anew after each
run from what is done.
"""

import argparse
import contextlib
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import Progress

from mmcast.datasets.cityscapes_to_coco import convert_split
from mmcast.datasets.splits import format_list
from mmcast.datasets.synthscapes import generate
from mmcast.testing import reduced, save_bert
from mmcast.utils import write_atomic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from runs import digest, hardware, once

SIZE = (96, 96)
TITLES = {'without': 'labels alone', 'with': '+ pixel loss'}
METRICS = {
    'box_ap': ('box AP', 'coco/bbox_mAP'),
    'box_ap50': ('box AP50', 'coco/bbox_mAP_50'),
    'mask_ap': ('mask AP', 'coco/segm_mAP'),
    'mask_ap50': ('mask AP50', 'coco/segm_mAP_50'),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--iterations', type=int, default=150)
    parser.add_argument(
        '--foundation',
        type=int,
        nargs=2,
        default=[1500, 1000],
        help='iterations that SAM 2 and the detector start with',
    )
    parser.add_argument(
        '--images',
        type=int,
        nargs=3,
        default=[300, 60, 100],
        help='of the source domain, of the target domain, and of it to evaluate on',
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/teacher_contrast'))
    return parser.parse_args()


def make_scenes(root: Path, domain: str, train: int, val: int) -> Path:
    """SynthScapes, small, with COCO files and a list of all training images."""
    splits = {'train': train, 'val': val}
    generate(root, splits, domain=domain, size=SIZE, workers=1, progress=False)
    for split in splits:
        convert_split(root, split)
    images = root / 'leftImg8bit' / 'train'
    names = sorted(str(path.relative_to(images)) for path in images.rglob('*.png'))
    write_atomic(root / 'splits' / 'labeled.txt', format_list(names))
    return root


def entry_point(
    name: str, scenes: Path, bert: Path, iterations: int, lr: float, batch: int
) -> Any:
    """A config for few iterations at a large learning rate, of the tiny model."""
    config = reduced(name, scenes, {'bert': bert}, SIZE)
    config.default_hooks.pop('preflight')
    config.train_dataloader.batch_size = batch
    config.randomness = dict(seed=0)
    config.train_cfg.update(max_iters=iterations, val_interval=iterations + 1)
    config.param_scheduler = dict(type='PolyLR', eta_min=0.0, by_epoch=False)
    config.optim_wrapper.optimizer.lr = lr
    config.optim_wrapper.paramwise_cfg = None  # all of it starts from random weights
    annotations = scenes / 'annotations/instancesonly_filtered_gtFine_val.json'
    config.val_evaluator = dict(
        type='CocoMetric', ann_file=str(annotations), metric=['bbox', 'segm']
    )
    return config


def segmenter_config(scenes: Path, bert: Path, iterations: int) -> Any:
    """SAM 2 from random weights; it leaves ``segmenter.pth`` in its work folder."""
    config = entry_point('adapt_sam2_cityscapes', scenes, bert, iterations, 3e-3, 1)
    config.model.segmenter.init_cfg = None
    # The published 20 would have a decoder of random weights find nothing for long.
    config.model.loss_mask.loss_weight = 1.0
    for step in config.train_dataloader.dataset.weak_view:
        if step.type == 'FilterAnnotations':
            step.min_gt_bbox_wh = (12, 12)
    return config


def detector_config(scenes: Path, bert: Path, segmenter: Path, iterations: int) -> Any:
    """Grounding-DINO from random weights, with a SAM 2 that has learnt."""
    config = entry_point('adapt_cityscapes', scenes, bert, iterations, 1e-3, 4)
    config.model.detector.init_cfg = None
    config.model.detector.encoder.num_cp = 0  # memory is no matter
    config.model.segmenter.init_cfg.checkpoint = str(segmenter)
    view = config.train_dataloader.dataset.weak_view
    config.train_dataloader.dataset.weak_view = [  # as it is tested: not resized
        step for step in view if step.type != 'RandomChoice'
    ]
    return config


def switch_on(model: Any) -> None:
    """The contrast, as docs/teachers.md shows it."""
    model.pixel_contrast = dict(
        type='PixelContrastHead',
        in_channels=model.detector.neck.in_channels[-1],
        loss=dict(type='PixelContrastLoss', loss_weight=0.1),
    )


class Meter(Hook):
    """Tell of every iteration, and keep its processor time: neighbours do not count."""

    def __init__(self, advance: Callable[[], None]) -> None:
        self.advance = advance
        self.seconds: list[float] = []

    def before_train(self, *_: Any) -> None:
        self.mark = time.process_time()

    def after_train_iter(self, *_: Any, **__: Any) -> None:
        now = time.process_time()
        self.seconds.append(now - self.mark)
        self.mark = now
        self.advance()


def train(config: Any, folder: Path, bar: Progress) -> tuple[MessageHub, list[float]]:
    """Train in a folder, its name being the run's; the log, seconds an iteration."""
    config.work_dir = str(folder)
    config.experiment_name = folder.name
    runner = Runner.from_cfg(config)
    task = bar.add_task(folder.name, total=config.train_cfg.max_iters)
    meter = Meter(lambda: bar.advance(task))
    runner.register_hook(meter)
    runner.train()  # it evaluates at the end
    bar.update(task, visible=False)
    return runner.message_hub, meter.seconds


def key_of(config: Any, args: argparse.Namespace, *files: Path) -> str:
    """Digest a config and the files it reads."""
    return digest(config.pretty_text.replace(str(args.out), ''), *files)


def run(
    title: str, config: Any, args: argparse.Namespace, reads: list[Path], bar: Progress
) -> tuple[Path, dict[str, float]]:
    """Train and evaluate, unless that is done.

    Returns:
        The run's folder; average precisions in per cent, and ``seconds`` of an
        iteration, the median of processor time.
    """
    key = key_of(config, args, *reads)
    folder = args.out / f'{title}_{key[:8]}'

    def measure() -> dict[str, float]:
        hub, seconds = train(config, folder, bar)
        result = {}
        for name, (_, metric) in METRICS.items():
            found = hub.log_scalars.get(f'val/{metric}')
            # The metric leaves them out if nothing is found at all.
            result[name] = 100 * found.current() if found else 0.0
        result['seconds'] = statistics.median(seconds)
        return result

    return folder, once(folder / 'result.json', key, measure)


def report(results: dict[str, dict[int, dict]], args: argparse.Namespace) -> str:
    """Write both files from the results that there are; the table."""
    runs = {key: list(results[key].values()) for key in TITLES if key in results}
    without, contrasted = (results.get(key, {}) for key in TITLES)
    pairs = [(contrasted[seed], without[seed]) for seed in contrasted]
    if pairs:
        runs['difference'] = [{key: a[key] - b[key] for key in a} for a, b in pairs]
    summary = {key: summarise(each) for key, each in runs.items()}
    made = dict(
        command=shlex.join(
            ['python', 'tools/benchmarks/teacher_contrast.py', *sys.argv[1:]]
        ),
        hardware=hardware('cuda' if torch.cuda.is_available() else 'cpu'),
        torch=torch.__version__,
        settings={k: v for k, v in vars(args).items() if k != 'out'},
    )
    content = made | dict(summary=summary, runs=results)
    write_atomic(
        args.out / 'teacher_contrast.json', json.dumps(content, indent=2) + '\n'
    )
    heads = [title for title, _ in METRICS.values()]
    lines = [
        f'`{made["command"]}` on {made["hardware"]}, torch {made["torch"]}: mean over '
        'seeds (least to most).\n',
        f'| | {" | ".join(heads)} | seeds | CPU s an iteration |',
        '|---|' + '---|' * (len(heads) + 2),
    ]
    for key, row in summary.items():
        cells = [TITLES.get(key, 'difference, seed by seed')]
        for metric in METRICS:
            mean, low, high = row[metric].values()
            cells.append(f'{mean:.1f} ({low:.1f} to {high:.1f})')
        cells += [str(len(runs[key])), f'{row["seconds"]["mean"]:.2f}']
        lines.append(f'| {" | ".join(cells)} |')
    table = '\n'.join(lines) + '\n'
    write_atomic(args.out / 'teacher_contrast.md', table)
    return table


def summarise(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Each number's mean, least and most."""
    summary = {}
    for key in runs[0]:
        values = [each[key] for each in runs]
        mean = statistics.mean(values)
        summary[key] = dict(mean=mean, least=min(values), most=max(values))
    return summary


def measure(args: argparse.Namespace) -> str:
    """All runs, seeds outermost: stopped early, both variants have as many."""
    many, few, val = args.images
    source = make_scenes(args.out / f'source_{many}', 'source', many, 20)
    target = make_scenes(args.out / f'target_{few}_{val}', 'target', few, val)
    learns_from = sorted(source.glob('annotations/*.json'))
    bert = save_bert(args.out / 'bert')
    results: dict[str, dict[int, dict]] = {}
    table = ''
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task('all', total=2 + len(args.seeds) * len(TITLES))
        config = segmenter_config(source, bert, args.foundation[0])
        folder, _ = run('sam2', config, args, learns_from, bar)
        segmenter = folder / 'segmenter.pth'
        bar.advance(task)
        config = detector_config(source, bert, segmenter, args.foundation[1])
        files = [segmenter, *learns_from]
        folder, _ = run('detector', config, args, files, bar)
        detector = folder / 'teacher.pth'
        bar.advance(task)
        files = [segmenter, detector, *sorted(target.glob('annotations/*.json'))]
        for seed in args.seeds:
            for variant in TITLES:
                config = detector_config(target, bert, segmenter, args.iterations)
                config.model.detector.init_cfg = dict(
                    type='Pretrained', checkpoint=str(detector)
                )
                config.optim_wrapper.optimizer.lr = 3e-4
                config.randomness = dict(seed=seed)
                if variant == 'with':
                    switch_on(config.model)
                _, result = run(f'{variant}_{seed}', config, args, files, bar)
                results.setdefault(variant, {})[seed] = result
                table = report(results, args)
                bar.advance(task)
    return table


def main() -> None:
    args = parse_args()
    # mmengine's log is in each run's folder; here is progress, and the table.
    with Path(os.devnull).open('w') as nothing, contextlib.redirect_stdout(nothing):
        table = measure(args)
    print(table)


if __name__ == '__main__':
    main()
