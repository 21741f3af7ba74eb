"""Labelled images, alone or together with unlabelled ones, under one weak view.

The data set owns its pipelines, so that a config names paths once and by key:
``train_dataloader.dataset.labeled_dataset.ann_file`` and the like.
"""

import logging
import math
from collections.abc import Collection, Sequence
from inspect import signature
from typing import Any

from mmdet.datasets import ConcatDataset
from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import DATASETS
from mmengine.logging import print_log

from .image_list import ImageListDataset
from .overlap import examples, image_paths
from .seeding import seed_sample

_LOAD_LABELS = dict(type='LoadInstances')
_PACK = dict(type='PackDetInputs')
_META_KEYS = signature(PackDetInputs).parameters['meta_keys'].default


@DATASETS.register_module()
class SemiSupervisedDataset(ConcatDataset):
    """A labelled and maybe an unlabelled data set, for ``LabeledUnlabeledSampler``.

    With both, mmdet's ``MultiBranch`` packs items as ``sup`` and ``unsup``.

    Args:
        labeled_dataset: Config of the labelled data set, without a pipeline.
        weak_view: Transforms between loading and packing, for both.
        unlabeled_dataset: Config of the unlabelled one, without a pipeline; None for
            labelled images alone.
        pseudo_labels: Arguments of ``LoadPseudoAnnotations``; None for an online
            teacher, which labels the batch.
        unreadable_share: So many of the unlabelled images may be unreadable, rounded
            up; they are skipped. More end the run.
        leave_out_labeled: Whether labelled images are taken out of the unlabelled ones
            if these are a whole folder (``ann_file=''``). On a list they stay, with a
            warning. False: a labelled image may also be an unlabelled one, as in
            Guided Distillation's code.
        load_image: Arguments of mmcv's ``LoadImageFromFile`` for both, as
            ``dict(color_type='unchanged')`` for images with 16 bits.
    """

    def __init__(
        self,
        labeled_dataset: dict,
        weak_view: Sequence[dict],
        unlabeled_dataset: dict | None = None,
        pseudo_labels: dict | None = None,
        unreadable_share: float = 0.001,
        leave_out_labeled: bool = True,
        load_image: dict | None = None,
    ) -> None:
        if not 0 <= unreadable_share <= 1:
            raise ValueError(
                f'unreadable_share is {unreadable_share}: give a number from 0 to 1'
            )
        self.unreadable_share = unreadable_share
        labeled_image = dict(type='LoadImage', **load_image or {})
        unlabeled_image = {**labeled_image, 'type': 'LoadUnlabeledImage'}
        if unlabeled_dataset is None:
            pipeline = [labeled_image, _LOAD_LABELS, *weak_view, _PACK]
            super().__init__([{**labeled_dataset, 'pipeline': pipeline}])
            return
        load = _LOAD_LABELS  # an unlabelled image has none
        if pseudo_labels is not None:
            load = dict(type='LoadPseudoAnnotations', **pseudo_labels)
        super().__init__(
            [
                {
                    **labeled_dataset,
                    'pipeline': [
                        *(labeled_image, _LOAD_LABELS, *weak_view),
                        _packed_as('sup'),
                    ],
                },
                {
                    **unlabeled_dataset,
                    'pipeline': [
                        *(unlabeled_image, load, *weak_view),
                        _packed_as('unsup', 'unreadable'),
                    ],
                },
            ]
        )
        if leave_out_labeled:
            self.leave_out(set(image_paths(self.datasets[0])), 'labelled')

    def leave_out(self, paths: Collection[str], kind: str) -> int:
        """Take images out of the unlabelled ones if these are a whole folder.

        If they are a list, or something else, this only warns.

        Args:
            paths: Resolved paths of the images; a set.
            kind: What the images are, for the log.

        Returns:
            The number of images that were taken out.

        Raises:
            ValueError: No image would be left.
        """
        unlabeled = self.datasets[-1]
        shared = {
            index: path
            for index, path in enumerate(image_paths(unlabeled))
            if path in paths
        }
        if not shared:
            return 0
        of = f'{len(shared)} of {len(unlabeled)} unlabelled images'
        named = examples([*shared.values()])
        if not isinstance(unlabeled, ImageListDataset) or unlabeled.ann_file:
            remedy = f"take them off '{unlabeled.ann_file}'"
            if kind == 'labelled':
                remedy += ', or set leave_out_labeled=False if you want both'
            print_log(
                f'{of} are {kind} images, too: {named}; {remedy}',
                logger='current',
                level=logging.WARNING,
            )
            return 0
        if len(shared) == len(unlabeled):
            raise ValueError(
                f"all {len(unlabeled)} images below '{unlabeled.data_prefix['img']}' "
                f'are {kind} images: give a folder or a list of unlabelled ones'
            )
        unlabeled.leave_out(shared)
        self.cumulative_sizes = self.cumsum(self.datasets)
        print_log(
            f"left out {of} below '{unlabeled.data_prefix['img']}', since they are "
            f'{kind} images: {named}',
            logger='current',
        )
        return len(shared)

    def allowed_unreadable(self) -> int:
        """Return how many unlabelled images may be unreadable."""
        return math.ceil(self.unreadable_share * len(self.datasets[-1]))

    def __getitem__(self, idx: int) -> Any:
        """Return a sample; its random numbers depend on its place alone."""
        seed_sample(idx)
        return super().__getitem__(int(idx))


def _packed_as(branch: str, *more: str) -> dict:
    """Pack a branch, with further keys of the meta information."""
    pack = {**_PACK, 'meta_keys': (*_META_KEYS, *more)}
    return {'type': 'MultiBranch', 'branch_field': ['sup', 'unsup'], branch: pack}
