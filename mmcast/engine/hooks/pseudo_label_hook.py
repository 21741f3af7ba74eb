"""Label what is missing before the first batch is drawn."""

import contextlib
import gc
import logging
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.dist import barrier
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn

from mmcast.apis.label_images import finish, label_images, make_store
from mmcast.apis.label_summary import LabelSummary, summarise
from mmcast.apis.load_model import load_model
from mmcast.apis.merged_views import Views
from mmcast.apis.ranks import on_rank_zero, raise_on_all_ranks
from mmcast.datasets.image_names import examples
from mmcast.datasets.image_tars import image_path
from mmcast.datasets.pseudo_label_store import PseudoLabelStore
from mmcast.datasets.semi_supervised import SemiSupervisedDataset, leaves
from mmcast.datasets.store_coco import from_coco
from mmcast.datasets.transforms.images import LoadImage, UnreadableImageError
from mmcast.datasets.transforms.loading import LoadPseudoAnnotations
from mmcast.engine.loader import restart_loader
from mmcast.engine.stages import (
    command_of,
    config_of,
    is_file,
    labels_of,
    mask_ap,
    sam3_command,
)
from mmcast.files import check_writable
from mmcast.sam3 import MADE_BY


@HOOKS.register_module()
class PseudoLabelHook(Hook):
    """Make the pseudo-labels that the training data set asks for.

    They go to the store that ``LoadPseudoAnnotations`` in the unlabelled data set's
    pipeline names, by default to ``pseudo_labels`` next to the teacher's checkpoint.
    The teacher is built only if the store lacks labels; a complete store does not need
    its checkpoint.

    Labels of any other tool come in by its COCO JSON, or by a folder that it filled,
    which then is the teacher.

    Args:
        teacher: The teacher's checkpoint file; or a COCO JSON with labels of the
            unlabelled images (:func:`mmcast.apis.from_coco`); or the folder of their
            labels (`mmcast label --teacher sam3`). Of several checkpoints,
            the one with the highest mask AP is taken, as the stages that left them
            measured it; the first if it was not measured.
        config: Its config: of a plain detector, or of a wrapper with the teacher as
            student. None for the config of the stage that leaves ``teacher``
            (:mod:`mmcast.engine.stages`).
        batch_size: Images per forward pass and device.
        views: What the teacher sees of an image, as ``dict(flip=True, scales=[1,
            1.25])``; what it finds in all views is merged
            (:mod:`mmcast.apis.merged_views`). None for the image as it is.
        layout: How a new store keeps the labels, as for :func:`mmcast.apis.label`.
        max_instances: Most instances that a detector's labels of an image have.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        teacher: str | Sequence[str],
        config: str | None = None,
        batch_size: int = 1,
        views: dict[str, Any] | None = None,
        layout: str | None = None,
        max_instances: int = 100,
    ) -> None:
        self.teachers = [teacher] if isinstance(teacher, str) else list(teacher)
        if not self.teachers:
            raise ValueError(
                'PseudoLabelHook has no teacher: give its checkpoint file as `teacher`'
            )
        self.teacher = self.teachers[0]
        self.config = config
        self.batch_size = batch_size
        self.layout = layout
        self.max_instances = max_instances
        self.views = Views(**(views or {}))
        if views and (self._is_coco or not is_file(self.teacher)):
            raise ValueError(
                f'{self.teacher} has labels already: leave `views` out, which a '
                'detector needs'
            )

    def before_run(self, runner: Runner) -> None:
        """Check what can be checked without building the teacher.

        Raises:
            FileNotFoundError: The teacher is needed and missing.
            ValueError: No data set with pseudo-labels, or a store of another teacher or
                other classes.
        """
        # In `mim test` and `mim val` there is no train loop, and nothing to label.
        if isinstance(runner._train_loop, BaseLoop):
            raise_on_all_ranks(lambda: self._choose(runner))
            raise_on_all_ranks(lambda: self._name_store(runner))
            raise_on_all_ranks(lambda: self._check(runner))

    def _choose(self, runner: Runner) -> None:
        """Take the teacher that found most in the validation images."""
        found = {file: mask_ap(file) for file in self.teachers if Path(file).is_file()}
        first = found.get(self.teachers[0])
        if len(self.teachers) == 1 or first is None:
            return
        measured = {file: ap for file, ap in found.items() if ap is not None}
        self.teacher = max(measured, key=measured.__getitem__)
        others = ', '.join(
            f'{file} has {ap:.1f}'
            for file, ap in measured.items()
            if file != self.teacher
        )
        runner.logger.log(
            logging.INFO if self.teacher == self.teachers[0] else logging.WARNING,
            f'The teacher is {self.teacher} with mask AP {measured[self.teacher]:.1f} '
            f'on the validation images; {others or "no other one is measured"}.',
        )

    def _name_store(self, runner: Runner) -> None:
        """Let transforms without a store read the one next to the teacher."""
        default = labels_of(self.teacher)
        for _, transform in _sources(runner):
            if transform.store is None:
                transform.store = default
        whole = runner.train_loop.dataloader.dataset
        if isinstance(whole, SemiSupervisedDataset) and whole.pseudo_labels is not None:
            # It may build its pipelines again, for mmdet's PipelineSwitchHook.
            given = {k: v for k, v in whole.pseudo_labels.items() if v is not None}
            whole.pseudo_labels = {'store': default, **given}

    def _check(self, runner: Runner) -> None:
        for dataset, transform in _sources(runner):
            names = _names(dataset)
            missing = names
            if PseudoLabelStore.exists(transform.store):
                store = PseudoLabelStore.open(transform.store)
                store.check(classes=dataset.metainfo['classes'])
                missing = store.missing(names)
            if not missing or self._only_unreadable(runner, dataset, missing):
                continue
            check_writable(
                transform.store, "give a folder as pseudo_labels=dict(store='...')"
            )
            if not is_file(self.teacher):
                raise FileNotFoundError(
                    f'{len(missing)} of {len(names)} images have no labels in '
                    f'{transform.store}: {examples(missing)}. '
                    f'{_how_to_fill(transform.store, dataset, self.max_instances)}'
                )
            if not Path(self.teacher).is_file():
                command = command_of(self.teacher, runner.cfg)
                raise FileNotFoundError(
                    f'{self.teacher}, the teacher, is missing, and '
                    f'{len(missing)} of {len(names)} images have no pseudo-labels in '
                    f'{transform.store}; '
                    + (f'make it with: {command}' if command else 'correct the path')
                )
            if not self._is_coco and not self._config(runner).is_file():
                raise FileNotFoundError(
                    f'{self._config(runner)}, the config of the teacher, is missing: '
                    'give it as `config` of PseudoLabelHook.'
                )

    def _only_unreadable(
        self, runner: Runner, dataset: Any, missing: Sequence[str]
    ) -> bool:
        """Say whether a store lacks what nobody could label, and no teacher is here."""
        return (
            not Path(self.teacher).is_file()
            and len(missing) <= _allowed(runner)
            and len(_unreadable(dataset, missing)) == len(missing)
        )

    def before_train(self, runner: Runner) -> None:
        """Label; then restart the data loader.

        The loop's constructor has already started the workers, which may have met
        images without labels, and has moved the samplers. The loader restarts even if
        nothing was missing, so that the order of images does not depend on it.
        """
        with _random_state_kept():
            for dataset, transform in _sources(runner):
                summary = self._label(runner, dataset, transform)
                if transform.skip_empty and summary.images == summary.without_used:
                    raise ValueError(
                        f'None of the {summary.images} images has a pseudo-label with '
                        f'{summary.condition} in {transform.store}: ask for less in '
                        'pseudo_labels=dict(score_thr=...), or train the teacher longer'
                    )
        barrier()
        restart_loader(runner)

    def _label(
        self, runner: Runner, dataset: Any, transform: LoadPseudoAnnotations
    ) -> LabelSummary:
        names = _names(dataset)
        classes = tuple(dataset.metainfo['classes'])
        root = str(transform.store)

        def prepare() -> list[str]:
            if self._is_coco and Path(self.teacher).is_file():
                images = dataset.data_prefix['img']
                made = from_coco(
                    *(self.teacher, root),
                    images=images,
                    classes=classes,
                    layout=self.layout,
                )
                runner.logger.info(f'{root}: {made}')
                store = PseudoLabelStore.open(root)
            elif Path(self.teacher).is_file():
                store = make_store(
                    root,
                    self._config(runner),
                    self.teacher,
                    classes=classes,
                    views=self.views,
                    layout=self.layout,
                    max_instances=self.max_instances,
                )
            else:
                store = PseudoLabelStore.open(root)
            return store.missing(names)

        missing = on_rank_zero(prepare)
        # It fails where a node does not see the files of rank 0's.
        store = raise_on_all_ranks(lambda: PseudoLabelStore.open(root))
        if not missing:
            summary = on_rank_zero(lambda: summarise(store, names, rule=transform))
            runner.logger.info(str(summary))
            return summary
        allowed = _allowed(runner)
        if not Path(self.teacher).is_file():  # all of them are unreadable: _check
            failed = _unreadable(dataset, missing)
            return finish(
                store,
                names,
                len(missing),
                failed,
                allowed,
                rule=transform,
            )
        if self._is_coco:
            raise ValueError(
                f'{len(missing)} of {len(names)} unlabelled images are not in '
                f'{self.teacher}: {examples(missing)}. Take them off the list, or '
                'label them, too'
            )
        device = next(runner.model.parameters()).device
        teacher = raise_on_all_ranks(lambda: self._build(runner, classes, device))
        summary = label_images(
            teacher,
            names,
            dataset.data_prefix['img'],
            store,
            batch_size=self.batch_size,
            rule=transform,
            allowed_unreadable=allowed,
            views=self.views,
        )
        del teacher
        gc.collect()
        if device.type == 'cuda':
            torch.cuda.empty_cache()
        return summary

    def _build(
        self, runner: Runner, classes: tuple[str, ...], device: torch.device
    ) -> nn.Module:
        teacher: Any = load_model(self._config(runner), self.teacher, device)
        found = tuple(teacher.dataset_meta['classes'])
        if found != classes:
            raise ValueError(
                f'The teacher {self.teacher} has the classes {found}, but '
                f'the unlabelled data set has {classes}: train the teacher on the '
                "student's classes, in the same order."
            )
        return teacher

    @property
    def _is_coco(self) -> bool:
        return self.teacher.endswith('.json')

    def _config(self, runner: Runner) -> Path:
        return Path(self.config or config_of(self.teacher, runner.cfg))


def _sources(runner: Runner) -> list[tuple[Any, Any]]:
    """List each data set with pseudo-labels, and the transform that loads them."""
    found = [
        (dataset, transform)
        for dataset in leaves(runner.train_loop.dataloader.dataset)
        for transform in _transforms(getattr(dataset, 'pipeline', None))
        if isinstance(transform, LoadPseudoAnnotations)
    ]
    if not found:
        raise ValueError(
            'PseudoLabelHook finds no data set with LoadPseudoAnnotations in '
            'train_dataloader: add the transform to the unlabelled data set, or '
            'remove the hook.'
        )
    return found


def _how_to_fill(store: str | Path, dataset: Any, max_instances: int) -> str:
    """Say how a folder gets the labels that it lacks."""
    classes = tuple(dataset.metainfo['classes'])
    images, image_list = dataset.data_prefix['img'], dataset.ann_file
    phrases: Sequence[str] = ()
    if PseudoLabelStore.exists(store):
        made_by = PseudoLabelStore.open(store).teacher.config
        if not made_by.startswith(MADE_BY):
            return f'They are of {made_by}: run the command that made them again'
        phrases = made_by.removeprefix(MADE_BY).split('; ')
        phrases = phrases if len(phrases) == len(classes) else ()
        max_instances = PseudoLabelStore.open(store).max_instances
    fill = sam3_command(
        *(images, image_list, classes, str(store), phrases),
        link_root=getattr(dataset, 'link_root', None),
        max_instances=max_instances,
    )
    return f'Fill it with: {fill}'


def _transforms(transform: Any) -> Iterator[Any]:
    """Yield a transform and all inside it (Compose, MultiBranch, RandomApply, ...)."""
    if isinstance(transform, list | tuple):
        for part in transform:
            yield from _transforms(part)
    elif transform is not None:
        yield transform
        yield from _transforms(getattr(transform, 'transforms', None))
        branches = getattr(transform, 'branch_pipelines', {})
        yield from _transforms(list(branches.values()))


def _allowed(runner: Runner) -> int:
    """Return how many unlabelled images may be unreadable."""
    whole = runner.train_loop.dataloader.dataset
    return whole.allowed_unreadable() if isinstance(whole, SemiSupervisedDataset) else 0


def _unreadable(dataset: Any, names: Sequence[str]) -> list[str]:
    """Return which of some images cannot be read, with reasons."""
    load, found = LoadImage(), []
    for name in names:
        path = image_path(dataset.data_prefix['img'], name)
        try:
            load.transform(dict(img_path=path, img_name=name))
        except UnreadableImageError as error:
            found.append(error.brief)
    return found


def _names(dataset: Any) -> list[str]:
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    try:
        return [info['img_name'] for info in infos]
    except KeyError:
        raise ValueError(
            f'{type(dataset).__name__} gives no img_name: use ImageListDataset for the '
            'unlabelled images.'
        ) from None


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """Restore the random state: training must not depend on building a teacher."""
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
