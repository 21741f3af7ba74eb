"""Data sets, image lists and pseudo-label stores."""

from . import transforms
from .image_list import ImageListDataset, ListedCocoDataset
from .samplers import LabeledUnlabeledSampler
from .semi_supervised import SemiSupervisedDataset

__all__ = [
    'ImageListDataset',
    'LabeledUnlabeledSampler',
    'ListedCocoDataset',
    'SemiSupervisedDataset',
    'transforms',
]
