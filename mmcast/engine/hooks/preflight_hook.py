"""Check what a run starts from, before any work."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import (
    BaseLoop,
    EpochBasedTrainLoop,
    FlexibleRunner,
    Runner,
    find_latest_checkpoint,
)

from mmcast._requirements import mim_name
from mmcast.checkpoints import (
    check_fits,
    check_resumable,
    read_checkpoint,
    weights_of,
)
from mmcast.datasets.image_names import examples
from mmcast.datasets.overlap import image_paths
from mmcast.datasets.semi_supervised import SemiSupervisedDataset
from mmcast.engine.hooks.unreadable_images_hook import UnreadableImagesHook
from mmcast.engine.lineage import explain_missing, start_anew
from mmcast.engine.loader import restart_loader
from mmcast.engine.loops import TeacherStudentTestLoop
from mmcast.engine.stages import plain_config, refuse_wrapper, require
from mmcast.files import check_writable
from mmcast.models.unwrapped import unwrapped
from mmcast.package_weights import PYPI, check_package

# Prefixes of weights that prediction does not use, but for a teacher that predicts.
UNUSED = ('pixel_contrast.', 'student.pixel_contrast.', 'teacher.', 'critic.')


@HOOKS.register_module()
class PreflightHook(Hook):
    """Refuse to start from files that are missing, incomplete or do not fit.

    mmengine warns of weights that do not fit and continues with random ones.

    Before training it looks at ``load_from`` and at each ``Pretrained`` file in the
    model's config. The error for a missing file names the command that makes it. Local
    files of the detector, of the wrapper's student and of its teacher are compared
    weight by weight, and so is the part of a file that a ``prefix`` names. Checkpoints
    must have a folder that can be written. ``load_from`` must not be a detector alone
    where it trains with a teacher, and a teacher's file must be of the data set's
    classes. Validation images among the training images
    are named in a warning; if all images of a folder count as unlabelled, they are left
    out. Under ``--resume`` the checkpoint to resume
    from must be complete, and of the run that started last in the work folder. A
    ``SemiSupervisedDataset`` gets an ``UnreadableImagesHook`` if the run has none.

    Before ``mim test`` it compares the checkpoint with the model, so that a student is
    not evaluated with its wrapper's config, nor a wrapper's checkpoint with the
    student's.

    Args:
        may_be_new: Prefixes of weights that training may start without, since they
            belong to classes; a teacher may not.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        may_be_new: Sequence[str] = (
            'panoptic_head.cls_embed.',
            'bbox_head.rtm_cls.',
            'roi_head.bbox_head.fc_cls.',
            'roi_head.bbox_head.fc_reg.',
            'roi_head.mask_head.conv_logits.',
        ),
    ) -> None:
        self.may_be_new = tuple(may_be_new)
        self.left_out = 0

    def before_run(self, runner: Runner) -> None:
        """Check the files, and when checkpoints are written.

        Raises:
            FileNotFoundError: A file is missing, or ``--resume`` finds none.
            OSError: Checkpoints cannot be written.
            ValueError: A file does not fit or is incomplete, or checkpoints would fall
                between two steps of an optimiser that accumulates gradients; or the
                runner is another one.
        """
        if isinstance(runner, FlexibleRunner):
            raise ValueError(
                'FlexibleRunner cannot run a stage: with FSDP, it exports divided '
                'weights. Leave runner_type and strategy out of the config'
            )
        if isinstance(runner._train_loop, BaseLoop):
            self._check_training(runner)
        else:
            self._check_testing(runner)

    def before_train(self, runner: Runner) -> None:
        """See to it that ``--resume`` will not continue an older run.

        The loader starts anew if its sampler knows images that were left out, or may
        know no end of an epoch.
        """
        if not runner._resume:
            master_only(start_anew)(runner)
        if self.left_out or isinstance(runner.train_loop, EpochBasedTrainLoop):
            restart_loader(runner)

    def _check_training(self, runner: Runner) -> None:
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                _check_interval(hook, runner)
                folder = hook.out_dir or runner.work_dir
                if '://' not in folder:
                    check_writable(folder, 'give another folder with --work-dir')
        model, load_from = unwrapped(runner.model), runner._load_from
        if runner._resume:
            path = load_from or find_latest_checkpoint(runner.work_dir)
            if path is None:
                # mim drops load_from under --resume, and mmengine would train from
                # random weights without a warning.
                raise FileNotFoundError(explain_missing(runner.work_dir))
            check_resumable(path, runner.work_dir)
            load_from = None
        for path in [*_pretrained(runner.cfg.get('model')), load_from]:
            if path and '://' not in path:
                require(path, runner.cfg)
        student: Any = getattr(model, 'student', model)
        teacher: Any = getattr(model, 'teacher', None)
        for name, part in model.named_modules():
            inside = name.removeprefix('student').removeprefix('teacher').lstrip('.')
            ignore = UNUSED if part is teacher else UNUSED + self.may_be_new
            if inside:
                inside += '.'
                ignore = tuple(each.removeprefix(inside) for each in ignore)
            for source, prefix in _starts(part):
                whole = part in (model, student, teacher)
                if source.startswith(PYPI):
                    check_package(part, source, ignore=ignore, prefix=prefix)
                elif (whole or prefix) and Path(source).is_file():
                    check_fits(part, source, ignore=ignore, prefix=prefix)
                    if part is teacher:
                        _check_classes(source, runner)
        if load_from and student is not model:
            _refuse_plain(student, load_from)
        if load_from and Path(load_from).is_file():
            # An exported file has no critic; training starts with a new one.
            _check_whole(model, load_from, ignore=['critic.'])
        self.left_out = _compare_images(runner)
        _count_unreadable(runner)

    def _check_testing(self, runner: Runner) -> None:
        model, load_from = unwrapped(runner.model), runner._load_from
        if not load_from or not Path(load_from).is_file():
            return
        predicts = getattr(model, 'semi_test_cfg', {}).get('predict_on')
        if isinstance(runner._test_loop, TeacherStudentTestLoop):
            predicts = 'teacher'  # and the student
        ignore = [prefix for prefix in UNUSED if prefix != f'{predicts}.']
        try:
            _check_whole(model, load_from, ignore=ignore)
        except ValueError:
            student = getattr(model, 'student', None)
            if student is None or not _fits(student, load_from, ignore):
                raise
            other = plain_config(runner.cfg)
            remedy = (
                f'mim test {mim_name()} {other} --checkpoint {load_from}'
                if other
                else "give the config of the student alone (model.student's)"
            )
            raise ValueError(
                f'{load_from} is the plain checkpoint of a student, and '
                f'{runner.cfg.filename or "this config"} is the config of its '
                f'training with a teacher: {remedy}'
            ) from None


def _check_whole(model: Any, path: str, ignore: Sequence[str]) -> None:
    """Check that a file fits a model; say more if it is of a wrapper around it."""
    try:
        check_fits(model, path, ignore=ignore)
    except ValueError:
        found = read_checkpoint(path, shapes_only=True)['state_dict']
        refuse_wrapper(found, model.state_dict(), path, ignore)
        raise


def _check_classes(path: str, runner: Runner) -> None:
    """Check that a teacher's file was trained on the classes of the data set."""
    meta = read_checkpoint(path, shapes_only=True).get('meta') or {}
    found = (meta.get('dataset_meta') or {}).get('classes')
    dataset: Any = runner.train_loop.dataloader.dataset
    wanted = getattr(dataset, 'metainfo', {}).get('classes')
    if found and wanted and tuple(found) != tuple(wanted):
        raise ValueError(
            f'the teacher {path} was trained on the classes {tuple(found)}, and the '
            f'training images have {tuple(wanted)}: give a teacher of the same '
            'classes, in the same order'
        )


def _refuse_plain(student: Any, load_from: str) -> None:
    """Refuse weights of a detector alone where it trains with a teacher.

    Raises:
        ValueError: The file's names are the student's own, so nothing would be loaded.
    """
    if weights_of(load_from).keys() & student.state_dict().keys():
        raise ValueError(
            f'load_from={load_from} is a detector alone, and this run trains it beside '
            'a teacher, so no weight would be loaded: set load_from=None and '
            f"model.student.init_cfg=dict(type='Pretrained', checkpoint='{load_from}')"
        )


def _fits(model: Any, path: str, ignore: Sequence[str]) -> bool:
    try:
        check_fits(model, path, ignore=ignore)
    except ValueError:
        return False
    return True


def _compare_images(runner: Runner) -> int:
    """Compare the training images with the validation images.

    Returns:
        The number of unlabelled images that were left out for it.
    """
    training = runner.train_loop.dataloader.dataset
    if not isinstance(training, SemiSupervisedDataset):
        return 0
    if not isinstance(runner._val_loop, BaseLoop):
        return 0
    validation = set(image_paths(runner.val_loop.dataloader.dataset))
    both = [path for path in image_paths(training.datasets[0]) if path in validation]
    if both:
        runner.logger.warning(
            f'{len(both)} of {len(training.datasets[0])} labelled images are '
            f'validation images, too: {examples(both)}; take them off one list, since '
            'their AP says nothing about new images'
        )
    if len(training.datasets) == 1:
        return 0
    return training.leave_out(validation, 'validation')


def _count_unreadable(runner: Runner) -> None:
    """See to it that images which training skips are named and counted."""
    dataset: Any = runner.train_loop.dataloader.dataset
    counted = any(isinstance(hook, UnreadableImagesHook) for hook in runner.hooks)
    if isinstance(dataset, SemiSupervisedDataset) and not counted:
        runner.register_hook(UnreadableImagesHook())


def _check_interval(hook: CheckpointHook, runner: Runner) -> None:
    """Refuse checkpoints between two steps of an optimiser."""
    loop: Any = runner.train_loop
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    if hook.by_epoch and not by_epoch:
        return  # one checkpoint, at the end
    unit = loop.max_iters // loop.max_epochs if hook.by_epoch else 1
    interval, begin = hook.interval, hook.save_begin
    if interval <= 0:
        return
    # Nothing follows the last iteration.
    saved = range((begin or interval) * unit, loop.max_iters, interval * unit)
    wrappers: Any = runner.optim_wrapper
    several = isinstance(wrappers, OptimWrapperDict)
    for wrapper in wrappers.values() if several else [wrappers]:
        counts = wrapper._accumulative_counts
        between = next((iteration for iteration in saved if iteration % counts), None)
        if between is not None:
            least = counts // math.gcd(counts, unit)
            first = ' and save_begin to 0' if begin * unit % counts else ''
            raise ValueError(
                f'default_hooks.checkpoint would save after iteration {between}, '
                f'between two steps of optim_wrapper.accumulative_counts={counts}, and '
                'a checkpoint holds no gradients: set the interval to '
                f'{math.ceil(interval / least) * least}{first}'
            )


def _starts(module: Any) -> Iterator[tuple[str, str | None]]:
    """Yield file or URL, and prefix, of each ``Pretrained`` init config of a module."""
    init = getattr(module, 'init_cfg', None)
    for each in init if isinstance(init, list | tuple) else [init]:
        if isinstance(each, dict) and each.get('type') == 'Pretrained':
            yield each['checkpoint'], each.get('prefix')


def _pretrained(node: Any) -> Iterator[str]:
    """Yield the files of all ``Pretrained`` init configs in a model's config.

    A teacher of the student's architecture, ``dict(checkpoint=FILE)``, is one of them.
    """
    if isinstance(node, dict):
        is_file = node.get('type') == 'Pretrained' or set(node) == {'checkpoint'}
        if is_file and node['checkpoint']:
            yield node['checkpoint']
        for part in node.values():
            yield from _pretrained(part)
    elif isinstance(node, list | tuple):
        for part in node:
            yield from _pretrained(part)
