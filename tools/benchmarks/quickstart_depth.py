"""Time SwinMTL's models for the quickstart, and draw its picture."""

import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS
from quickstart_picture import write_grid

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
    measured = np.stack([each.gt_depth.depth[0] for each in truth])
    low, high = depth_range(measured) or (1.0, 80.0)
    bar = depth_bar(low, high, 2 * images[0].shape[1])
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
    grid = {}
    for title, tiles in zip(TITLES, columns, strict=True):
        large = [tile.repeat(2, 0).repeat(2, 1) for tile in tiles]
        footer = bar if 'depth' in title else np.full_like(bar, 255)
        grid[title] = [tile[..., ::-1] for tile in [*large, footer]]
    write_grid(grid, out)
