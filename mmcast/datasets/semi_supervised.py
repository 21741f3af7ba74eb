"""Labelled, or labelled and unlabelled images, with one weak view for both.

These two own their pipelines, so that a config names paths once and by key:
``train_dataloader.dataset.labeled_dataset.ann_file`` and the like.
"""

from collections.abc import Sequence

from mmdet.datasets import ConcatDataset
from mmdet.registry import DATASETS

_LOAD_LABELS = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
]


@DATASETS.register_module()
class LabeledDataset(ConcatDataset):
    """One labelled data set under a weak view.

    Args:
        labeled_dataset: Config of the data set, without a pipeline.
        weak_view: Transforms between loading and packing.
    """

    def __init__(self, labeled_dataset: dict, weak_view: Sequence[dict]) -> None:
        pipeline = [*_LOAD_LABELS, *weak_view, dict(type='PackDetInputs')]
        super().__init__([{**labeled_dataset, 'pipeline': pipeline}])


@DATASETS.register_module()
class SemiSupervisedDataset(ConcatDataset):
    """A labelled and an unlabelled data set, in this order, for MultiSourceSampler.

    Items are packed by mmdet's ``MultiBranch`` as ``sup`` and ``unsup``.

    Args:
        labeled_dataset: Config of the labelled data set, without a pipeline.
        unlabeled_dataset: Config of the unlabelled one, likewise.
        weak_view: Transforms between loading and packing, for both.
        pseudo_labels: Arguments of ``LoadPseudoAnnotations``, or None where an
            online teacher labels the batch.
    """

    def __init__(
        self,
        labeled_dataset: dict,
        unlabeled_dataset: dict,
        weak_view: Sequence[dict],
        pseudo_labels: dict | None,
    ) -> None:
        load_unlabeled = _LOAD_LABELS  # of which an unlabelled image has none
        if pseudo_labels is not None:
            load_unlabeled = [
                _LOAD_LABELS[0],
                dict(type='LoadPseudoAnnotations', **pseudo_labels),
            ]
        super().__init__(
            [
                {
                    **labeled_dataset,
                    'pipeline': [*_LOAD_LABELS, *weak_view, _pack('sup')],
                },
                {
                    **unlabeled_dataset,
                    'pipeline': [*load_unlabeled, *weak_view, _pack('unsup')],
                },
            ]
        )


def _pack(branch: str) -> dict:
    return {
        'type': 'MultiBranch',
        'branch_field': ['sup', 'unsup'],
        branch: dict(type='PackDetInputs'),
    }
