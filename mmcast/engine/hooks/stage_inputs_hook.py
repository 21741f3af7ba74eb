"""Tell a stage's missing or unfit inputs before any work."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint

from mmcast.engine.checkpoints import check_fits


@HOOKS.register_module()
class StageInputsHook(Hook):
    """Check the files that a training stage starts from.

    Acts before training only, not in ``mim test``. The file that a wrapper's teacher
    starts from is one of them. A stage leaves its files in a folder of its name, so the
    stage that makes it is the config of the folder's name, beside the running one.

    Args:
        inputs: Other files, each with the command that makes it.
        strict: Whether a local ``load_from`` must have every weight of the model in
            its shape. mmengine itself only warns.
        ignore: Prefixes of the model's weights that ``load_from`` may lack.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        inputs: dict[str, str] | None = None,
        strict: bool = True,
        ignore: Sequence[str] = (),
    ) -> None:
        self.inputs = inputs or {}
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
        for path, command in {**_teachers_file(runner), **self.inputs}.items():
            if not Path(path).exists():
                raise FileNotFoundError(f'{path} is missing; make it with: {command}')
        if self.strict and load_from and Path(load_from).is_file():
            check_fits(_unwrapped(runner), load_from, ignore=self.ignore)


def _teachers_file(runner: Runner) -> dict[str, str]:
    init = getattr(getattr(_unwrapped(runner), 'teacher', None), 'init_cfg', None)
    path = init.get('checkpoint') if isinstance(init, dict) else None
    if path is None or '://' in path:
        return {}
    stage = Path(runner.cfg.filename or '').parent / f'{Path(path).parent.name}.py'
    if stage.is_file():
        return {path: f'mim train mmdet {stage}'}
    return {path: 'the stage that leaves it, or give model.teacher another checkpoint'}


def _unwrapped(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
