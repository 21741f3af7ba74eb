"""Measure how many training images a worker loads in a second.

    python tools/benchmarks/loading.py --json work_dirs/loading.json

It writes images of Cityscapes' size with twenty instances each, as PNG files, a COCO
JSON and a store of pseudo-labels, and runs the weak view of distill_cityscapes.py on
them: this package's data sets, and mmdet's ``CocoDataset`` with the same transforms.
All run in turn in one process, which stands for one worker.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmdet.registry import DATASETS
from mmengine import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils
from rich.console import Console
from rich.progress import track
from runs import hardware

import mmcast
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.files import write_atomic

STDERR = Console(stderr=True)
CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'mmcast'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--size', type=int, nargs=2, default=(1024, 2048))
    parser.add_argument('--images', type=int, default=24)
    parser.add_argument('--instances', type=int, default=20)
    parser.add_argument('--json', type=Path, help='file for the numbers')
    return parser.parse_args()


def write_data(root: Path, args: argparse.Namespace, classes: tuple[str, ...]) -> None:
    """Write images, ``coco.json`` and the store ``pseudo``."""
    rng = np.random.default_rng(0)
    height, width = args.size
    (root / 'img').mkdir()
    store = PseudoLabelStore.create(
        root / 'pseudo', classes=classes, teacher=Teacher('none', 'none', 'none')
    )
    images, annotations = [], []
    for i in track(range(args.images), 'writing images', console=STDERR):
        # Smooth areas with some grain: a PNG as large as Cityscapes' (2.3 MB).
        coarse = rng.integers(0, 256, (height // 64, width // 64, 3), np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        grain = rng.integers(0, 4, (height, width, 3), np.uint8)
        name = f'{i:03d}.png'
        cv2.imwrite(str(root / 'img' / name), cv2.add(smooth, grain))
        images.append(dict(id=i, file_name=name, height=height, width=width))
        labels, boxes, rles = [], [], []
        for _ in range(args.instances):
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            middle = rng.uniform(0.1, 0.9, 2) * (width, height)
            radii = rng.uniform(0.02, 0.1) * height * rng.uniform(0.7, 1.3, (24, 1))
            corners = middle + radii * np.stack([np.cos(angles), np.sin(angles)], 1)
            corners = corners.clip(0, (width - 1, height - 1))
            rle = mask_utils.frPyObjects([corners.flatten().tolist()], height, width)[0]
            x, y, w, h = mask_utils.toBbox(rle).tolist()
            label = int(rng.integers(len(classes)))
            labels.append(label)
            boxes.append((x, y, x + w, y + h))
            rles.append(rle)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=label + 1,
                    bbox=(x, y, w, h),
                    area=float(mask_utils.area(rle)),
                    iscrowd=0,
                    segmentation=[corners.flatten().tolist()],
                )
            )
        scores = rng.uniform(0.4, 1, len(labels))
        store.write(name, (height, width), labels, scores, boxes, rles)
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'coco.json').write_text(json.dumps(content))
    (root / 'list.txt').write_text(
        ''.join(image['file_name'] + '\n' for image in images)
    )


def make_datasets(root: Path) -> dict[str, Any]:
    config = Config.fromfile(CONFIGS / 'distill_cityscapes.py')
    dataset = config.train_dataloader.dataset
    common = dict(data_root='', metainfo=dataset.labeled_dataset.metainfo)
    common['data_prefix'] = dict(img=str(root / 'img'))
    dataset.labeled_dataset.update(
        **common, ann_file=str(root / 'coco.json'), image_list=str(root / 'list.txt')
    )
    dataset.unlabeled_dataset.update(**common, ann_file=str(root / 'list.txt'))
    dataset.pseudo_labels.store = str(root / 'pseudo')
    both = DATASETS.build(dataset)
    load = dict(type='LoadImageFromFile')
    stock = [
        load,
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        *dataset.weak_view,
        dict(type='PackDetInputs'),
    ]
    stock = dict(
        type='CocoDataset', **common, ann_file=str(root / 'coco.json'), pipeline=stock
    )
    # The image alone: what no way of loading masks can undercut.
    bare = dict(
        type='ImageListDataset',
        **common,
        ann_file=str(root / 'list.txt'),
        pipeline=[load, *dataset.weak_view[:4]],
    )
    labeled, unlabeled = both.datasets
    return dict(
        stock=DATASETS.build(stock),
        labelled=labeled,
        pseudo_labelled=unlabeled,
        image_alone=DATASETS.build(bare),
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    init_default_scope('mmdet')
    cv2.setNumThreads(0)  # as in a worker
    classes = tuple(
        Config.fromfile(
            CONFIGS / 'distill_cityscapes.py'
        ).train_dataloader.dataset.labeled_dataset.metainfo.classes
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_data(root, args, classes)
        size = sum(p.stat().st_size for p in (root / 'img').iterdir())
        datasets = make_datasets(root)
        times: dict[str, list[float]] = {name: [] for name in datasets}
        # Drawn after each image alone, so that no time has a thread beside it.
        images = track(
            range(args.images), 'loading', console=STDERR, auto_refresh=False
        )
        for i in images:
            for name, dataset in datasets.items():
                np.random.seed(i)  # the same crop for all
                start = time.perf_counter()
                dataset.prepare_data(i)
                if i:  # the first is a warm-up
                    times[name].append(time.perf_counter() - start)
    per_image = {name: statistics.mean(taken) for name, taken in times.items()}
    return dict(
        size=list(args.size),
        instances=args.instances,
        png_mb=size / args.images / 1e6,
        **{f'{name}_s': seconds for name, seconds in per_image.items()},
        **{f'{name}_images_per_s': 1 / seconds for name, seconds in per_image.items()},
        device=hardware('cpu'),
        mmcast=mmcast.__version__,
    )


def main() -> None:
    args = parse_args()
    report = measure(args)
    print(json.dumps(report, indent=2))
    if args.json:
        write_atomic(args.json, json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
