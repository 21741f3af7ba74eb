"""Measure prediction against mmdet's own Mask2Former head, and against the teacher.

    python tools/benchmarks/predict.py --json work_dirs/predict.json

Both sides share weights and input and take turns in one process: mmdet's head with all
masks at full size, and this package's. It times the whole prediction, the head with
what makes instances of its masks, and the masked decoder alone. Weights are random,
which costs the same as trained ones. ``--teacher`` also times the composite teacher
with ten boxes, through mmdet's own inference, image pipeline included.
"""

import argparse
import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.apis import inference_detector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine import Config
from mmengine.registry import init_default_scope
from runs import compare, hardware

import mmcast
from mmcast.files import write_atomic
from mmcast.testing import save_bert, stock_model

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'mmcast'
CASES = {
    'dpt256': ((1024, 2048), '_base_/models/student_dpt256.py'),
    'r50': ((512, 1024), '_base_/models/student_r50.py'),
}


def parse_args() -> argparse.Namespace:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
    parser.add_argument(
        '--size', type=int, nargs=2, help='height and width, instead of the usual ones'
    )
    parser.add_argument('--teacher', action='store_true', help='time the teacher, too')
    parser.add_argument('--repeats', type=int, default=20 if cuda else 3)
    parser.add_argument('--device', default='cuda' if cuda else 'cpu')
    parser.add_argument('--json', type=Path, help='file for the numbers')
    return parser.parse_args()


def build(config: Any, device: str) -> Any:
    torch.manual_seed(0)
    for part in (config, config.get('backbone', {})):
        part.pop('init_cfg', None)
    return MODELS.build(config).to(device).eval()


def one_image(model: Any, size: tuple[int, int]) -> tuple[Any, list[DetDataSample]]:
    """Return a random image, as the model's data preprocessor makes it."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size))
    data = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]))
    return data['inputs'], data['data_samples']


def mask_difference(ours: Any, stock: Any) -> float:
    """Return the largest share of a mask's pixels in which both sides differ."""
    if not torch.equal(ours.labels.sort()[0], stock.labels.sort()[0]):
        return float('nan')
    order_a, order_b = ours.scores.argsort(), stock.scores.argsort()
    differ = ours.masks[order_a] != stock.masks[order_b]
    return float(differ.float().mean((1, 2)).max())


@torch.no_grad()
def measure_case(name: str, args: argparse.Namespace) -> dict[str, Any]:
    size, path = CASES[name]
    size = tuple(args.size or size)
    model = build(Config.fromfile(CONFIGS / path).model, args.device)
    stock = stock_model(model)
    inputs, samples = one_image(model, size)
    features = model.extract_feat(inputs)

    def whole(which: Any) -> Any:
        return which.predict(inputs, copy.deepcopy(samples))[0].pred_instances

    def bfloat16(which: Any) -> Any:
        with torch.autocast(args.device.split(':')[0], torch.bfloat16):
            return whole(which)

    def head(which: Any) -> None:
        # The detector's predict, but for the backbone.
        extract, which.extract_feat = which.extract_feat, lambda _: features
        whole(which)
        which.extract_feat = extract

    decoded = {
        each: each.panoptic_head.pixel_decoder(features) for each in (model, stock)
    }

    def decoder(which: Any) -> None:
        part = which.panoptic_head.pixel_decoder
        forward, part.forward = part.forward, lambda _: decoded[which]
        which.panoptic_head(features, samples)
        part.forward = forward

    actions = {}
    for side, which in (('stock', stock), ('ours', model)):
        actions |= {
            f'{side}': lambda w=which: whole(w),
            f'head_{side}': lambda w=which: head(w),
            f'decoder_{side}': lambda w=which: decoder(w),
        }
    actions['bfloat16_ours'] = lambda: bfloat16(model)
    found = compare(actions, args.repeats, args.device)
    numbers = {
        f'{key}_{unit}': value[unit]
        for unit in ('s', 'mb')
        for key, value in found.items()
    }
    ratios = {
        f'{part or "whole_"}ratio': found[f'{part}stock']['s']
        / found[f'{part}ours']['s']
        for part in ('', 'head_', 'decoder_')
    }
    return dict(
        student=name,
        size=list(size),
        **numbers,
        **ratios,
        memory_ratio=found['ours']['mb'] / found['stock']['mb'],
        max_mask_difference=mask_difference(whole(model), whole(stock)),
    )


def published_teacher(device: str) -> Any:
    """Build Grounding-DINO Swin-L with SAM 2.1-L, random, that finds ten boxes."""
    config = Config.fromfile(CONFIGS / 'adapt_cityscapes.py')
    teacher = config.model
    teacher = teacher.get('student', teacher)
    teacher.update(score_thr=-1.0, max_per_img=10)
    teacher.pop('pixel_contrast', None)
    with tempfile.TemporaryDirectory() as folder:
        # BERT-base's size, with random weights.
        save_bert(
            Path(folder),
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
            vocab_size=30522,
        )
        teacher.detector.language_model.name = folder
        teacher.detector.init_cfg = teacher.segmenter.init_cfg = None
        model = build(teacher, device)
    model.cfg = config
    return model


@torch.no_grad()
def measure_teacher(args: argparse.Namespace) -> dict[str, Any]:
    """Compare the student with the published teacher on one 1024x2048 image."""
    size = CASES['dpt256'][0]
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    models = {'teacher': published_teacher(args.device)}
    config = Config.fromfile(CONFIGS / 'supervised_cityscapes.py')
    config.model.pop('pixel_contrast', None)
    models['student'] = build(config.model, args.device)
    models['student'].cfg = config
    actions = {
        name: lambda m=model: inference_detector(m, image)
        for name, model in models.items()
    }
    found = compare(actions, args.repeats, args.device)
    boxes = len(actions['teacher']().pred_instances)
    millions = {
        name: sum(p.numel() for p in model.parameters()) / 1e6
        for name, model in models.items()
    }
    return dict(
        size=list(size),
        boxes=boxes,
        **{f'{name}_s': value['s'] for name, value in found.items()},
        **{f'{name}_mb': value['mb'] for name, value in found.items()},
        **{f'{name}_params_m': value for name, value in millions.items()},
        ratio=found['teacher']['s'] / found['student']['s'],
    )


def main() -> None:
    args = parse_args()
    init_default_scope('mmdet')
    report: dict[str, Any] = dict(
        cases=[],
        device=hardware(args.device),
        threads=torch.get_num_threads(),
        repeats=args.repeats,
        mmcast=mmcast.__version__,
    )
    for name in args.cases:
        case = measure_case(name, args)
        report['cases'].append(case)
        print(json.dumps(case, indent=2))
        print(
            f'{name}: prediction {case["whole_ratio"]:.2f} times as fast as with '
            f"mmdet's head, head and instances {case['head_ratio']:.2f} times, masked "
            f'decoder {case["decoder_ratio"]:.2f} times; peak memory '
            f'{case["memory_ratio"]:.2f} times',
            flush=True,
        )
    if args.teacher:
        report['teacher'] = measure_teacher(args)
        print(json.dumps(report['teacher'], indent=2))
    if args.json:
        write_atomic(args.json, json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
