"""Export one network of a training run as a plain detector checkpoint."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import broadcast, get_world_size, master_only
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import BaseLoop, Runner
from mmengine.runner.checkpoint import get_state_dict
from torch import nn

from mmcast.checkpoints import read_checkpoint, save_plain
from mmcast.engine.stages import MASK_AP, mask_ap, metrics_file, percent
from mmcast.files import write_atomic
from mmcast.models.detectors.student import class_count
from mmcast.models.unwrapped import unwrapped


@HOOKS.register_module()
class ExportHook(Hook):
    """Write the weights of one network when training ends, as of the last iteration.

    The file has no prefix, no other network and no optimiser;
    ``mmdet.apis.init_detector``, ``load_from`` and ``mim test`` take it as it is. For
    the weights of another iteration see :func:`mmcast.checkpoints.export_part`. With
    mmengine's ``EMAHook`` both have the average, which is what the run validates.

    If the run validates after its last iteration, the metrics go next to the file, as
    ``student.json``, and the log says what the stage gained over the one before it.
    A teacher that is no better than what the stage before left is named in a warning
    before training.

    Args:
        out: File name in the work folder.
        part: ``'student'``, ``'teacher'``, or '' for the model itself; None for the
            wrapper's student, or the model itself if it is no wrapper.
        leave_out: Prefixes of weights that prediction does not use, as a critic's.
        compare_with: The file that the stage before left; None for this run's teacher
            or ``load_from``, whichever has the name ``out``.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        out: str = 'student.pth',
        part: str | None = None,
        leave_out: Sequence[str] = (),
        compare_with: str | None = None,
    ) -> None:
        self.out = out
        self.part = part
        self.leave_out = tuple(leave_out)
        self.compare_with = compare_with
        self._measured: tuple[int, dict[str, float]] | None = None

    def before_run(self, runner: Runner) -> None:
        """Check before training that there is a network to export.

        Raises:
            ValueError: There is none, or its number of classes is not the data set's.
                The exported file will have the data set's class names.
        """
        if not isinstance(runner._train_loop, BaseLoop):  # `mim test`
            return
        part, network = self._network(runner)
        count = class_count(network)
        classes = _metainfo(runner).get('classes')
        if count is not None and classes is not None and len(classes) != count:
            where = f'model.{part}' if part else 'model'
            if hasattr(network, 'seg_head'):
                where += '.seg_head'
            raise ValueError(
                f'The model has num_classes={count}, the training data set '
                f'{len(classes)} classes {tuple(classes)}: set {where}.num_classes or '
                "the data set's metainfo.classes."
            )
        master_only(self._warn_of_teacher)(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Let all ranks validate with rank 0's batch norm, which the file will have.

        With plain batch norm each rank has running statistics of its own images.
        """
        if get_world_size() == 1:
            return
        for module in runner.model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                for statistic in module.buffers(recurse=False):
                    broadcast(statistic)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Keep the metrics of this iteration."""
        self._measured = runner.iter, metrics or {}

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the file, and the metrics of its weights."""
        path = Path(runner.work_dir) / self.out
        metainfo = _metainfo(runner)
        with _as_validated(runner):
            # get_state_dict: parts of a distributed model can be wrapped one by one.
            found = get_state_dict(self._network(runner)[1])
            weights = {
                k: v for k, v in found.items() if not k.startswith(self.leave_out)
            }
            if self._measured is None and _has_metrics(path, weights):
                runner.logger.info(f'{path} has these weights, and metrics, already')
                return
            metrics_file(path).unlink(missing_ok=True)  # of an older run
            save_plain(
                weights,
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
        metrics = self._metrics(runner)
        self._warn_of_metrics(runner, path, metrics)
        if metrics:
            content = dict(iteration=runner.iter, metrics=metrics)
            text = json.dumps(content, indent=1, default=float)
            write_atomic(metrics_file(path), text + '\n')
            self._tell_gain(runner, path, metrics)

    def _warn_of_teacher(self, runner: Runner) -> None:
        """Warn if the teacher was measured, and has nothing to give."""
        same, teacher = self._inputs(runner)
        before = self.compare_with or same
        if not before or not teacher or before == teacher:
            return
        of_teacher, other = mask_ap(teacher), mask_ap(before)
        if of_teacher is not None and other is not None and of_teacher <= other:
            runner.logger.warning(
                f'The teacher {teacher} (mask AP {of_teacher:.1f} on the validation '
                f'images) is no better than {before} ({other:.1f}): its labels will '
                'hardly help. Train a better one, or keep that file.'
            )

    def _warn_of_metrics(
        self, runner: Runner, path: Path, metrics: dict[str, float]
    ) -> None:
        """Warn if nobody knows how good the exported weights are."""
        if runner._val_dataloader is None:
            return
        text = ''
        if self._measured is None or self._measured[0] != runner.iter:
            text = (
                f'{path} has no metrics: this run did not validate after its last '
                f'iteration, {runner.iter}. Measure it with mim test'
            )
        elif not self._measured[1]:
            text = (
                f'{path} has no metrics: the model found nothing in the validation '
                'images'
            )
        elif metrics.get(MASK_AP, 0.0) < 0:
            text = (
                f'{path} has mask AP -1, which means that there was nothing to '
                "evaluate: the validation images have no object of the model's classes"
            )
        if text:
            runner.logger.warning(text)

    def _metrics(self, runner: Runner) -> dict[str, float]:
        """Return the metrics of the exported weights; none if they are others'."""
        if self._measured is None or self._measured[0] != runner.iter:
            return {}
        metrics = self._measured[1]
        part = self._network(runner)[0]
        of_part = {
            key.removeprefix(f'{part}/'): value
            for key, value in metrics.items()
            if part and key.startswith(f'{part}/')  # TeacherStudentValLoop
        }
        test_cfg = getattr(unwrapped(runner.model), 'semi_test_cfg', {})
        if test_cfg.get('predict_on', part) == part:
            return of_part or metrics
        return of_part

    def _tell_gain(self, runner: Runner, path: Path, metrics: dict[str, float]) -> None:
        found = percent(metrics.get(MASK_AP, -1.0))
        if found is None:
            return
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        text = f'{path} has mask AP {found:.1f} on the validation images'
        same, teacher = self._inputs(runner)
        before = self.compare_with or same
        other = mask_ap(before) if before else None
        level, remedy = logging.INFO, ''
        if other is not None:
            gain = round(found, 1) - round(other, 1)
            text += f', {gain:+.1f} against {before} ({other:.1f})'
            if gain < 0:
                level = logging.WARNING
                remedy = '; this stage lost: keep that file, or train longer'
        of_teacher = mask_ap(teacher) if teacher and teacher != before else None
        if of_teacher is not None:
            text += f'; its teacher {teacher} has {of_teacher:.1f}'
        runner.logger.log(level, f'{text}{remedy}.')

    def _inputs(self, runner: Runner) -> tuple[str | None, str | None]:
        """Return the input with the name of the exported file, and the teacher."""
        found = [getattr(hook, 'teacher', None) for hook in runner.hooks]
        teachers = [each for each in found if isinstance(each, str)]
        same = [
            each
            for each in (runner._load_from, *teachers)
            if each and Path(each).name == self.out
        ]
        return next(iter(same), None), next(iter(teachers), None)

    def _network(self, runner: Runner) -> tuple[str, Any]:
        """Return the name and the module of the network to export."""
        model = unwrapped(runner.model)
        part = self.part
        if part is None:
            part = 'student' if hasattr(model, 'student') else ''
        if part and getattr(model, part, None) is None:
            raise ValueError(
                f'{type(model).__name__} has no {part!r} to export: give ExportHook '
                "part='' for a plain detector."
            )
        return part, getattr(model, part) if part else model


@contextmanager
def _as_validated(runner: Runner) -> Iterator[None]:
    """Give the model the weights that it is validated with, for a while."""
    averages = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
    for hook in averages:
        hook.before_val_epoch(runner)
    try:
        yield
    finally:
        for hook in averages[::-1]:
            hook.after_val_epoch(runner)


def _has_metrics(path: Path, weights: dict[str, Any]) -> bool:
    """Say whether a file has these weights, and metrics of them beside it."""
    if not (path.is_file() and metrics_file(path).is_file()):
        return False
    try:
        stored = read_checkpoint(path)['state_dict']
    except ValueError:  # damaged: it is written again
        return False
    return stored.keys() == weights.keys() and all(
        torch.equal(stored[key], value.cpu()) for key, value in weights.items()
    )


def _metainfo(runner: Runner) -> dict[str, Any]:
    return getattr(runner.train_dataloader.dataset, 'metainfo', {})
