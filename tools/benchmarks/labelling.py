"""Compare labelling at scale with the obvious way: images per second, peak memory.

    python tools/benchmarks/labelling.py --json work_dirs/labelling.json
    python tools/benchmarks/labelling.py --config CONFIG --checkpoint TEACHER \
        --img-root DIR --images 100 1000

Without --config, a tiny teacher with random weights labels generated images. `ours` is
`label_images`: one file per image, one mask at a time. `obvious` decodes, detects and
segments one image at a time, keeps all masks, and writes one COCO file at the end. Each
number comes from a process of its own. Peak memory is that of its resident memory.
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
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import MODELS
from mmengine import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils
from rich.progress import track

import mmcast
from mmcast.apis import label_images
from mmcast.datasets import ImageListDataset
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.files import write_atomic

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'mmcast'
DIFFERENT = 20  # generated images; the others are links to them


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', type=Path, help='teacher (default: a tiny one)')
    parser.add_argument('--checkpoint', type=Path, help='its checkpoint')
    parser.add_argument('--img-root', type=Path, help='images (default: generated)')
    parser.add_argument('--size', type=int, nargs=2, default=(64, 128))
    parser.add_argument('--images', type=int, nargs='+', default=(100, 10000))
    parser.add_argument('--obvious', type=int, nargs='*', default=(100, 1000))
    parser.add_argument('--num-workers', type=int, default=0)
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument('--json', type=Path, help='file for the numbers')
    parser.add_argument('--one', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if (args.config is None) != (args.checkpoint is None):
        parser.error('give both --config and --checkpoint')
    return args


def save_tiny_teacher(folder: Path, size: tuple[int, int]) -> tuple[Path, Path]:
    """Write config and checkpoint of a tiny composite; return their paths."""
    from mmcast.testing import save_bert, teacher_config

    init_default_scope('mmdet')
    config = Config.fromfile(CONFIGS / 'adapt_cityscapes.py')
    # With random weights: no threshold, but as few instances as a trained teacher has.
    config.model = teacher_config(
        save_bert(folder / 'bert'), score_thr=0.0, max_per_img=10
    )
    config.custom_hooks = []
    pipeline = config.test_dataloader.dataset.pipeline
    for transform in pipeline:
        if transform['type'] == 'FixScaleResize':
            transform['scale'] = size[::-1]
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    config.dump(folder / 'teacher.py')
    content = dict(
        state_dict=model.state_dict(),
        meta=dict(dataset_meta=dict(classes=model.classes)),
    )
    torch.save(content, folder / 'teacher.pth')
    return folder / 'teacher.py', folder / 'teacher.pth'


def make_images(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Write images of blobs; most of them are links to the first ones."""
    import cv2

    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(count):
        path = folder / f'{i:06d}.png'
        if i < DIFFERENT:
            coarse = random.integers(0, 255, (6, 12, 3), np.uint8)
            cv2.imwrite(str(path), cv2.resize(coarse, size[::-1]))
        else:
            os.link(folder / f'{i % DIFFERENT:06d}.png', path)


def label_obviously(model: Any, names: list[str], root: Path, out: Path) -> None:
    """Label with all masks of all images in memory; write one file at the end."""
    results = []
    for name in track(names, 'Labelling'):
        found = inference_detector(model, str(root / name)).pred_instances.cpu()
        results.append((name, found.labels, found.scores, found.masks.numpy()))
    annotations = [
        dict(
            image=name,
            category_id=int(label),
            score=float(score),
            segmentation=mask_utils.encode(np.asfortranarray(mask))['counts'].decode(),
        )
        for name, labels, scores, masks in results
        for label, score, mask in zip(labels, scores, masks, strict=True)
    ]
    write_atomic(out, json.dumps(annotations))


def measure(args: argparse.Namespace, way: str, count: int) -> dict[str, Any]:
    """Label once in this process; return the numbers."""
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', '1')))
    images = ImageListDataset(ann_file='', data_prefix=dict(img=str(args.img_root)))
    names = [images.get_data_info(i)['img_name'] for i in range(len(images))][:count]
    model = init_detector(
        str(args.config), str(args.checkpoint), device=args.device, cfg_options={}
    )
    inference_detector(model, str(args.img_root / names[0]))  # a warm-up
    ready = peak_mb()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if way == 'ours':
            store = PseudoLabelStore.create(
                Path(folder) / 'store',
                classes=model.dataset_meta['classes'],
                teacher=Teacher.from_files(args.config, args.checkpoint),
            )
            label_images(
                model,
                names,
                args.img_root,
                store,
                num_workers=args.num_workers,
            )
        else:
            label_obviously(model, names, args.img_root, Path(folder) / 'coco.json')
    seconds = time.perf_counter() - start
    cuda = torch.cuda.max_memory_allocated() / 1e6 if args.device != 'cpu' else None
    return dict(
        way=way,
        images=len(names),
        images_per_s=len(names) / seconds,
        peak_mb=peak_mb(),
        ready_mb=ready,
        gpu_peak_mb=cuda,
    )


def peak_mb() -> float:
    """Return the peak resident memory of this process so far.

    `getrusage` would give the peak of the process that started this one, if larger.
    """
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith('VmHWM:')) * 1.024e-3


def main() -> None:
    """Measure each case in a process of its own."""
    args = parse_args()
    if args.one:
        way, count, file = args.one
        write_atomic(Path(file), json.dumps(measure(args, way, int(count))))
        return
    cases = [('ours', n) for n in args.images] + [('obvious', n) for n in args.obvious]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, checkpoint, root = args.config, args.checkpoint, args.img_root
        if config is None:
            config, checkpoint = save_tiny_teacher(folder, tuple(args.size))
        if root is None:
            root = folder / 'images'
            make_images(root, max(count for _, count in cases), tuple(args.size))
        options = ['--config', config, '--checkpoint', checkpoint, '--img-root', root]
        options += ['--num-workers', args.num_workers, '--device', args.device]
        for way, count in cases:
            print(f'{way}, {count} images', flush=True)
            file = folder / 'row.json'
            command = [sys.executable, __file__, *options, '--one', way, count, file]
            subprocess.run([str(part) for part in command], check=True)
            rows.append(json.loads(file.read_text()))
    print('\nway       images  images/s  peak MB  for labelling')
    for row in rows:
        print(
            f'{row["way"]:8} {row["images"]:7} {row["images_per_s"]:9.2f} '
            f'{row["peak_mb"]:8.0f} {row["peak_mb"] - row["ready_mb"]:8.0f}'
        )
    report = dict(
        cases=rows,
        device=args.device,
        threads=int(os.environ.get('OMP_NUM_THREADS', '1')),
        mmcast=mmcast.__version__,
    )
    if args.json:
        write_atomic(args.json, json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
