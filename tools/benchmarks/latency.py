"""Measure what a prediction costs: students, the teacher, and three engines.

    python tools/benchmarks/latency.py --json docs/latency.json

A prediction goes from an image in memory to masks of 20 objects at its size (the
teacher's: 10). Weights are random, which costs the same as trained ones. Engines take
turns in one process. A row that the file has already is not measured again.
"""

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine import Config
from mmengine.registry import init_default_scope
from predict import CONFIGS, inference_detector, published_teacher
from rich.console import Console
from rich.table import Table
from runs import compare, hardware, predict_onnx
from torch.utils.flop_counter import FlopCounterMode

import mmcast
from mmcast.deployment import export_onnx
from mmcast.deployment.kinds import graph_of
from mmcast.files import write_atomic

ONNX = predict_onnx()
OBJECTS = 20
STUDENTS = {
    'small': 'student_small',
    'small_teacher': 'teacher_small',
    'rtmdet_ins_tiny': 'student_rtmdet_ins_tiny',
    'rtmdet_ins_s': 'student_rtmdet_ins_s',
    'rtmdet_ins_m': 'student_rtmdet_ins_m',
    'mask_rcnn_r50': 'student_mask_rcnn_r50',
    'r50': 'student_r50',
    'dpt256': 'student_dpt256',
}
TEACHER = 'teacher'
SIZES = (640, 640), (1024, 2048)
# A pixel decoder with deformable attention, and DINOv2, are exported at one size.
ONE_SIZE = 'r50', 'dpt256'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    names = [*STUDENTS, TEACHER]
    parser.add_argument('--models', nargs='+', choices=names, default=names)
    parser.add_argument(
        '--sizes', type=size_of, nargs='+', default=SIZES, metavar='HEIGHTxWIDTH'
    )
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--files', type=Path, default=Path('work_dirs/latency'))
    parser.add_argument('--json', type=Path, required=True, help='file for the rows')
    return parser.parse_args()


def size_of(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH."""
    height, width = text.split('x')
    return int(height), int(width)


def student(name: str) -> Any:
    """Build a student that finds ``OBJECTS`` objects in any image."""
    config = Config.fromfile(CONFIGS / f'_base_/models/{STUDENTS[name]}.py').model
    for part in (config, config.get('backbone', {})):
        part.pop('init_cfg', None)
    config.pop('pixel_contrast', None)
    limits = config.test_cfg.get('rcnn', config.test_cfg)
    limits.update(score_thr=0.0, max_per_img=OBJECTS, max_per_image=OBJECTS)
    torch.manual_seed(0)
    model = MODELS.build(config).eval()
    model.init_weights()
    model.requires_grad_(False)
    pipeline = [dict(type='LoadImageFromFile')]  # images are not resized
    loader = dict(dataset=dict(pipeline=pipeline))
    model.cfg, model.dataset_meta = Config(dict(test_dataloader=loader)), {}
    return model


def through_torch(model: Any, image: np.ndarray, threads: int) -> Callable[[], Any]:
    """Return what predicts an image with mmdet."""
    sample = DetDataSample(
        metainfo=dict(
            img_shape=image.shape[:2],
            ori_shape=image.shape[:2],
            scale_factor=(1.0, 1.0),
        )
    )

    @torch.no_grad()
    def predict() -> Any:
        torch.set_num_threads(threads)
        inputs = [torch.from_numpy(image).permute(2, 0, 1)]
        (found,) = model.test_step(dict(inputs=inputs, data_samples=[sample.clone()]))
        return found.pred_instances

    return predict


def cost(model: Any, size: tuple[int, int]) -> dict[str, float]:
    """Return parameters in millions and multiply-adds of the network in 1e9."""
    graph = graph_of(model, raw=True)
    padded = (-(-side // graph.step) * graph.step for side in size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        graph(torch.zeros(1, 3, *padded))
    count = sum(each.numel() for each in model.parameters())
    return dict(params_m=count / 1e6, gflops=counter.get_total_flops() / 2e9)


def rows_of_student(
    name: str, size: tuple[int, int], threads: int, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure a student in all engines."""
    model = student(name)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    fixed = name in ONE_SIZE
    file = args.files / (f'{name}_{size[0]}.onnx' if fixed else f'{name}.onnx')
    if not file.is_file():
        args.files.mkdir(parents=True, exist_ok=True)
        step = graph_of(model, raw=False).step
        padded = tuple(-(-side // step) * step for side in size)
        export_onnx(model, file, **(dict(batch=1, size=padded) if fixed else {}))
    actions = {'torch': through_torch(model, image, threads)}
    for engine in ONNX.ENGINES:
        session = ONNX.Model(file, threads, engine)
        actions[engine] = lambda session=session: session(image)
    found = compare(actions, args.repeats, 'cpu')
    count = {len(actions[engine]()['scores']) for engine in ONNX.ENGINES}
    if count | {len(actions['torch']())} != {OBJECTS}:
        print(f'{name}: {count} objects instead of {OBJECTS}', file=sys.stderr)
    numbers = cost(model, size)
    return [
        row(name, engine, size, threads, each, numbers)
        for engine, each in found.items()
    ]


def rows_of_teacher(
    size: tuple[int, int], threads: int, repeats: int
) -> list[dict[str, Any]]:
    """Measure the composite teacher, through mmdet's own inference."""
    model = published_teacher('cpu')
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    torch.set_num_threads(threads)
    found = compare({'torch': lambda: inference_detector(model, image)}, repeats, 'cpu')
    count = sum(each.numel() for each in model.parameters())
    numbers = dict(params_m=count / 1e6, gflops=None)
    return [row(TEACHER, 'torch', size, threads, found['torch'], numbers)]


def row(
    name: str, engine: str, size: tuple, threads: int, found: dict, numbers: dict
) -> dict[str, Any]:
    return dict(
        model=name,
        engine=engine,
        height=size[0],
        width=size[1],
        threads=threads,
        ms=1000 * found['s'],
        peak_mb=found['mb'],
        **numbers,
    )


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    table = Table(*rows[0])
    for each in rows:
        values = [f'{v:.1f}' if isinstance(v, float) else str(v) for v in each.values()]
        table.add_row(*values)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main() -> None:
    args = parse_args()
    warnings.simplefilter('ignore')
    logging.disable(logging.WARNING)
    init_default_scope('mmdet')
    report: dict[str, Any] = dict(rows=[])
    if args.json.is_file():
        report = json.loads(args.json.read_text())
    report.update(device=hardware('cpu'), mmcast=mmcast.__version__)
    for name in args.models:
        for size in args.sizes:
            for threads in args.threads:
                key = dict(model=name, height=size[0], width=size[1], threads=threads)
                if any(key.items() <= each.items() for each in report['rows']):
                    continue
                print(
                    f'{name}, {size[0]}x{size[1]}, {threads} threads', file=sys.stderr
                )
                if name == TEACHER:
                    report['rows'] += rows_of_teacher(size, threads, 1)
                else:
                    report['rows'] += rows_of_student(name, size, threads, args)
                write_atomic(args.json, json.dumps(report, indent=1) + '\n')
    show(report['rows'])


if __name__ == '__main__':
    main()
