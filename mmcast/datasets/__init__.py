"""Data sets, image lists and pseudo-label stores."""

from . import transforms
from .depth_seg_dataset import CityscapesDepthDataset, DepthSegDataset, NYUv2Dataset
from .image_list import ImageListDataset
from .listed_coco import ListedCocoDataset
from .samplers import LabeledUnlabeledSampler, PlacedInfiniteSampler
from .semi_supervised import SemiSupervisedDataset
from .workers import end_with_parent

__all__ = [
    'CityscapesDepthDataset',
    'DepthSegDataset',
    'ImageListDataset',
    'LabeledUnlabeledSampler',
    'ListedCocoDataset',
    'NYUv2Dataset',
    'PlacedInfiniteSampler',
    'SemiSupervisedDataset',
    'end_with_parent',
    'transforms',
]
