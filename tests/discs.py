"""Images of a disc on a darker ground, for segmenters that learn in seconds."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData


def disc(random):
    """Draw an image, float (3, 64, 64), its disc's box and mask, bool (64, 64)."""
    radius = random.integers(8, 20)
    centre = random.integers(radius, 64 - radius, 2)
    y, x = np.mgrid[:64, :64]
    mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    image = random.integers(0, 90, (3, 64, 64)) + 150 * mask
    (top, left), (bottom, right) = centre - radius, centre + radius + 1
    return torch.tensor(image).float(), [left, top, right, bottom], mask


def sample_of(box, mask):
    """Return the data sample of an image with one object."""
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([box]).float(),
        labels=torch.zeros(1, dtype=torch.long),
        masks=BitmapMasks(mask[None].astype(np.uint8), 64, 64),
    )
    return sample


def batch(seeds):
    """Return an image of each seed, float (n, 3, 64, 64), and their samples."""
    images, boxes, masks = zip(
        *(disc(np.random.default_rng(seed)) for seed in seeds), strict=True
    )
    return torch.stack(images), [*map(sample_of, boxes, masks)]
