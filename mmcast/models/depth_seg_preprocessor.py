"""Batches of images with labels and depth: padding, and mixing by pasting."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class DepthSegDataPreprocessor(DetDataPreprocessor):
    """mmdet's preprocessor that pads labels with 255 and depth with 0.

    Args:
        kwargs: As ``DetDataPreprocessor``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{'pad_seg': True, **kwargs})

    def pad_gt_sem_seg(self, batch_data_samples: Sequence[DetDataSample]) -> None:
        """Pad labels and depth to the size of the batch's images."""
        maps = ('gt_sem_seg', 'sem_seg', self.seg_pad_value), ('gt_depth', 'depth', 0)
        for sample in batch_data_samples:
            height, width = sample.batch_input_shape
            for field, key, value in maps:
                if field in sample:
                    found = sample.get(field).get(key)
                    right, below = width - found.shape[-1], height - found.shape[-2]
                    padded = F.pad(found, (0, right, 0, below), value=value)
                    setattr(sample, field, PixelData(**{key: padded}))


# Least and greatest side of a pasted square, as a share of the image's height.
SIDE = (1 / 8, 1 / 2)


@MODELS.register_module()
class PasteMix(nn.Module):
    """Paste squares of another image of the batch, with its labels and its depth.

    Source: SwinMTL (arXiv 2403.10662), section on augmentation, and its code, where it
    is called MixUp; it is CutMix with several boxes. The images are permuted at random;
    each gets some squares of its partner. A square may run off the edge.

    Use it as ``data_preprocessor.batch_augments``.

    Args:
        boxes: Least and greatest number of squares of an image.
        prob: Probability that a batch is mixed.
    """

    def __init__(
        self,
        boxes: Sequence[int] = (1, 4),
        prob: float = 1.0,
    ) -> None:
        super().__init__()
        self.boxes = tuple(boxes)
        self.prob = prob

    def forward(
        self, inputs: Tensor, data_samples: list[DetDataSample]
    ) -> tuple[Tensor, list[DetDataSample]]:
        """Mix a batch on its device.

        Args:
            inputs: Images, float (N, C, H, W).
            data_samples: With ``gt_sem_seg`` or ``gt_depth`` or both, of the images'
                size.

        Returns:
            New images, and the samples with new maps.

        Raises:
            ValueError: There is one image, or some samples have a map that others
                lack.
        """
        count = len(inputs)
        if count < 2 and self.prob:
            raise ValueError(
                f'PasteMix got a batch of {count} image: give each device a batch_size '
                'of at least 2, or set data_preprocessor.batch_augments=None'
            )
        if torch.rand(()) >= self.prob:
            return inputs, data_samples
        maps = {
            field: [
                sample.get(field).get(key) for sample in data_samples if field in sample
            ]
            for field, key in (('gt_sem_seg', 'sem_seg'), ('gt_depth', 'depth'))
        }
        for field, found in maps.items():
            if len(found) not in (0, count):
                raise ValueError(
                    f'{len(found)} of {count} samples have {field}: PasteMix needs it '
                    'in all or in none'
                )
        height, width = inputs.shape[-2:]
        partner = torch.randperm(count).tolist()
        mixed = inputs.clone()
        new = {field: [part.clone() for part in found] for field, found in maps.items()}
        least, most = (int(share * height) for share in SIDE)
        for index, other in enumerate(partner):
            for _ in range(_integer(self.boxes[0], self.boxes[1] + 1)):
                side = _integer(least, max(most, least + 1))
                top, left = _integer(0, height), _integer(0, width)
                box = (..., slice(top, top + side), slice(left, left + side))
                mixed[index][box] = inputs[other][box]
                for field, found in maps.items():
                    if found:
                        new[field][index][box] = found[other][box]
        for index, sample in enumerate(data_samples):
            if maps['gt_sem_seg']:
                sample.gt_sem_seg = PixelData(sem_seg=new['gt_sem_seg'][index])
            if maps['gt_depth']:
                sample.gt_depth = PixelData(depth=new['gt_depth'][index])
        return mixed, data_samples


def _integer(low: int, high: int) -> int:
    return int(torch.randint(low, high, ()))
