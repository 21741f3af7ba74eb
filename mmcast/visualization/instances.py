"""Draw instances over images: annotated ones, and those that a model predicts."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from mmdet.apis import inference_detector, init_detector
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

Masks = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.integer]


def overlay(
    image: npt.NDArray[np.uint8], masks: Masks, labels: Labels
) -> npt.NDArray[np.uint8]:
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
    grey = cv2.cvtColor(large, cv2.COLOR_BGR2GRAY)
    canvas: npt.NDArray[np.uint8] = np.stack([grey, grey, grey], axis=-1)
    for i, (mask, label) in enumerate(zip(masks, labels, strict=True)):
        # On OpenCV's scale of 0 to 179; neighbours differ much.
        hue = int(label) * 67 % 180
        shade = np.array([[[hue, 255 - 40 * (i % 3), 255 - 50 * (i % 2)]]], np.uint8)
        colour = cv2.cvtColor(shade, cv2.COLOR_HSV2BGR)[0, 0].astype(float)
        large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        inside = large > 0
        canvas[inside] = (0.5 * canvas[inside] + 0.5 * colour).astype(np.uint8)
        outlines, _ = cv2.findContours(
            large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        cv2.drawContours(canvas, outlines, -1, colour.tolist(), 1, cv2.LINE_AA)
    return canvas


def annotated(coco: COCO, image_id: int) -> tuple[Masks, Labels]:
    """Return masks (n, H, W) and labels (n,) of an image's objects, without crowds."""
    order = {category: i for i, category in enumerate(sorted(coco.getCatIds()))}
    found = coco.loadAnns(coco.getAnnIds([image_id], iscrowd=False))
    masks = [mask_utils.decode(coco.annToRLE(annotation)) for annotation in found]
    labels = [order[annotation['category_id']] for annotation in found]
    return np.array(masks, bool), np.array(labels, int)


def predicted(
    config: str | Path,
    checkpoint: str | Path,
    images: Sequence[npt.NDArray[np.uint8]],
    score_thr: float = 0.3,
) -> list[tuple[Masks, Labels]]:
    """Return each image's masks (n, H, W) and labels (n,), the best last.

    Args:
        config: The model's config.
        checkpoint: Its weights.
        images: BGR, uint8 (H, W, 3) each.
        score_thr: Instances have a score above it.
    """
    model = init_detector(str(config), str(checkpoint), device='cpu')
    found = []
    for image in images:
        instances = inference_detector(model, image).pred_instances.numpy()
        instances = instances[instances.scores > score_thr]
        instances = instances[np.argsort(instances.scores)]
        found.append((instances.masks, instances.labels))
    return found
