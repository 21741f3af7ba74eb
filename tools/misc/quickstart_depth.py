"""Time SwinMTL's models for the quickstart, and draw its picture."""

import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS

from mmcast.utils import write_atomic
from mmcast.visualization.depth_seg_visualizer import (
    colour_depth,
    colour_labels,
    depth_bar,
    depth_range,
)

ROWS = 5
REPEATS = 20
TITLES = ('image', 'labels', 'predicted labels', 'depth', 'predicted depth')


def milliseconds(
    repo: Path, files: dict[str, tuple[str, str]], data: Path
) -> dict[str, float]:
    """Return the median time of one image for each model, all measured in turn.

    The time includes the test pipeline, which is the same for all.

    Args:
        repo: Folder of the configs.
        files: Config below ``repo`` and checkpoint, by model.
        data: Folder of the data set.
    """
    image = cv2.imread(str(min((data / 'leftImg8bit/val').rglob('*.png'))))
    models = {
        name: init_detector(str(repo / config), checkpoint, device='cpu')
        for name, (config, checkpoint) in files.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(REPEATS + 1):
        for name, model in models.items():
            start = time.perf_counter()
            inference_detector(model, image)
            taken[name].append(1000 * (time.perf_counter() - start))
    return {name: round(statistics.median(t[1:]), 1) for name, t in taken.items()}


def draw(config: Path, checkpoint: Path, out: Path) -> None:
    """Write the grid: one row per image; columns are ``TITLES``.

    Args:
        config: Config of the model for both tasks.
        checkpoint: Its weights.
        out: The PNG to write.
    """
    model = init_detector(str(config), str(checkpoint), device='cpu')
    scenes = DATASETS.build(model.cfg.val_dataloader.dataset)
    palette = scenes.metainfo['palette']
    chosen = range(0, len(scenes), max(1, len(scenes) // ROWS))[:ROWS]
    images = [cv2.imread(scenes.get_data_info(i)['img_path']) for i in chosen]
    truth = [scenes[i]['data_samples'] for i in chosen]
    found = [inference_detector(model, image) for image in images]
    # One scale of depth for all pictures.
    low, high = depth_range(np.stack([each.gt_depth.depth[0] for each in truth])) or (
        1,
        80,
    )
    columns = (
        [image[..., ::-1] for image in images],
        [colour_labels(each.gt_sem_seg.sem_seg[0].numpy(), palette) for each in truth],
        [
            colour_labels(each.pred_sem_seg.sem_seg[0].numpy(), palette)
            for each in found
        ],
        [colour_depth(each.gt_depth.depth[0].numpy(), low, high) for each in truth],
        [colour_depth(each.pred_depth.depth[0].numpy(), low, high) for each in found],
    )
    strips = []
    for title, tiles in zip(TITLES, columns, strict=True):
        size = (2 * tiles[0].shape[1], 2 * tiles[0].shape[0])
        large = [
            cv2.resize(tile, size, interpolation=cv2.INTER_NEAREST) for tile in tiles
        ]
        header = np.full((36, size[0], 3), 255, np.uint8)
        cv2.putText(
            header, title, (8, 25), cv2.FONT_HERSHEY_SIMPLEX, 0.65, 0, 1, cv2.LINE_AA
        )
        footer = depth_bar(low, high, size[0])
        if 'depth' not in title:
            footer = np.full_like(footer, 255)
        strips.append(np.vstack([header, *large, footer]))
    written, data = cv2.imencode('.png', np.hstack(strips)[..., ::-1])
    if not written:
        raise RuntimeError(f'OpenCV could not encode {out}')
    write_atomic(out, data.tobytes())
