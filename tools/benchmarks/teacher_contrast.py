"""Measure if L_pxl helps the composite teacher: adapt a tiny one with and without it.

    OMP_NUM_THREADS=1 python tools/benchmarks/teacher_contrast.py --seeds 0 1 2

First it trains tiny foundation models once, from random weights, on SynthScapes' source
domain: SAM 2 through ``adapt_sam2_cityscapes``, then Grounding-DINO through
``adapt_cityscapes``. Then it adapts this detector to a few images of the target domain,
for each seed once with the contrast and once without. All else is equal. It evaluates
boxes and masks on images that the detector has not seen.

It does not repeat finished runs, so an interrupted call continues. The digest of a
run's config and of the files it reads is part of the run's name. After each run it
writes ``teacher_contrast.json`` and ``teacher_contrast.md`` in ``--out`` from all
finished runs.
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
from runs import digest, hardware, once

from mmcast.datasets.cityscapes_to_coco import convert_split
from mmcast.datasets.splits import format_list
from mmcast.datasets.synthscapes import generate
from mmcast.files import write_atomic
from mmcast.testing import reduced, save_bert

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
        help='iterations of SAM 2 and of the detector before adaptation',
    )
    parser.add_argument(
        '--images',
        type=int,
        nargs=3,
        default=[300, 60, 100],
        help='images of the source domain, of the target domain, and to evaluate on',
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/teacher_contrast'))
    return parser.parse_args()


def make_scenes(root: Path, domain: str, train: int, val: int) -> Path:
    """Make a small SynthScapes with COCO files and a list of all training images."""
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
    """Return a tiny model's config for few iterations at a large learning rate."""
    config = reduced(name, scenes, {'bert': bert}, SIZE)
    config.default_hooks.pop('preflight')
    config.train_dataloader.batch_size = batch
    config.randomness = dict(seed=0)
    config.train_cfg.update(max_iters=iterations, val_interval=iterations + 1)
    config.param_scheduler = dict(type='PolyLR', eta_min=0.0, by_epoch=False)
    config.optim_wrapper.optimizer.lr = lr
    config.optim_wrapper.paramwise_cfg = None  # all weights start random
    annotations = scenes / 'annotations/instancesonly_filtered_gtFine_val.json'
    config.val_evaluator = dict(
        type='CocoMetric', ann_file=str(annotations), metric=['bbox', 'segm']
    )
    return config


def segmenter_config(scenes: Path, bert: Path, iterations: int) -> Any:
    """Return SAM 2's config with random weights; its run leaves ``segmenter.pth``."""
    config = entry_point('adapt_sam2_cityscapes', scenes, bert, iterations, 3e-3, 1)
    config.model.segmenter.init_cfg = None
    # With the published 20, a decoder with random weights finds nothing for long.
    config.model.loss_mask.loss_weight = 1.0
    for step in config.train_dataloader.dataset.weak_view:
        if step.type == 'FilterAnnotations':
            step.min_gt_bbox_wh = (12, 12)
    return config


def detector_config(scenes: Path, bert: Path, segmenter: Path, iterations: int) -> Any:
    """Return Grounding-DINO's config with random weights and a trained SAM 2."""
    config = entry_point('adapt_cityscapes', scenes, bert, iterations, 1e-3, 4)
    config.model.detector.init_cfg = None
    config.model.detector.encoder.num_cp = 0  # memory does not matter
    config.model.segmenter.init_cfg.checkpoint = str(segmenter)
    view = config.train_dataloader.dataset.weak_view
    config.train_dataloader.dataset.weak_view = [  # not resized, as in the test
        step for step in view if step.type != 'RandomChoice'
    ]
    return config


def switch_on(model: Any) -> None:
    """Add the contrast, as docs/teachers.md shows it."""
    model.pixel_contrast = dict(
        type='PixelContrastHead',
        in_channels=model.detector.neck.in_channels[-1],
        loss=dict(type='PixelContrastLoss', loss_weight=0.1),
    )


class Meter(Hook):
    """Report each iteration and keep its processor time, without other processes."""

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
    """Train in a folder that names the run; return the log and iteration seconds."""
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
    """Return the digest of a config and of the files it reads."""
    return digest(config.pretty_text.replace(str(args.out), ''), *files)


def run(
    title: str, config: Any, args: argparse.Namespace, reads: list[Path], bar: Progress
) -> tuple[Path, dict[str, float]]:
    """Train and evaluate, or return the earlier result.

    Returns:
        The run's folder, and a dict of average precisions in per cent and ``seconds``,
        the median processor time of an iteration.
    """
    key = key_of(config, args, *reads)
    folder = args.out / f'{title}_{key[:8]}'

    def measure() -> dict[str, float]:
        hub, seconds = train(config, folder, bar)
        result = {}
        for name, (_, metric) in METRICS.items():
            found = hub.log_scalars.get(f'val/{metric}')
            # The metric omits its values if nothing at all is found.
            result[name] = 100 * found.current() if found else 0.0
        result['seconds'] = statistics.median(seconds)
        return result

    return folder, once(folder / 'result.json', key, measure)


def report(results: dict[str, dict[int, dict]], args: argparse.Namespace) -> str:
    """Write both files from the results so far; return the table."""
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
    """Return the mean, minimum and maximum of each number."""
    summary = {}
    for key in runs[0]:
        values = [each[key] for each in runs]
        mean = statistics.mean(values)
        summary[key] = dict(mean=mean, least=min(values), most=max(values))
    return summary


def measure(args: argparse.Namespace) -> str:
    """Do all runs; return the table.

    Seeds are the outer loop: after an early stop, both variants have equally many.
    """
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
    # mmengine's log is in each run's folder. The console shows progress and the table.
    with Path(os.devnull).open('w') as nothing, contextlib.redirect_stdout(nothing):
        table = measure(args)
    print(table)


if __name__ == '__main__':
    main()
