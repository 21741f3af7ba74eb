"""A user's own detectors, as student and as teacher of the own data."""

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config

from mmcast.checkpoints import read_checkpoint
from mmcast.models.detectors.student import check_student

# What a config is read with, and a model built with: user's code runs in both.
_CONFIG_ERRORS = (
    *(AttributeError, ImportError, KeyError, NameError, OSError, SyntaxError),
    *(TypeError, ValueError),
)
_BUILD_ERRORS = (
    *(AssertionError, AttributeError, ImportError, IndexError, KeyError, RuntimeError),
    *(TypeError, ValueError),
)


@dataclass(frozen=True)
class Detector:
    """A config that trains a detector.

    Attributes:
        path: Where it is, for ``_base_``: a path, or ``mmdet::...``.
        cfg: What it says.
    """

    path: str
    cfg: Config

    def base(self, folder: Path) -> str:
        """Return the path as a config in a folder writes it."""
        if '::' in self.path or Path(self.path).is_absolute():
            return self.path
        return Path(os.path.relpath(self.path, folder)).as_posix()

    @property
    def epochs(self) -> int | None:
        """Its length in epochs; None if it counts iterations."""
        return self.cfg.train_cfg.get('max_epochs')

    def with_classes(self) -> dict[str, str]:
        """Return the keys of its model that let `classes` set its number of classes."""
        kind = self.cfg.model.type
        if 'classes' in inspect.signature(MODELS.get(kind)).parameters:
            return {}
        return dict(type='WithClasses', detector_type=kind)


def read_detector(path: str) -> Detector:
    """Read a detector's config, and check that the stages can be made from it.

    Args:
        path: A file, or ``mmdet::...`` for a config of MMDetection.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no config that trains and tests a detector with masks.
    """
    if '::' not in path and not Path(path).is_file():
        raise FileNotFoundError(f"config '{path}' does not exist: correct the path")
    try:
        if '::' in path:  # mmengine knows these as a base only
            cfg = Config.fromstring(f'_base_ = {path!r}\n', '.py')
        else:
            cfg = Config.fromfile(path)
    except _CONFIG_ERRORS as error:
        why = ' '.join(str(error).split())
        raise ValueError(f'{path} cannot be read: {why}') from error
    for key in (
        'model.type',
        'train_dataloader.dataset',
        'train_cfg',
        'optim_wrapper.optimizer.lr',
        'val_dataloader.dataset.pipeline',
        'val_evaluator',
        'val_cfg',
    ):
        if _get(cfg, key) is None:
            raise ValueError(
                f'{path} has no {key}: give a whole config, as mim train takes it'
            )
    for key in 'test_dataloader.dataset.pipeline', 'test_evaluator', 'test_cfg':
        if _get(cfg, key) is None:
            raise ValueError(
                f'{path} has no {key}, and mim test needs it: add test_dataloader = '
                "val_dataloader, test_evaluator = val_evaluator, test_cfg = dict(type='"
                "TestLoop')"
            )
    if MODELS.get(cfg.model.type) is None:
        raise ValueError(
            f'{path}: no detector {cfg.model.type} is registered: name the module that '
            'has it in custom_imports'
        )
    if 'student' in cfg.model:
        raise ValueError(
            f'{path} trains a {cfg.model.type}: give the config of the detector alone'
        )
    inside: Any = cfg.train_dataloader.dataset
    while 'pipeline' not in inside:
        parts = inside.get('datasets') or [inside.get('dataset')]
        if not parts[0]:
            raise ValueError(
                f'{path} has no pipeline in train_dataloader.dataset: give the config '
                'of a detector that is trained on labels alone'
            )
        inside = parts[0]
    if any('Panoptic' in str(step.get('type')) for step in inside['pipeline']):
        raise ValueError(
            f'{path} is trained on panoptic masks: give the config of an instance '
            'segmenter, whose pipeline has LoadAnnotations(with_mask=True)'
        )
    if not isinstance(cfg.train_dataloader.get('batch_size'), int):
        raise ValueError(
            f'{path} has no train_dataloader.batch_size: give a whole config, as mim '
            'train takes it'
        )
    detector = Detector(path, cfg)
    model = {**cfg.model, **detector.with_classes(), 'classes': ('any',)}
    try:
        built: Any = MODELS.build(model)
    except _BUILD_ERRORS as error:
        why = ' '.join(str(error).split())
        raise ValueError(f'{path}: its model cannot be built: {why}') from error
    try:
        check_student(built)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    return detector


def trained_classes(checkpoint: str | Path) -> tuple[str, ...] | None:
    """Return the class names that a detector's checkpoint keeps; None if none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f"checkpoint '{checkpoint}' does not exist: correct the path"
        )
    meta = read_checkpoint(checkpoint, shapes_only=True).get('meta') or {}
    about = {k.lower(): each for k, each in (meta.get('dataset_meta') or {}).items()}
    classes = about.get('classes')
    return None if classes is None else tuple(classes)


def _get(cfg: Config, dotted: str) -> Any:
    node: Any = cfg
    for key in dotted.split('.'):
        if not isinstance(node, Mapping | Config):
            return None
        node = node.get(key)
    return node
