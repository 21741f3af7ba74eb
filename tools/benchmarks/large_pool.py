"""Measure what a pool of a million images costs: start-up, and memory of labelling.

    python tools/benchmarks/large_pool.py --json work_dirs/large_pool.json

`start`: seconds and peak memory to build the image list data set, once from a list and
once from the folder, to ask a store what is missing, and the memory that each forked
worker has for itself after it has read all its items. The images are empty files, since
nothing opens them.

`label`: memory of `label_images` over many images, and its growth per 10,000 images in
the second half. A stand-in predicts one mask an image, as a detector would take days.

Each part runs in a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import Config
from mmengine.structures import InstanceData
from rich.progress import track
from torch import nn
from torch.utils.data import DataLoader, Dataset

import mmcast
from mmcast.apis import label_images
from mmcast.datasets import ImageListDataset
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.utils import write_atomic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from labelling import make_images, peak_mb
from runs import hardware

WORKERS = 2


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--start', type=int, default=1_000_000, help='images listed')
    parser.add_argument('--label', type=int, default=20_000, help='images labelled')
    parser.add_argument('--json', type=Path, help='file for the numbers')
    parser.add_argument('--one', nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def resident_mb(kind: str = 'Rss') -> float:
    """Return this process's memory; ``'Private_Dirty'`` is shared with no other."""
    lines = Path('/proc/self/smaps_rollup').read_text().splitlines()
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


def start(root: Path, way: str) -> dict[str, Any]:
    """Build the data set, ask a store, and read all items in workers."""
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


def label(root: Path, way: str) -> dict[str, Any]:
    """Label all images; return the memory and its growth in the second half."""
    names = sorted(path.name for path in (root / 'images').iterdir())
    store = PseudoLabelStore.create(
        root / 'store', classes=['a'], teacher=Teacher('none', 'none', 'none')
    )
    model = _StandIn(every=max(len(names) // 40, 1))
    begin = time.perf_counter()
    label_images(model, names, root / 'images', store, num_workers=1, progress=False)
    half = np.array(model.memory[len(model.memory) // 2 :])
    return dict(
        images=len(names),
        images_per_s=len(names) / (time.perf_counter() - begin),
        peak_mb=peak_mb(),
        growth_mb_per_10000=10_000 * float(np.polyfit(half[:, 0], half[:, 1], 1)[0]),
    )


def main() -> None:
    """Measure each part in a process of its own."""
    args = parse_args()
    if args.one:
        part, way, root, file = args.one
        measure = dict(start=start, label=label)[part]
        write_atomic(file, json.dumps(measure(Path(root), way)))
        return
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_pool(root, args.start)
        make_images(root / 'images', args.label, (32, 64))
        for part, way in (('start', 'list'), ('start', 'folder'), ('label', 'ours')):
            file = root / 'part.json'
            subprocess.run(
                [sys.executable, __file__, '--one', part, way, str(root), str(file)],
                check=True,
            )
            report[f'{part}_{way}'] = json.loads(file.read_text())
    report.update(device=hardware('cpu'), mmcast=mmcast.__version__)
    print(json.dumps(report, indent=2))
    if args.json:
        write_atomic(args.json, json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
