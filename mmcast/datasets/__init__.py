"""Data sets, image lists and pseudo-label stores."""

from . import transforms
from .image_list import ImageListDataset, ListedCocoDataset
from .semi_supervised import LabeledDataset, SemiSupervisedDataset

__all__ = [
    'ImageListDataset',
    'LabeledDataset',
    'ListedCocoDataset',
    'SemiSupervisedDataset',
    'transforms',
]
