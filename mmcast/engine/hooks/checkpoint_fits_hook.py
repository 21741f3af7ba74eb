"""Refuse to evaluate a checkpoint that is not the model's."""

from collections.abc import Sequence
from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from mmcast.engine.checkpoints import check_fits


@HOOKS.register_module()
class CheckpointFitsHook(Hook):
    """Compare the checkpoint of ``mim test`` with the model, weight by weight.

    mmengine only warns, and evaluates what is left of random weights: a student in the
    config of its wrapper, say. Acts in testing; for training see ``StageInputsHook``.

    Args:
        ignore: Prefixes of the model's weights that play no part in prediction.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        ignore: Sequence[str] = (
            'pixel_contrast.',
            'student.pixel_contrast.',
            'teacher.',
        ),
    ) -> None:
        self.ignore = tuple(ignore)

    def before_run(self, runner: Runner) -> None:
        """Check.

        Raises:
            ValueError: Weights are missing or of another shape.
        """
        path = runner._load_from
        if isinstance(runner._train_loop, BaseLoop) or not path:
            return
        model = runner.model
        if Path(path).is_file():
            check_fits(
                model.module if is_model_wrapper(model) else model,
                path,
                ignore=self.ignore,
            )
