"""Tell a stage's missing or unfit inputs before any work."""

from collections.abc import Sequence
from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint

from mmcast.engine.checkpoints import check_fits


@HOOKS.register_module()
class StageInputsHook(Hook):
    """Check the files that a training stage starts from.

    Acts before training only, not in ``mim test``.

    Args:
        inputs: File to the command that makes it.
        strict: Whether a local ``load_from`` must have every weight of the model in
            its shape. mmengine itself only warns.
        ignore: Prefixes of the model's weights that ``load_from`` may lack.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        inputs: dict[str, str],
        strict: bool = True,
        ignore: Sequence[str] = (),
    ) -> None:
        self.inputs = inputs
        self.strict = strict
        self.ignore = tuple(ignore)

    def before_run(self, runner: Runner) -> None:
        """Check.

        Raises:
            FileNotFoundError: An input is missing.
            ValueError: ``load_from`` does not fit, or ``--resume`` finds nothing.
        """
        if not isinstance(runner._train_loop, BaseLoop):
            return
        load_from = runner._load_from
        if runner._resume:
            # mim clears load_from under --resume, and mmengine would then train on
            # from random weights without a word.
            if load_from is None and find_latest_checkpoint(runner.work_dir) is None:
                raise FileNotFoundError(
                    f'There is no checkpoint in {runner.work_dir} to resume from: '
                    'start without --resume.'
                )
            return
        for path, command in self.inputs.items():
            if not Path(path).exists():
                raise FileNotFoundError(f'{path} is missing; make it with: {command}')
        if self.strict and load_from and Path(load_from).is_file():
            model = runner.model
            check_fits(
                model.module if is_model_wrapper(model) else model,
                load_from,
                ignore=self.ignore,
            )
