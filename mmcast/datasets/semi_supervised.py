"""Labelled images, alone or together with unlabelled ones, under one weak view.

The data set owns its pipelines, so that a config names paths once and by key:
``train_dataloader.dataset.labeled_dataset.ann_file`` and the like. Or it keeps the
pipeline of a user's own labelled data set, and gives unlabelled images the same one.
"""

import copy
import logging
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import ConcatDataset
from mmdet.datasets.transforms import (
    LoadAnnotations,
    MultiBranch,
    PackDetInputs,
    RandomCrop,
)
from mmdet.registry import DATASETS
from mmengine.dataset import Compose
from mmengine.logging import print_log

from .image_list import ImageListDataset
from .image_names import examples
from .overlap import image_paths
from .seeding import seed_sample
from .transforms.flips import mirror_aware
from .transforms.images import LoadUnlabeledImage
from .transforms.loading import LoadPseudoAnnotations

_LOAD_LABELS = dict(type='LoadInstances')
_PACK = dict(type='PackDetInputs')
_BRANCHES = ['sup', 'unsup']


@DATASETS.register_module()
class SemiSupervisedDataset(ConcatDataset):
    """A labelled and maybe an unlabelled data set, for ``LabeledUnlabeledSampler``.

    With both, mmdet's ``MultiBranch`` packs items as ``sup`` and ``unsup``.

    If ``metainfo`` of the labelled data set has ``mirrored``, flips swap the labels of
    these pairs of classes, see :func:`mirror_aware`.

    A source may be wrapped, as by ``RepeatDataset`` or ``MultiImageMixDataset``. Images
    are mixed within a source.

    A pipeline with ``poly2mask=False`` loads polygons, and mmdet ignores an object
    whose mask is an RLE. If there are any, masks are loaded with ``poly2mask=True``.

    Args:
        labeled_dataset: Config of the labelled data set; without a pipeline if
            ``weak_view`` is given.
        weak_view: Transforms between loading and packing, for both. None for the
            pipeline of ``labeled_dataset``. Unlabelled images get the same one, with
            pseudo-labels in place of annotations.
        unlabeled_dataset: Config of the unlabelled one, without a pipeline; its type is
            ``ImageListDataset`` unless given, and its classes are those of the labelled
            one. None for labelled images alone.
        pseudo_labels: Arguments of ``LoadPseudoAnnotations``, whose store must have the
            data set's classes; None for an online teacher, which labels the batch: then
            a ``RandomCrop`` returns crops without an object, too.
        unreadable_share: So many of the unlabelled images may be unreadable, rounded
            up; they are skipped. More end the run.
        leave_out_labeled: Whether labelled images are taken out of the unlabelled ones
            if these are a whole folder (``ann_file=''``). On a list they stay, with a
            warning. False: a labelled image may also be an unlabelled one, as in
            Guided Distillation's code.
        load_image: Arguments of mmcv's ``LoadImageFromFile`` for both, as
            ``dict(color_type='unchanged')`` for images with 16 bits; with
            ``weak_view`` only.

    Raises:
        ValueError: An argument is out of its range, or a pipeline does not load images
            and masks and pack them.
    """

    def __init__(
        self,
        labeled_dataset: dict,
        weak_view: Sequence[dict] | None = None,
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
        self.pseudo_labels = pseudo_labels
        self._skipped: list[str] = []  # of the sample that is being made
        if unlabeled_dataset is not None:
            unlabeled_dataset = {'type': 'ImageListDataset', **unlabeled_dataset}
        if weak_view is not None:
            load = [dict(type='LoadImage', **load_image or {}), _LOAD_LABELS]
            view = [*weak_view, _PACK]
            labeled_dataset = _piped(labeled_dataset, load, view)
            if unlabeled_dataset is not None:
                unlabeled_dataset = _piped(unlabeled_dataset, load, view)
        elif load_image is not None:
            raise ValueError(
                'load_image goes with weak_view: without it, give these arguments to '
                "LoadImageFromFile in labeled_dataset's pipeline"
            )
        elif unlabeled_dataset is not None:
            unlabeled_dataset = _piped_like(labeled_dataset, unlabeled_dataset)
        parts = [labeled_dataset, unlabeled_dataset]
        # mmdet writes cumulative_sizes into the metainfo of a ConcatDataset inside.
        super().__init__(
            [part for part in parts if part is not None],
            ignore_keys=['cumulative_sizes'],
        )
        self._metainfo = self.datasets[0].metainfo
        for dataset in self.datasets:
            for part in with_pipelines(dataset):
                steps = _steps(part)
                steps[:] = mirror_aware(steps, self._metainfo)
        _keep_rles(self.datasets[0])
        if unlabeled_dataset is None:
            return
        for part in leaves(self.datasets[1]):
            if 'classes' not in part.metainfo:
                part._metainfo = {**self._metainfo, **part.metainfo}
        for branch, dataset in zip(_BRANCHES, self.datasets, strict=True):
            for part in with_pipelines(dataset):
                steps = _steps(part)
                steps[:] = [self._of_branch(branch, each) for each in steps]
            _check_steps(branch, dataset)
        if leave_out_labeled:
            self.leave_out(set(image_paths(self.datasets[0])), 'labelled')

    @property
    def pipeline(self) -> Any:
        """The transforms of labelled images; set, as by ``PipelineSwitchHook``, of all.

        What is set are stock transforms, which load annotations and pack.
        """
        return next(leaves(self.datasets[0])).pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Any) -> None:
        for branch, dataset in zip(_BRANCHES, self.datasets, strict=False):
            steps = mirror_aware(copy.deepcopy(pipeline.transforms), self._metainfo)
            if len(self.datasets) > 1:
                steps = [self._of_branch(branch, each) for each in steps]
            for part in leaves(dataset):
                part.pipeline = Compose(steps)
            if len(self.datasets) > 1:
                _check_steps(branch, dataset)
        _keep_rles(self.datasets[0])

    def _of_branch(self, branch: str, step: Any) -> Any:
        """Replace a transform that loads or packs by that of a branch."""
        if isinstance(step, PackDetInputs):
            return MultiBranch(_BRANCHES, **{branch: [step]})
        if branch == 'sup':
            return step
        if isinstance(step, LoadImageFromFile):
            unlabeled = LoadUnlabeledImage()
            unlabeled.__dict__.update(step.__dict__, skipped=self._skipped)
            return unlabeled
        if isinstance(step, LoadAnnotations) and self.pseudo_labels is not None:
            classes = self._metainfo.get('classes')
            return LoadPseudoAnnotations(**{'classes': classes, **self.pseudo_labels})
        # Without labels every crop is as good as another.
        return step if self.pseudo_labels is not None else _cropped_anywhere(step)

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
        count = sum(
            self._leave_out(each, paths, kind) for each in leaves(self.datasets[-1])
        )
        if count:
            _count_again(self.datasets[-1])
            self.cumulative_sizes = self.cumsum(self.datasets)
        return count

    def _leave_out(self, unlabeled: Any, paths: Collection[str], kind: str) -> int:
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
        """Return a sample; its random numbers depend on its place alone.

        The meta information of an unlabelled sample has ``unreadable`` if images were
        skipped while it was made: path and reason of each, for
        :class:`UnreadableImagesHook`.
        """
        seed_sample(idx)
        sample = super().__getitem__(int(idx))
        if self._skipped:
            told = dict(unreadable=[*self._skipped])
            sample['data_samples']['unsup'].set_metainfo(told)
            self._skipped.clear()
        return sample


def leaves(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside ConcatDataset, RepeatDataset and other wrappers."""
    if hasattr(dataset, 'datasets'):
        for part in dataset.datasets:
            yield from leaves(part)
    elif hasattr(dataset, 'dataset'):
        yield from leaves(dataset.dataset)
    else:
        yield dataset


def with_pipelines(dataset: Any) -> Iterator[Any]:
    """Yield those data sets, wrappers too, that have a pipeline of their own."""
    if isinstance(getattr(dataset, 'pipeline', None), Compose | list):
        yield dataset
    for part in getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)]):
        if part is not None:
            yield from with_pipelines(part)


def _steps(dataset: Any) -> list[Any]:
    return getattr(dataset.pipeline, 'transforms', dataset.pipeline)


def _check_steps(branch: str, dataset: Any) -> None:
    """Check that each image is loaded with its labels, and packed for its branch."""
    steps = [step for part in with_pipelines(dataset) for step in _steps(part)]
    wanted = {
        'LoadImageFromFile': LoadImageFromFile,
        'LoadAnnotations': (LoadAnnotations, LoadPseudoAnnotations),
        'PackDetInputs': MultiBranch,
    }
    for name, kinds in wanted.items():
        if not any(isinstance(step, kinds) for step in steps):
            raise ValueError(
                f'the pipeline of the {branch} images has no {name}: give it as its '
                "stock transform to labeled_dataset.pipeline, or give 'weak_view'"
            )
    for step in steps:
        if isinstance(step, LoadAnnotations) and not (
            step.with_mask and step.with_bbox
        ):
            raise ValueError(
                'LoadAnnotations in labeled_dataset.pipeline loads no masks: set '
                'with_bbox=True and with_mask=True'
            )


def _cropped_anywhere(step: Any) -> Any:
    """Let mmdet's ``RandomCrop``, also one inside a choice, return crops without boxes.

    Else it returns no image without labels at all.
    """
    if isinstance(step, list | tuple):
        return [_cropped_anywhere(each) for each in step]
    step = copy.copy(step)
    if isinstance(step, RandomCrop):
        step.allow_negative_crop = True
    elif hasattr(step, 'transforms'):
        step.transforms = _cropped_anywhere(step.transforms)
    return step


def _keep_rles(labeled: Any) -> None:
    """Load masks as pixels if some are RLEs: mmdet would mark these as ignored."""
    for dataset in leaves(labeled):
        loading = [
            step
            for step in _steps(dataset)
            if isinstance(step, LoadAnnotations) and not step.poly2mask
        ]
        if not loading:
            continue
        are_rles = [
            isinstance(instance.get('mask'), dict)
            for index in range(len(dataset))
            for instance in dataset.get_data_info(index)['instances']
            if not instance['ignore_flag']
        ]
        if any(are_rles):
            print_log(
                f'{sum(are_rles)} of {len(are_rles)} labelled objects have an RLE as '
                'mask, and mmdet ignores these if LoadAnnotations has poly2mask=False: '
                'masks are loaded with poly2mask=True',
                logger='current',
                level=logging.WARNING,
            )
            for step in loading:
                step.poly2mask = True


def _piped(config: dict, load: list[dict], view: list[dict]) -> dict:
    """Give a data set its pipeline; a wrapper that mixes images has the later part."""
    if 'datasets' in config:
        parts = [_piped(part, load, view) for part in config['datasets']]
        return {**config, 'datasets': parts}
    if 'dataset' not in config:
        return {**config, 'pipeline': [*load, *view]}
    if 'pipeline' not in config:  # as RepeatDataset
        return {**config, 'dataset': _piped(config['dataset'], load, view)}
    return {
        **config,
        'dataset': _piped(config['dataset'], load, []),
        'pipeline': [*config['pipeline'], *view],
    }


def _piped_like(labeled: dict, unlabeled: dict) -> dict:
    """Give a data set the pipeline of another one, and the wrapper that mixes."""
    if 'datasets' in labeled:
        return _piped_like(labeled['datasets'][0], unlabeled)
    if 'dataset' not in labeled:
        if 'pipeline' not in labeled:
            raise ValueError(
                'labeled_dataset has no pipeline: give its own, or give weak_view'
            )
        return {'pipeline': labeled['pipeline'], **unlabeled}
    inside = _piped_like(labeled['dataset'], unlabeled)
    return {**labeled, 'dataset': inside} if 'pipeline' in labeled else inside


def _count_again(dataset: Any) -> None:
    """Let wrappers know that the data sets inside have another length."""
    inside = getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)])
    if inside == [None]:
        return
    for part in inside:
        _count_again(part)
    if hasattr(dataset, 'num_samples'):
        dataset.num_samples = len(dataset.dataset)
    dataset._fully_initialized = False
    dataset.full_init()
