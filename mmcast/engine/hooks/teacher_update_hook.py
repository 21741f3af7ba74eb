"""The teacher inside the model: frozen, then the student's copy, then its average.

Source: Guided Distillation (arXiv 2308.02668), guided burn-in. Two existing tools do
not fit: mmengine's averaged models do not update integer buffers, and mmdet's
``MeanTeacherHook`` copies the student over a loaded teacher at iteration 0.
"""

import math

import torch
from mmdet.engine.runner import TeacherStudentValLoop
from mmdet.registry import HOOKS
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn

from mmcast.checkpoints import compare, pretrained_source
from mmcast.models.unwrapped import unwrapped

# The iteration of the copy, in the runner's message hub, which checkpoints keep.
SWITCH = 'teacher_switch'


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
    mix the loaded network with the student. Validation then measures the student's
    average, and the teacher still becomes a copy of the student itself.

    The switch may wait longer, until a validation finds the student better than its
    teacher (``burn_in_metric``): a student that is worse would lower its own labels.

    The model, the runner's iteration and that of the switch are the only state, so
    ``--resume`` continues as if there had been no break; it repeats a validation that
    may decide and has no checkpoint after it. With several ranks, each updates its own
    teacher. The teachers agree if the students do, that is with synchronised batch
    norm. With plain batch norm ``--resume`` is not exact: a checkpoint has rank 0's
    statistics alone.

    Args:
        burn_in_iters: Iterations for which a loaded teacher guides; 0 starts with the
            student's copy, None never updates.
        burn_in_metric: A metric of ``TeacherStudentValLoop``, such as
            ``'coco/segm_mAP'``. The switch is after the first validation, at
            ``burn_in_iters`` or later, in which the student's is higher than the
            teacher's. None: at ``burn_in_iters``. It is not in the paper.
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
        burn_in_metric: str | None = None,
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
        if burn_in_metric and (burn_in_iters is None or not guided):
            raise ValueError(
                f'burn_in_metric={burn_in_metric!r} compares the student with the '
                'teacher that guides it: it needs guided=True, and burn_in_iters as '
                'the earliest switch'
            )
        self.burn_in_iters = burn_in_iters
        self.burn_in_metric = burn_in_metric or None
        self.momentum = momentum
        self.guided = guided
        self.starts = False  # from the start of a run to its first epoch

    def before_run(self, runner: Runner) -> None:
        """Check that the teacher can follow the student, and can guide before.

        Raises:
            ValueError: There is no teacher; it would become the student's copy and has
                another architecture; it would guide and has no weights; or nothing
                compares the two.
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
        if self.burn_in_metric:
            self.check_validation(runner)
        loaded = runner._load_from or runner._resume or pretrained_source(model)
        # A composite loads its parts.
        loaded = loaded or any(map(pretrained_source, model.teacher.modules()))
        guides = self.burn_in_metric or burn_in != 0
        if self.guided and guides and not loaded:
            setting = (
                f'burn_in_metric={self.burn_in_metric!r}'
                if self.burn_in_metric
                else f'burn_in_iters={burn_in}'
            )
            raise ValueError(
                f'the teacher guides for {setting} with random weights: '
                'give model.teacher.checkpoint, or '
                "model.teacher.init_cfg=dict(type='Pretrained', checkpoint=...) to a "
                'teacher with a type, or burn_in_iters=0 without burn_in_metric'
            )

    def check_validation(self, runner: Runner) -> None:
        """Check that a validation can decide about the switch.

        Raises:
            ValueError: None can.
        """
        metric, loop = str(self.burn_in_metric), runner.val_loop
        what = f'burn_in_metric={metric!r}'
        if not isinstance(loop, TeacherStudentValLoop):
            raise ValueError(
                f'{what} compares student and teacher in validation: set '
                "val_cfg.type='TeacherStudentValLoop'"
            )
        prefixes = [each.prefix for each in loop.evaluator.metrics]
        if metric.partition('/')[0] not in prefixes and all(prefixes):
            raise ValueError(
                f'{what} is none of the metrics of val_evaluator: their names begin '
                f'with {" or ".join(f"{prefix}/" for prefix in prefixes)}'
            )
        train, length = runner.train_loop, between_validations(runner)
        last = (runner.max_iters // length - 1) // train.val_interval
        last *= train.val_interval
        first = max(train.val_begin, (self.burn_in_iters or 1) / length)
        if last < first and len(train.dynamic_intervals) == 1:
            raise ValueError(
                f'{what} compares student and teacher in validation, but none is '
                f'between burn_in_iters={self.burn_in_iters} and the end of the run: '
                'lower train_cfg.val_interval, train_cfg.val_begin or burn_in_iters'
            )

    def before_train(self, runner: Runner) -> None:
        """Let an ``EMAHook`` share the teacher, and not average it."""
        self.starts = True
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                average = hook.ema_model
                average.module.teacher = unwrapped(runner.model).teacher
                average.avg_parameters = {
                    name: value
                    for name, value in average.avg_parameters.items()
                    if not name.startswith('teacher.')
                }

    def before_train_epoch(self, runner: Runner) -> None:
        """Repeat the validation that a resumed run does not know.

        A checkpoint is written before the validation of its iteration.
        """
        starts, self.starts = self.starts, False
        if starts and self.may_decide(runner):
            loop = runner.train_loop
            loop._decide_current_val_interval()
            done, rest = divmod(loop.iter, between_validations(runner))
            if not rest and done >= loop.val_begin and done % loop.val_interval == 0:
                runner.val_loop.run()

    def may_decide(self, runner: Runner) -> bool:
        """Say whether a validation now would decide about the switch."""
        return (
            self.burn_in_metric is not None
            and isinstance(runner._train_loop, BaseLoop)  # not `runner.val()`
            and SWITCH not in runner.message_hub.runtime_info
            and self.is_after_burn_in(runner)
            and 0 < runner.iter < runner.max_iters
        )

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Let the teacher follow a student that is better.

        Raises:
            ValueError: The validation has no such metric.
        """
        if not metrics or not self.may_decide(runner):
            return
        name = self.burn_in_metric
        found = {part: metrics.get(f'{part}/{name}') for part in ('student', 'teacher')}
        if all(value is None for value in found.values()):
            raise ValueError(
                f"burn_in_metric={name!r} is not among the validation's metrics: "
                + ', '.join(dict.fromkeys(key.partition('/')[2] for key in metrics))
            )
        # CocoMetric has none for a model that finds nothing.
        student, teacher = (
            -math.inf if value is None else value for value in found.values()
        )
        if student > teacher:
            runner.message_hub.update_info(SWITCH, runner.iter)
            runner.logger.info(
                f'The student has passed its teacher ({name} {student:.3f} and '
                f'{teacher:.3f}). From iteration {runner.iter} on the teacher follows '
                'it'
            )

    def after_train(self, runner: Runner) -> None:
        """Tell that the teacher never followed."""
        if self.burn_in_metric and SWITCH not in runner.message_hub.runtime_info:
            runner.logger.warning(
                'The teacher has stayed as it was loaded: in no validation was the '
                f"student's {self.burn_in_metric} higher than its own"
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Update the teacher."""
        model = unwrapped(runner.model)
        hub, waits = runner.message_hub, self.burn_in_metric is not None
        switch = None if self.burn_in_iters is None else hub.get_info(SWITCH)
        if switch is None and not waits and self.is_after_burn_in(runner):
            switch = runner.iter
            hub.update_info(SWITCH, switch)
        model.labeling_enabled = self.guided or switch is not None
        if switch is not None:
            momentum = 0.0 if runner.iter == switch else self.momentum
            update(model.teacher, model.student, momentum)

    def is_after_burn_in(self, runner: Runner) -> bool:
        """Say whether ``burn_in_iters`` have passed."""
        return self.burn_in_iters is not None and runner.iter >= self.burn_in_iters


def between_validations(runner: Runner) -> int:
    """Return the iterations of which ``train_cfg.val_interval`` is a multiple."""
    loop = runner.train_loop
    return len(loop.dataloader) if isinstance(loop, EpochBasedTrainLoop) else 1


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
    """Compare all parameters and buffers by name and shape, and the order of colours.

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
    orders = {
        getattr(getattr(each, 'data_preprocessor', None), '_channel_conversion', None)
        for each in (student, teacher)
    }
    if len(orders) > 1:
        raise ValueError(
            'the teacher becomes a copy of the student, but their data preprocessors '
            'differ in the order of colours (bgr_to_rgb): give the student the '
            "teacher's, or TeacherUpdateHook burn_in_iters=None"
        )
