"""Refuse a checkpoint that is not the model's, or not whole."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint

from mmcast.engine.checkpoints import check_fits, check_resumable
from mmcast.engine.loops import TeacherStudentTestLoop


@HOOKS.register_module()
class CheckpointFitsHook(Hook):
    """Compare a local checkpoint with the model, weight by weight.

    mmengine only warns, and goes on with what is left of random weights. In ``mim
    test`` it is the checkpoint to evaluate: a student's in the config of its wrapper,
    say. In training it is the ``Pretrained`` checkpoint of the detector or of the
    wrapper's student and teacher; for ``load_from`` see ``StageInputsHook``. Under
    ``--resume`` the file to go on from has to be whole, too.

    Args:
        ignore: Prefixes of weights that play no part in prediction; where the wrapper's
            teacher predicts, its weights do.
        ignore_pretrained: Prefixes of weights that training may start without, on top;
            a teacher may not.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        ignore: Sequence[str] = (
            'pixel_contrast.',
            'student.pixel_contrast.',
            'teacher.',
        ),
        ignore_pretrained: Sequence[str] = ('panoptic_head.cls_embed.',),
    ) -> None:
        self.ignore = tuple(ignore)
        self.ignore_pretrained = tuple(ignore_pretrained)

    def before_run(self, runner: Runner) -> None:
        """Check.

        Raises:
            ValueError: Weights are missing or of another shape, or the file to resume
                from is not whole.
        """
        model: Any = runner.model
        if is_model_wrapper(model):
            model = model.module
        if not isinstance(runner._train_loop, BaseLoop):
            predicts = getattr(model, 'semi_test_cfg', {}).get('predict_on')
            if isinstance(runner._test_loop, TeacherStudentTestLoop):
                predicts = 'teacher'  # and the student
            ignore = [prefix for prefix in self.ignore if prefix != f'{predicts}.']
            if runner._load_from and Path(runner._load_from).is_file():
                check_fits(model, runner._load_from, ignore=ignore)
            return
        if runner._resume:
            path = runner._load_from or find_latest_checkpoint(runner.work_dir)
            if path is not None:
                check_resumable(path, runner.work_dir)
        student: Any = getattr(model, 'student', model)
        teacher: Any = getattr(model, 'teacher', None)
        for part in dict.fromkeys((model, student, teacher)):
            init = getattr(part, 'init_cfg', None)
            if not isinstance(init, dict) or init.get('type') != 'Pretrained':
                continue
            if Path(init['checkpoint']).is_file():
                ignore = [*self.ignore]
                if part is not teacher:
                    ignore += self.ignore_pretrained
                check_fits(part, init['checkpoint'], ignore=ignore)
