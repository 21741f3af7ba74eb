"""Export one network of a training run as a plain detector checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from mmengine.runner.checkpoint import get_state_dict

from mmcast.checkpoints import save_plain
from mmcast.utils import unwrapped


@HOOKS.register_module()
class ExportHook(Hook):
    """Write the weights of one network when training ends, as of the last iteration.

    The file has no prefix, no other network and no optimiser;
    ``mmdet.apis.init_detector``, ``load_from`` and ``mim test`` take it as it is. For
    the weights of another iteration see :func:`mmcast.checkpoints.export_part`.

    Args:
        out: File name in the work folder.
        part: ``'student'``, ``'teacher'``, or '' for the model itself; None for the
            wrapper's student, or the model itself if it is no wrapper.
        leave_out: Prefixes of weights that prediction does not use, as a critic's.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        out: str = 'student.pth',
        part: str | None = None,
        leave_out: Sequence[str] = (),
    ) -> None:
        self.out = out
        self.part = part
        self.leave_out = tuple(leave_out)

    def before_run(self, runner: Runner) -> None:
        """Check before training that there is a network to export.

        Raises:
            ValueError: There is none, or its number of classes is not the data set's.
                The exported file will have the data set's class names.
        """
        if not isinstance(runner._train_loop, BaseLoop):  # `mim test`
            return
        part, network = self._network(runner)
        count = getattr(network, 'num_classes', None)
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

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the file."""
        path = Path(runner.work_dir) / self.out
        metainfo = _metainfo(runner)
        # get_state_dict: parts of a distributed model can be wrapped one by one.
        weights = get_state_dict(self._network(runner)[1])
        save_plain(
            {k: v for k, v in weights.items() if not k.startswith(self.leave_out)},
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


def _metainfo(runner: Runner) -> dict[str, Any]:
    return getattr(runner.train_dataloader.dataset, 'metainfo', {})
