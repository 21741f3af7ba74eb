"""The student leaves its wrapper as a plain detector checkpoint."""

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmdet.engine.runner import TeacherStudentValLoop
from mmdet.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn

from mmcast.engine.checkpoints import read_checkpoint
from mmcast.version import __version__


@HOOKS.register_module()
class StudentExportHook(Hook):
    """Write the student's weights when training ends, those of the last iteration.

    The file has no ``student.`` prefix, teacher or optimiser;
    ``mmdet.apis.init_detector``, ``load_from`` and ``mim test`` take it as it is. For
    the weights of another iteration see :func:`export_student`.

    Args:
        out: File name in the work folder.
        attr: The model's attribute that holds the student; '' for the model itself.
        better_by: Name of a metric. At the last validation, which evaluates both, the
            one of ``'student'`` and ``'teacher'`` that has more of it is exported
            instead of ``attr``. A run that was killed meanwhile and resumes at its end
            validates first.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        out: str = 'student.pth',
        attr: str = 'student',
        better_by: str | None = None,
    ) -> None:
        self.out = out
        self.attr = attr
        self.better_by = better_by
        self._metrics: dict[str, float] = {}

    def before_run(self, runner: Runner) -> None:
        """Check now rather than at the end that there is a student to export.

        Raises:
            ValueError: There is none, or its classes are not the data set's, by which
                the exported file will call them; or validation will not tell which of
                two is better.
        """
        if not isinstance(runner._train_loop, BaseLoop):  # `mim test`
            return
        if self.better_by and not isinstance(runner._val_loop, TeacherStudentValLoop):
            raise ValueError(
                f'StudentExportHook shall export the better one by {self.better_by}: '
                "give val_cfg=dict(type='TeacherStudentValLoop'), which evaluates "
                'student and teacher, or better_by=None'
            )
        count = getattr(self._student(runner), 'num_classes', None)
        metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', {})
        classes = metainfo.get('classes')
        if count is not None and classes is not None and len(classes) != count:
            where = f'model.{self.attr}' if self.attr else 'model'
            raise ValueError(
                f'The model has num_classes={count}, the training data set '
                f'{len(classes)} classes {tuple(classes)}: set {where}.num_classes or '
                "the data set's metainfo.classes."
            )

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Keep what was measured."""
        self._metrics = metrics or {}

    def after_train(self, runner: Runner) -> None:
        """Write the file."""
        if self.better_by and not self._metrics:
            runner.val_loop.run()  # on all ranks
        self._export(runner)

    @master_only
    def _export(self, runner: Runner) -> None:
        if self.better_by:
            self._choose(runner, self.better_by)
        path = Path(runner.work_dir) / self.out
        metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', {})
        save_plain(
            self._student(runner).state_dict(),
            {
                'dataset_meta': {
                    key: metainfo[key]
                    for key in ('classes', 'palette')
                    if key in metainfo
                },
                'iter': runner.iter,
                'experiment_name': runner.experiment_name,
            },
            path,
        )
        runner.logger.info(f'Exported the plain checkpoint {path}')

    def _choose(self, runner: Runner, metric: str) -> None:
        found = {
            attr: self._metrics[f'{attr}/{metric}']
            for attr in ('student', 'teacher')
            if f'{attr}/{metric}' in self._metrics
        }
        if len(found) == 2:
            self.attr = max(found, key=lambda attr: found[attr])
            what = ', '.join(f'{attr} {value:.4g}' for attr, value in found.items())
            runner.logger.info(f'Exporting the {self.attr}, by {metric}: {what}')
        else:  # at the end of a long run no reason to leave nothing
            runner.logger.log(
                logging.WARNING,
                f'No validation of this run measured {metric} of student and teacher '
                f'({", ".join(self._metrics) or "none ran"}): exporting the '
                f'{self.attr}',
            )

    def _student(self, runner: Runner) -> nn.Module:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if self.attr and not hasattr(model, self.attr):
            raise ValueError(
                f'{type(model).__name__} has no {self.attr!r} to export: give '
                "StudentExportHook attr='' for a plain detector."
            )
        return getattr(model, self.attr) if self.attr else model


def export_student(
    checkpoint: str | Path, out: str | Path, attr: str = 'student', half: bool = False
) -> None:
    """Take the student out of a training checkpoint, a best or earlier one.

    Args:
        checkpoint: Checkpoint file of the wrapper.
        out: File to write.
        attr: The wrapper's attribute that holds the student; '' if it is a plain
            detector's checkpoint.
        half: Store weights as float16, half the size; they load as float32.

    Raises:
        ValueError: The checkpoint holds no such student.
    """
    content = read_checkpoint(checkpoint)
    prefix = f'{attr}.' if attr else ''
    state = {
        key.removeprefix(prefix): value
        for key, value in content['state_dict'].items()
        if key.startswith(prefix)
    }
    if not state:
        raise ValueError(
            f'{checkpoint} holds no weights below {prefix!r}: give the checkpoint of '
            'a SemiSupervisedSegmentor, or --attr "" for a plain detector.'
        )
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    meta = content.get('meta', {})
    keep = ('dataset_meta', 'iter', 'experiment_name')
    save_plain(state, {key: meta[key] for key in keep if key in meta}, Path(out))


def save_plain(state: dict[str, Tensor], meta: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of weights and meta information, whole or not at all."""
    content = {
        'state_dict': {
            # Cloned: a view into a larger storage would save all of it.
            key: value.detach().cpu().clone()
            for key, value in state.items()
        },
        'meta': {**meta, 'mmcast_version': __version__},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
