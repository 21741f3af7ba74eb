"""Draw the quickstart's picture: validation images, ground truth and predictions."""

from pathlib import Path

import cv2
import numpy as np
from mmdet.apis import inference_detector, init_detector
from mmdet.evaluation import get_classes
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from mmcast.files import write_atomic

ROWS = 5
SCORE = 0.3
# One hue per class, on OpenCV's scale of 0 to 179; neighbours differ much.
HUES = np.arange(len(get_classes('cityscapes'))) * 67 % 180


def overlay(image: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Colour instances by class on the grey image; each has a shade and an outline.

    Args:
        image: BGR, uint8 (H, W, 3).
        masks: bool (n, H, W), best last.
        labels: Class indices (n,).

    Returns:
        The picture at twice the size, uint8 (2H, 2W, 3).
    """
    size = (2 * image.shape[1], 2 * image.shape[0])
    large = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    canvas = cv2.cvtColor(cv2.cvtColor(large, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    for i, (mask, label) in enumerate(zip(masks, labels, strict=True)):
        shade = np.uint8([[[int(HUES[label]), 255 - 40 * (i % 3), 255 - 50 * (i % 2)]]])
        colour = cv2.cvtColor(shade, cv2.COLOR_HSV2BGR)[0, 0].astype(float)
        large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        inside = large > 0
        canvas[inside] = (0.5 * canvas[inside] + 0.5 * colour).astype(np.uint8)
        outlines, _ = cv2.findContours(
            large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        cv2.drawContours(canvas, outlines, -1, colour.tolist(), 1, cv2.LINE_AA)
    return canvas


def truth(coco: COCO, image_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ground-truth masks and labels of one image, without crowds."""
    order = {category: i for i, category in enumerate(sorted(coco.getCatIds()))}
    found = coco.loadAnns(coco.getAnnIds(image_id, iscrowd=False))
    masks = [mask_utils.decode(coco.annToRLE(annotation)) for annotation in found]
    labels = [order[annotation['category_id']] for annotation in found]
    return np.array(masks), np.array(labels)


def predict(
    config: Path, checkpoint: Path, images: list[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each image's masks and labels with scores above ``SCORE``, best last."""
    model = init_detector(str(config), str(checkpoint), device='cpu')
    found = []
    for image in images:
        instances = inference_detector(model, image).pred_instances.numpy()
        instances = instances[instances.scores > SCORE]
        instances = instances[np.argsort(instances.scores)]
        found.append((instances.masks, instances.labels))
    return found


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
    found = {'ground truth': [truth(coco, i) for i in ids]}
    for title, config, checkpoint in models:
        found[title] = predict(config, checkpoint, images)
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
