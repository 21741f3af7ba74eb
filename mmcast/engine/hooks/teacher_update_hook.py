"""The teacher inside the model: frozen, then the student's copy, then its average.

Source: Guided Distillation (arXiv 2308.02668), guided burn-in. Two existing tools do
not fit: mmengine's averaged models do not update integer buffers, and mmdet's
``MeanTeacherHook`` copies the student over a loaded teacher at iteration 0.
"""

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn

from mmcast.checkpoints import compare, pretrained_source
from mmcast.models.unwrapped import unwrapped


@HOOKS.register_module()
class TeacherUpdateHook(Hook):
    """Update ``model.teacher`` from ``model.student`` before each iteration t.

    * t < ``burn_in_iters``: nothing; the teacher is the one that was loaded.
    * t = ``burn_in_iters``: the teacher becomes a copy of the student.
    * t > ``burn_in_iters``: teacher = m * teacher + (1 - m) * student, floating-point
      buffers (batch norm's statistics) included; other buffers are copied.

    An iteration is a batch, as in the published code, and not a step of the optimiser:
    with ``accumulative_counts=k`` the teacher is updated k times per step.

    mmengine's ``EMAHook`` averages the student alone: an average of this teacher would
    mix the loaded network with the student.

    The model and the runner's iteration are the only state, so ``--resume`` continues
    as if there had been no break. With several ranks, each updates its own teacher. The
    teachers agree if the students do, that is with synchronised batch norm. With plain
    batch norm ``--resume`` is not exact: a checkpoint has rank 0's statistics alone.

    Args:
        burn_in_iters: Iterations for which a loaded teacher guides; 0 starts with the
            student's copy, None never updates.
        momentum: m.
        guided: Whether the loaded teacher labels before the switch. Otherwise the
            student learns from labels alone until its own copy becomes the teacher. The
            paper compares with this burn-in, which other methods use.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        burn_in_iters: int | None,
        momentum: float = 0.9996,
        guided: bool = True,
    ) -> None:
        if burn_in_iters is not None and burn_in_iters < 0:
            raise ValueError(
                f'burn_in_iters={burn_in_iters} must be 0 or more, or None'
            )
        if not 0 <= momentum <= 1:
            raise ValueError(f'momentum={momentum} must be from 0 to 1')
        if burn_in_iters is None and not guided:
            raise ValueError(
                'with burn_in_iters=None and guided=False no teacher would ever label: '
                'change one of the two'
            )
        self.burn_in_iters = burn_in_iters
        self.momentum = momentum
        self.guided = guided

    def before_run(self, runner: Runner) -> None:
        """Check that the teacher can follow the student, and can guide before.

        Raises:
            ValueError: There is no teacher; it would become the student's copy and has
                another architecture; or it would guide and has no weights.
        """
        if not isinstance(runner._train_loop, BaseLoop):  # `mim test`
            return
        model = unwrapped(runner.model)
        if getattr(model, 'teacher', None) is None:
            raise ValueError(
                f'{type(model).__name__} has no teacher to update: give model.teacher '
                'or remove TeacherUpdateHook'
            )
        burn_in = self.burn_in_iters
        if burn_in is not None and burn_in < runner.max_iters:
            check_same_architecture(model.student, model.teacher)
        elif not self.guided:
            raise ValueError(
                f'with guided=False the teacher labels from burn_in_iters={burn_in} '
                f'on, but the run ends at {runner.max_iters}: lower burn_in_iters'
            )
        elif burn_in is not None:
            runner.logger.warning(
                f'The teacher stays as it was loaded: it would follow the student from '
                f'burn_in_iters={burn_in} on, and the run ends at {runner.max_iters}. '
                'Lower burn_in_iters with the length of the run'
            )
        loaded = runner._load_from or runner._resume or pretrained_source(model)
        # A composite loads its parts.
        loaded = loaded or any(map(pretrained_source, model.teacher.modules()))
        if self.guided and burn_in != 0 and not loaded:
            raise ValueError(
                f'the teacher guides for burn_in_iters={burn_in} with random weights: '
                'give model.teacher.checkpoint, or '
                "model.teacher.init_cfg=dict(type='Pretrained', checkpoint=...) to a "
                'teacher with a type, or burn_in_iters=0'
            )

    def before_train(self, runner: Runner) -> None:
        """Let an ``EMAHook`` share the teacher, and not average it."""
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                average = hook.ema_model
                average.module.teacher = unwrapped(runner.model).teacher
                average.avg_parameters = {
                    name: value
                    for name, value in average.avg_parameters.items()
                    if not name.startswith('teacher.')
                }

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Update the teacher."""
        model = unwrapped(runner.model)
        frozen = self.burn_in_iters is None or runner.iter < self.burn_in_iters
        model.labeling_enabled = self.guided or not frozen
        if frozen:
            return
        momentum = self.momentum if runner.iter > self.burn_in_iters else 0.0
        update(model.teacher, model.student, momentum)


@torch.no_grad()
def update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move a teacher towards a student of the same architecture, in place.

    Args:
        teacher: Its parameters and floating-point buffers become ``momentum`` times
            themselves plus ``1 - momentum`` times the student's; other buffers become
            the student's. With a momentum of 0 it is a copy, bit by bit.
        student: May have modules that the teacher lacks, such as a pixel contrast.
        momentum: From 0 to 1.
    """
    source = {**dict(student.named_parameters()), **dict(student.named_buffers())}
    for part in (teacher.named_parameters(), teacher.named_buffers()):
        for name, value in part:
            if momentum == 0 or not value.is_floating_point():
                value.copy_(source[name])
            else:
                value.lerp_(source[name], 1 - momentum)


def check_same_architecture(student: nn.Module, teacher: nn.Module) -> None:
    """Compare all parameters and buffers by name and shape.

    Args:
        student: May have a ``pixel_contrast`` that the teacher lacks; prediction does
            not use it.
        teacher: Takes over the student's weights.

    Raises:
        ValueError: They differ.
    """
    own, wanted = (
        {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for module in (student, teacher)
    )
    wrong = compare(own, wanted, ignore=['pixel_contrast.'], exact=True)
    if wrong:
        raise ValueError(
            "the teacher becomes a copy of the student, but the student's "
            f"{wrong}: give model.teacher the student's architecture, or "
            'TeacherUpdateHook burn_in_iters=None'
        )
