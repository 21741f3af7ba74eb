"""Labelled images, alone or together with unlabelled ones, under one weak view.

The data set owns its pipelines, so that a config names paths once and by key:
``train_dataloader.dataset.labeled_dataset.ann_file`` and the like.
"""

from collections.abc import Sequence

from mmdet.datasets import ConcatDataset
from mmdet.registry import DATASETS

_LOAD = dict(type='LoadImageFromFile')
_LOAD_LABELS = dict(type='LoadInstances')
_PACK = dict(type='PackDetInputs')


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
    """

    def __init__(
        self,
        labeled_dataset: dict,
        weak_view: Sequence[dict],
        unlabeled_dataset: dict | None = None,
        pseudo_labels: dict | None = None,
    ) -> None:
        if unlabeled_dataset is None:
            pipeline = [_LOAD, _LOAD_LABELS, *weak_view, _PACK]
            super().__init__([{**labeled_dataset, 'pipeline': pipeline}])
            return
        load = _LOAD_LABELS  # an unlabelled image has none
        if pseudo_labels is not None:
            load = dict(type='LoadPseudoAnnotations', **pseudo_labels)
        super().__init__(
            [
                {
                    **labeled_dataset,
                    'pipeline': [_LOAD, _LOAD_LABELS, *weak_view, _packed_as('sup')],
                },
                {
                    **unlabeled_dataset,
                    'pipeline': [_LOAD, load, *weak_view, _packed_as('unsup')],
                },
            ]
        )


def _packed_as(branch: str) -> dict:
    return {'type': 'MultiBranch', 'branch_field': ['sup', 'unsup'], branch: _PACK}
