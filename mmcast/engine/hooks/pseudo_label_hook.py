"""Label what is missing before the first batch is drawn."""

import contextlib
import gc
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.apis import init_detector
from mmdet.registry import HOOKS
from mmengine.config import Config
from mmengine.dist import barrier
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn

from mmcast.apis.label_images import label_images, summarise
from mmcast.apis.ranks import run_on_first, run_together
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.transforms.loading import LoadPseudoAnnotations
from mmcast.engine.checkpoints import check_fits


@HOOKS.register_module()
class PseudoLabelHook(Hook):
    """Make the pseudo-labels that the training data set asks for.

    The store is the one that ``LoadPseudoAnnotations`` in the unlabelled data set's
    pipeline names. The teacher is built only if the store lacks labels; without its
    checkpoint a complete store suffices.

    Args:
        teacher_config: Config file of the teacher, a plain detector.
        teacher_checkpoint: Its checkpoint file.
        made_by: Command that makes the checkpoint, told where it is missing.
        batch_size: Images a forward pass and device.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        teacher_config: str,
        teacher_checkpoint: str,
        made_by: str,
        batch_size: int = 1,
    ) -> None:
        self.teacher_config = teacher_config
        self.teacher_checkpoint = teacher_checkpoint
        self.made_by = made_by
        self.batch_size = batch_size

    def before_run(self, runner: Runner) -> None:
        """Check what can be checked without the teacher.

        Raises:
            FileNotFoundError: The teacher is needed and missing.
            ValueError: No data set with pseudo-labels, or a store that is not the
                teacher's or has other classes.
        """
        # In `mim test` and `mim val` there is no train loop, and nothing to label.
        if isinstance(runner._train_loop, BaseLoop):
            run_together(lambda: self._check(runner))

    def _check(self, runner: Runner) -> None:
        for dataset, root in self._sources(runner):
            names = _names(dataset)
            missing = names
            if Path(root).exists():
                store = PseudoLabelStore.open(root)
                store.check(classes=dataset.metainfo['classes'])
                missing = store.missing(names)
            if not missing:
                continue
            if not Path(self.teacher_checkpoint).is_file():
                raise FileNotFoundError(
                    f'{self.teacher_checkpoint}, the teacher, is missing, and '
                    f'{len(missing)} of {len(names)} images have no pseudo-labels in '
                    f'{root}; make the teacher with: {self.made_by}'
                )
            if not Path(self.teacher_config).is_file():
                raise FileNotFoundError(
                    f'{self.teacher_config}, the config of the teacher, is missing: '
                    'correct teacher_config of PseudoLabelHook.'
                )

    def before_train(self, runner: Runner) -> None:
        """Label; then start the data loader anew.

        Workers started in the loop's constructor and have met images without labels,
        and the samplers have moved on. The loader starts anew whether or not something
        was missing, so the order of images does not depend on it.
        """
        with _random_state_kept():
            for dataset, root in self._sources(runner):
                self._label(runner, dataset, root)
        barrier()
        _restart_loader(runner)

    def _label(self, runner: Runner, dataset: Any, root: str) -> None:
        names = _names(dataset)
        classes = tuple(dataset.metainfo['classes'])

        def prepare() -> list[str]:
            if Path(self.teacher_checkpoint).is_file():
                teacher = Teacher.from_files(
                    self.teacher_config, self.teacher_checkpoint
                )
                store = PseudoLabelStore.create(root, classes=classes, teacher=teacher)
            else:
                store = PseudoLabelStore.open(root)
            return store.missing(names)

        missing = run_on_first(prepare)
        store = PseudoLabelStore.open(root)
        if not missing:
            summary = run_on_first(lambda: summarise(store, names))
            runner.logger.info(str(summary))
            return
        device = next(runner.model.parameters()).device
        teacher = run_together(lambda: self._build(classes, device))
        label_images(
            teacher,
            names,
            dataset.data_prefix['img'],
            store,
            batch_size=self.batch_size,
        )
        del teacher
        gc.collect()
        if device.type == 'cuda':
            torch.cuda.empty_cache()

    def _build(self, classes: tuple[str, ...], device: torch.device) -> nn.Module:
        teacher = init_detector(
            Config.fromfile(self.teacher_config),
            self.teacher_checkpoint,
            device=str(device),
            # Else mmdet looks for a `backbone` at the top, which composites lack.
            cfg_options={},
        )
        check_fits(teacher, self.teacher_checkpoint)
        found = tuple(teacher.dataset_meta['classes'])
        if found != classes:
            raise ValueError(
                f'The teacher {self.teacher_checkpoint} knows the classes {found}, but '
                f'the unlabelled data set has {classes}: train the teacher on the '
                "student's classes, in the same order."
            )
        return teacher

    def _sources(self, runner: Runner) -> list[tuple[Any, str]]:
        """Each data set with pseudo-labels, and its store's folder."""
        found = [
            (dataset, transform.store)
            for dataset in _leaves(runner.train_loop.dataloader.dataset)
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


def _leaves(dataset: Any) -> Iterator[Any]:
    """Look through ConcatDataset, RepeatDataset and other wrappers."""
    if hasattr(dataset, 'datasets'):
        for part in dataset.datasets:
            yield from _leaves(part)
    elif hasattr(dataset, 'dataset'):
        yield from _leaves(dataset.dataset)
    else:
        yield dataset


def _transforms(transform: Any) -> Iterator[Any]:
    """A transform and all inside it (Compose, MultiBranch, RandomApply, ...)."""
    if isinstance(transform, list | tuple):
        for part in transform:
            yield from _transforms(part)
    elif transform is not None:
        yield transform
        yield from _transforms(getattr(transform, 'transforms', None))
        branches = getattr(transform, 'branch_pipelines', {})
        yield from _transforms(list(branches.values()))


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
    """Building a teacher draws numbers; training must not depend on that."""
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _restart_loader(runner: Runner) -> None:
    """Build the loader anew around the same data set, and iterate over it anew.

    A new loader also means new samplers (MultiSourceSampler keeps its place across
    iterators) and new workers where they are persistent. mmengine 0.10.7's
    IterBasedTrainLoop iterates from its constructor on; other loops start lazily.
    """
    loop = runner.train_loop
    config = runner._train_dataloader
    iterator = getattr(loop, 'dataloader_iterator', None)
    if iterator is None:
        return
    if isinstance(config, dict):
        seed_of_rank = runner._randomness_cfg.get('diff_rank_seed', False)
        loop.dataloader = runner.build_dataloader(
            {**config, 'dataset': loop.dataloader.dataset}, runner.seed, seed_of_rank
        )
    loop.dataloader_iterator = type(iterator)(loop.dataloader)
