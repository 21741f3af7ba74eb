"""Measure a training step: against mmdet's own head, and what the contrast adds.

    python tools/benchmarks/train_step.py --json work_dirs/train_step.json

It times a distillation step with and without the contrast, and with mmdet's Mask2Former
head on the same weights, in turn in one process, on one batch of random images and
masks. Any loss on two views needs the step without it and one more pass of the encoder
without gradient: this is the floor. The rest is the contrast's own cost: projections,
scores, negatives, their backward. The strong view's colours are measured separately. On
a GPU the default size is the published one, crop 512x1024, batch 8, mixed precision.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from runs import compare, hardware

import mmcast
from mmcast.files import write_atomic
from mmcast.testing import stock_model

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'mmcast'


def parse_args() -> argparse.Namespace:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--config', type=Path, default=CONFIGS / 'distill_cityscapes.py'
    )
    parser.add_argument(
        '--size', type=int, nargs=2, default=(512, 1024) if cuda else (256, 512)
    )
    parser.add_argument('--batch', type=int, default=8 if cuda else 2)
    parser.add_argument('--repeats', type=int, default=20 if cuda else 5)
    parser.add_argument('--preset', default='default')
    parser.add_argument('--device', default='cuda' if cuda else 'cpu')
    parser.add_argument('--json', type=Path, help='file for the numbers')
    return parser.parse_args()


def make_batch(count: int, size: tuple[int, int], classes: int, device: str) -> Any:
    """Return a batch: half labelled, half unlabelled, ten boxes per image."""
    generator = np.random.default_rng(0)
    height, width = size
    inputs, samples = {}, {}
    for branch, images in (('sup', count - count // 2), ('unsup', count // 2)):
        inputs[branch] = torch.randn(images, 3, height, width, device=device)
        samples[branch] = []
        for _ in range(images):
            masks = np.zeros((10, height, width), np.uint8)
            for mask in masks:
                y, x = generator.integers(0, (height // 2, width // 2))
                mask[y : y + height // 4, x : x + width // 6] = 1
            sample = DetDataSample(
                metainfo=dict(img_shape=size, ori_shape=size, batch_input_shape=size)
            )
            sample.gt_instances = InstanceData(
                labels=torch.tensor(generator.integers(0, classes, 10), device=device),
                masks=BitmapMasks(masks, height, width),
            )
            samples[branch].append(sample)
    return inputs, samples


def build(args: argparse.Namespace) -> Any:
    init_default_scope('mmdet')
    config = Config.fromfile(args.config)
    student = config.model.student
    student.init_cfg = student.backbone.init_cfg = None
    student.pixel_contrast.preset = args.preset
    torch.manual_seed(0)
    return MODELS.build(config.model).to(args.device).train()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    model = build(args)
    student = model.student
    divisor = student.data_preprocessor.pad_size_divisor
    size = tuple(-(-side // divisor) * divisor for side in args.size)
    batch = make_batch(args.batch, size, model.num_classes, args.device)
    images = torch.cat(list(batch[0].values()))
    cuda = args.device.startswith('cuda')
    parameters = [p for p in model.parameters() if p.requires_grad]

    def step(part: Any, contrast: bool = True) -> None:
        head = part.pixel_contrast
        model.student, part.pixel_contrast = part, head if contrast else None
        with torch.autocast(args.device.split(':')[0], torch.float16, enabled=cuda):
            losses = model.loss(*batch)
        model.student, part.pixel_contrast = student, head
        total = sum(v for name, v in losses.items() if 'loss' in name)
        torch.autograd.grad(total, parameters, allow_unused=True)

    def encoder() -> None:
        with (
            torch.no_grad(),
            torch.autocast(args.device.split(':')[0], torch.float16, enabled=cuda),
        ):
            student.backbone(images)

    stock = stock_model(student)
    actions: dict[str, Callable[[], Any]] = {
        'with_contrast': lambda: step(student),
        'without': lambda: step(student, contrast=False),
        'encoder': encoder,
        'strong_view': lambda: student.pixel_contrast.strong_view(images),
        'stock_head': lambda: step(stock),
    }
    found = compare(actions, args.repeats, args.device)
    seconds = {name: of_action['s'] for name, of_action in found.items()}
    names = ('with_contrast', 'without', 'encoder', 'strong_view')
    extra = [
        (whole - without - encoder - view) / (without + encoder)
        for whole, without, encoder, view in zip(
            *(found[name]['times'] for name in names), strict=True
        )
    ]
    return dict(
        config=args.config.name,
        preset=args.preset,
        size=list(size),
        batch=args.batch,
        **{f'{name}_s': value for name, value in seconds.items()},
        images_per_s=args.batch / seconds['with_contrast'],
        contrast_share_of_floor=statistics.median(extra),
        ours_mb=found['with_contrast']['mb'],
        stock_head_mb=found['stock_head']['mb'],
        ratio=seconds['stock_head'] / seconds['with_contrast'],
        memory_ratio=found['with_contrast']['mb'] / found['stock_head']['mb'],
        peak_mb={name: of_action['mb'] for name, of_action in found.items()},
        device=hardware(args.device),
        threads=torch.get_num_threads(),
        mmcast=mmcast.__version__,
    )


def main() -> None:
    args = parse_args()
    report = measure(args)
    print(json.dumps(report, indent=2))
    share = 100 * report['contrast_share_of_floor']
    print(f'the contrast adds {share:.1f} % to the floor (medians of {args.repeats})')
    print(
        f"the step is {report['ratio']:.2f} times as fast as with mmdet's head, at "
        f'{report["memory_ratio"]:.2f} times its memory'
    )
    if args.json:
        write_atomic(args.json, json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
