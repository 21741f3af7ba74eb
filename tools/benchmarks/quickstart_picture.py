"""Draw the quickstart's picture: validation images, ground truth and predictions."""

from pathlib import Path

import cv2
import numpy as np
from pycocotools.coco import COCO

from mmcast.files import write_atomic
from mmcast.visualization.instances import annotated, overlay, predicted

ROWS = 5


def draw(models: list[tuple[str, Path, Path]], root: Path, out: Path) -> None:
    """Write the grid: one row per image; columns are ground truth and the models.

    Args:
        models: Title, config and checkpoint of each.
        root: The data set's folder.
        out: The PNG to write.
    """
    coco = COCO(str(root / 'annotations/instancesonly_filtered_gtFine_val.json'))
    ids = sorted(coco.getImgIds(), key=lambda i: -len(coco.getAnnIds(i)))
    # Two very full images show how instances are separated; the rest are ordinary.
    ids = [*ids[2:4], *ids[len(ids) // 2 : len(ids) // 2 + ROWS - 2]]
    files = [root / 'leftImg8bit/val' / coco.imgs[i]['file_name'] for i in ids]
    images = [cv2.imread(str(file)) for file in files]
    found = {'ground truth': [annotated(coco, i) for i in ids]}
    for title, config, checkpoint in models:
        found[title] = predicted(config, checkpoint, images)
    columns = {
        title: [overlay(i, *f) for i, f in zip(images, each, strict=True)]
        for title, each in found.items()
    }
    write_grid(columns, out)


def write_grid(columns: dict[str, list[np.ndarray]], out: Path) -> None:
    """Write pictures side by side.

    Args:
        columns: Title to tiles of one width, BGR, uint8 (H, W, 3).
        out: The PNG to write.
    """
    strips = []
    for title, tiles in columns.items():
        header = np.full((36, tiles[0].shape[1], 3), 255, np.uint8)
        cv2.putText(
            header, title, (8, 25), cv2.FONT_HERSHEY_SIMPLEX, 0.65, 0, 1, cv2.LINE_AA
        )
        strips.append(np.vstack([header, *tiles]))
    written, data = cv2.imencode('.png', np.hstack(strips))
    if not written:
        raise RuntimeError(f'OpenCV could not encode {out}')
    write_atomic(out, data.tobytes())
