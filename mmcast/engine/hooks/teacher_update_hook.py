"""The teacher inside the model: frozen, then the student's copy, then its average.

Source: Guided Distillation (arXiv 2308.02668), guided burn-in. mmengine's averaged
models leave integer buffers behind, and mmdet's ``MeanTeacherHook`` copies the student
over a loaded teacher at iteration 0.
"""

from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn


@HOOKS.register_module()
class TeacherUpdateHook(Hook):
    """Update ``model.teacher`` from ``model.student`` before each iteration t.

    * t < ``burn_in_iters``: nothing; the teacher is the one that was loaded.
    * t = ``burn_in_iters``: the teacher becomes a copy of the student.
    * t > ``burn_in_iters``: teacher = m * teacher + (1 - m) * student, floating-point
      buffers (batch norm's statistics) included; other buffers are copied.

    An iteration is a batch, as in the published code, and not a step of the optimiser:
    with ``accumulative_counts=k`` the teacher follows k times a step, each a little.

    Nothing is remembered but in the model and the runner's iteration, so ``--resume``
    goes on as if there had been no break. Under several ranks each updates its own
    teacher; these agree wherever the students do, that is with synchronised batch norm.

    Args:
        burn_in_iters: Iterations for which a loaded teacher guides; 0 starts with the
            student's copy, None never updates.
        momentum: m.
        guided: Whether the loaded teacher labels before the switch. Else the student
            learns from labels alone until there is a teacher, its own copy: the
            burn-in of other methods, which the paper compares with.

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
        """Check that the teacher can become what it shall.

        Raises:
            ValueError: There is no teacher, or it shall become the student's copy and
                has another architecture, or it shall guide and has no weights.
        """
        if not isinstance(runner._train_loop, BaseLoop):  # `mim test`
            return
        model = _unwrapped(runner)
        if getattr(model, 'teacher', None) is None:
            raise ValueError(
                f'{type(model).__name__} has no teacher to update: give model.teacher '
                'or remove TeacherUpdateHook'
            )
        if self.burn_in_iters is None or self.burn_in_iters >= runner.max_iters:
            return
        check_same_architecture(model.student, model.teacher)
        loaded = runner._load_from or runner._resume
        loaded = loaded or _is_pretrained(model) or _is_pretrained(model.teacher)
        if self.guided and self.burn_in_iters > 0 and not loaded:
            raise ValueError(
                f'the teacher guides for burn_in_iters={self.burn_in_iters} with '
                'random weights: give model.teacher.checkpoint, or '
                "model.teacher.init_cfg=dict(type='Pretrained', checkpoint=...) to a "
                'teacher with a type, or burn_in_iters=0'
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Update."""
        model = _unwrapped(runner)
        frozen = self.burn_in_iters is None or runner.iter < self.burn_in_iters
        model.teacher_labels = self.guided or not frozen
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
        student: May have modules that the teacher lacks, as a pixel contrast.
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
        student: Its ``pixel_contrast`` and ``strong_view``, which play no part in
            prediction, may be missing in the teacher.
        teacher: Shall take over the student's weights.

    Raises:
        ValueError: They differ.
    """
    shapes = [
        {
            name: tuple(value.shape)
            for part in (module.named_parameters(), module.named_buffers())
            for name, value in part
            if not name.startswith(('pixel_contrast.', 'strong_view.'))
        }
        for module in (student, teacher)
    ]
    names = list(shapes[0] | shapes[1])
    differ = [name for name in names if shapes[0].get(name) != shapes[1].get(name)]
    if differ:
        name = differ[0]
        raise ValueError(
            'the teacher shall become a copy of the student, but '
            f'{len(differ)} of {len(names)} weights differ ({name} is '
            f'{shapes[0].get(name, "missing")} in the student, '
            f'{shapes[1].get(name, "missing")} in the teacher): give model.teacher the '
            "student's architecture, or TeacherUpdateHook burn_in_iters=None"
        )


def _is_pretrained(module: nn.Module) -> bool:
    init = getattr(module, 'init_cfg', None)
    return isinstance(init, dict) and init.get('type') == 'Pretrained'


def _unwrapped(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
