"""Measure what a large pool of images costs: start-up, memory of labelling and loading.

    python tools/benchmarks/large_pool.py --json work_dirs/large_pool.json

`start`: seconds and peak memory to build the image list data set, once from a list and
once from the folder, to ask a store what is missing, and the memory that each forked
worker has for itself after it has read all its items. The images are empty files, since
nothing opens them.

`label`: memory of `label_images` over many images, and its growth per 10,000 images in
the second half. A stand-in predicts one mask an image, as a detector would take days.

`load`: memory of the training's data loader and its worker together, while it draws
each of these images with its labels.

Each part runs in a process of its own.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from labelling import make_images, peak_mb
from mmdet.registry import DATASETS
from mmengine import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from rich.progress import track
from runs import hardware
from torch import nn
from torch.utils.data import DataLoader, Dataset

import mmcast
from mmcast.apis import label_images
from mmcast.datasets import ImageListDataset
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.files import write_atomic

WORKERS = 2


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--start', type=int, default=1_000_000, help='images listed')
    parser.add_argument('--label', type=int, default=20_000, help='images labelled')
    parser.add_argument('--json', type=Path, help='file for the numbers')
    parser.add_argument('--one', nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def resident_mb(kind: str = 'Rss', pid: int | str = 'self') -> float:
    """Return a process's memory; ``'Private_Dirty'`` is shared with no other."""
    lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(f'{kind}:')) * 1.024e-3


class _Worker(Dataset):
    """Reads a worker's share of the items; returns the memory that it took."""

    def __init__(self, images: ImageListDataset) -> None:
        self.images = images

    def __len__(self) -> int:
        return WORKERS

    def __getitem__(self, index: int) -> float:
        before = resident_mb('Private_Dirty')
        for i in range(index, len(self.images), WORKERS):
            self.images.get_data_info(i)
        return resident_mb('Private_Dirty') - before


def write_pool(root: Path, count: int) -> None:
    """Write empty files in folders of 1000, and ``list.txt``."""
    names = [f'{i // 1000:04d}/image_{i:07d}_leftImg8bit.png' for i in range(count)]
    for i in track(range(count), 'writing files'):
        if i % 1000 == 0:
            (root / 'img' / names[i]).parent.mkdir(parents=True)
        os.close(os.open(root / 'img' / names[i], os.O_CREAT))
    (root / 'list.txt').write_text('\n'.join(names) + '\n')


def start_from(way: str, root: Path) -> dict[str, Any]:
    """Build the data set, ask a store, and read all items in workers.

    Args:
        way: ``'list'`` or ``'folder'``: what the data set reads.
        root: Where :func:`write_pool` wrote the files.
    """
    ready, begin = peak_mb(), time.perf_counter()
    images = ImageListDataset(
        ann_file=str(root / 'list.txt') if way == 'list' else '',
        data_prefix=dict(img=str(root / 'img')),
    )
    built, built_mb = time.perf_counter() - begin, peak_mb()
    loader: DataLoader = DataLoader(
        _Worker(images), batch_size=None, num_workers=WORKERS
    )
    workers = [float(share) for share in loader]
    begin = time.perf_counter()
    store = PseudoLabelStore.create(
        root / f'store_{way}', classes=['a'], teacher=Teacher('none', 'none', 'none')
    )
    names = [images.get_data_info(i)['img_name'] for i in range(len(images))]
    assert len(store.missing(names)) == len(images)
    return dict(
        images=len(images),
        imports_mb=ready,
        build_s=built,
        build_peak_mb=built_mb,
        worker_mb=max(workers),
        missing_s=time.perf_counter() - begin,
        missing_peak_mb=peak_mb(),
    )


class _StandIn(nn.Module):
    """Predicts one square an image, and notes the memory now and then."""

    def __init__(self, every: int) -> None:
        super().__init__()
        pipeline = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]
        self.cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
        self.dataset_meta = dict(classes=('a',))
        self.every, self.seen = every, 0
        self.memory: list[tuple[int, float]] = []

    def test_step(self, data: dict) -> list[Any]:
        for sample in data['data_samples']:
            masks = torch.zeros(1, *sample.ori_shape[:2], dtype=torch.bool)
            masks[:, 4:20, 4:20] = True
            sample.pred_instances = InstanceData(
                masks=masks,
                scores=torch.ones(1),
                labels=torch.zeros(1, dtype=torch.long),
                bboxes=torch.tensor([[4.0, 4, 20, 20]]),
            )
            self.seen += 1
            if self.seen % self.every == 0:
                self.memory.append((self.seen, resident_mb()))
        return data['data_samples']


def label(root: Path) -> dict[str, Any]:
    """Label all images; return the memory and its growth in the second half."""
    names = sorted(path.name for path in (root / 'images').iterdir())
    store = PseudoLabelStore.create(
        root / 'store', classes=['a'], teacher=Teacher('none', 'none', 'none')
    )
    model = _StandIn(every=max(len(names) // 40, 1))
    begin = time.perf_counter()
    label_images(model, names, root / 'images', store, num_workers=1, progress=False)
    return dict(
        images=len(names),
        images_per_s=len(names) / (time.perf_counter() - begin),
        peak_mb=peak_mb(),
        growth_mb_per_10000=growth(model.memory),
    )


def growth(memory: list[tuple[int, float]]) -> float:
    """Return the growth in the second half, in MB per 10,000 images.

    Args:
        memory: Number of images seen, and MB.
    """
    half = np.array(memory[len(memory) // 2 :])
    return 10_000 * float(np.polyfit(half[:, 0], half[:, 1], 1)[0])


def load(root: Path) -> dict[str, Any]:
    """Draw batches from the images and labels that ``label`` left."""
    init_default_scope('mmdet')
    images = dict(data_prefix=dict(img=str(root / 'images')))
    images['metainfo'] = dict(classes=('a',))
    name = min(path.name for path in (root / 'images').iterdir())
    square = [[4, 4, 20, 4, 20, 20, 4, 20]]
    of_image = dict(id=0, image_id=0, category_id=0, area=256, iscrowd=0)
    content = dict(
        images=[dict(id=0, file_name=name, height=32, width=64)],
        categories=[dict(id=0, name='a')],
        annotations=[dict(of_image, bbox=[4, 4, 16, 16], segmentation=square)],
    )
    (root / 'labeled.json').write_text(json.dumps(content))
    data = DATASETS.build(
        dict(
            type='SemiSupervisedDataset',
            labeled_dataset=dict(
                images, type='ListedCocoDataset', ann_file=str(root / 'labeled.json')
            ),
            unlabeled_dataset=dict(images, type='ImageListDataset', ann_file=''),
            pseudo_labels=dict(store=str(root / 'store')),
            weak_view=[dict(type='RandomFlip', prob=0.5)],
        )
    )
    loader = Runner.build_dataloader(
        dict(
            batch_size=8,
            num_workers=1,
            dataset=data,
            sampler=dict(type='LabeledUnlabeledSampler', source_ratio=[1, 1]),
            collate_fn=dict(type='pseudo_collate'),
            worker_init_fn=dict(type='end_with_parent'),
        )
    )
    count = len(data.datasets[1])
    batches = count // 4
    memory, peak = [], 0.0
    begin = time.perf_counter()
    for number, _ in zip(range(1, batches + 1), loader, strict=False):
        if number % max(batches // 40, 1) == 0:
            processes = ['self', *(p.pid for p in multiprocessing.active_children())]
            # Not Pss: a library's pages count by how many processes on the machine
            # share them just now.
            used = sum(resident_mb('Pss_Anon', pid) for pid in processes)
            memory.append((4 * number, used))
            peak = max(peak, sum(resident_mb('Pss', pid) for pid in processes))
    return dict(
        images=count,
        images_per_s=8 * batches / (time.perf_counter() - begin),
        peak_mb=peak,
        growth_mb_per_10000=growth(memory),
    )


PARTS = {
    'start_list': partial(start_from, 'list'),
    'start_folder': partial(start_from, 'folder'),
    'label': label,
    'load': load,
}


def main() -> None:
    """Measure each part in a process of its own."""
    args = parse_args()
    if args.one:
        part, root, file = args.one
        write_atomic(file, json.dumps(PARTS[part](Path(root))))
        return
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_pool(root, args.start)
        make_images(root / 'images', args.label, (32, 64))
        for part in PARTS:
            file = root / 'part.json'
            subprocess.run(
                [sys.executable, __file__, '--one', part, str(root), str(file)],
                check=True,
            )
            report[part] = json.loads(file.read_text())
    report.update(device=hardware('cpu'), mmcast=mmcast.__version__)
    print(json.dumps(report, indent=2))
    if args.json:
        write_atomic(args.json, json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
