"""The configs of all stages of a user's own data, as text.

A stage inherits from ``configs/mmcast/own_data/SIZE``, or from the user's own config;
``data.py`` has what they share.
"""

import math
import os
import pprint
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmengine.config import Config

from .caps import raised
from .detectors import Detector
from .python_text import Code, assignment

STAGES = ('supervised', 'adapt', 'selftrain', 'distill', 'finetune')
_WRAPPERS = ('selftrain', 'distill')
_OF_TEACHER = ('adapt', 'selftrain')
# For a user's own teacher; SIZE's stage `distill` has that of its own one.
_LABELS = dict(score_thr=0.5, min_left=0.8)


@dataclass(frozen=True)
class Files:
    """Where the images are.

    Attributes:
        coco: COCO file of the annotated images.
        images: Their folder, and that of the unlabelled ones.
        val: COCO file of the validation images.
        val_images: Their folder.
        lists: Folder of the drawn lists.
    """

    coco: Path
    images: Path
    val: Path
    val_images: Path
    lists: Path


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Attributes:
        name: Of the data set; the configs go to ``configs/NAME``.
        size: Folder of the stages that are inherited from.
        sizes: The installed folder of all sizes.
        files: Where the images are.
        classes: Class names.
        labeled: Number of labelled images.
        unlabeled: Number of unlabelled images.
        most: Objects of the fullest image.
        mirrored: Pairs of classes that a flip swaps; empty if there are none. None if
            images must not be flipped.
        student: The user's own student.
        teacher: The user's own teacher, and its checkpoint.
    """

    name: str
    size: str
    sizes: Path
    files: Files
    classes: tuple[str, ...]
    labeled: int
    unlabeled: int
    most: int
    mirrored: Sequence[tuple[str, str]] | None = ()
    student: Detector | None = None
    teacher: tuple[Detector, str] | None = None

    @property
    def stages(self) -> list[str]:
        """List the stages in the order in which they are run."""
        return [
            stage
            for stage in STAGES
            if (self.sizes / self.size / f'{stage}.py').is_file()
            and not (self.teacher and stage in _OF_TEACHER)
        ]

    def left(self, stage: str) -> str:
        """Return the file that a stage leaves."""
        kind = 'teacher' if stage in _OF_TEACHER else 'student'
        return f'work_dirs/{self.name}/{stage}/{kind}.pth'


def config_files(plan: Plan) -> dict[str, str]:
    """Return the text of each config by its file name.

    Raises:
        ValueError: A detector's config has a variable with a name of ``data.py``.
    """
    files = {'data.py': _data(plan)}
    names = {'mmcast_hooks', *re.findall(r'^(\w+) = ', files['data.py'], re.MULTILINE)}
    for detector in (plan.student, plan.teacher and plan.teacher[0]):
        shared = sorted(names.intersection(detector.cfg)) if detector else []
        if detector and shared:
            raise ValueError(
                f'{detector.path} has the variable {shared[0]!r}, as data.py will: '
                'rename it there'
            )
    if plan.teacher:
        files['teacher.py'] = _teacher(plan)
    for stage in plan.stages:
        own = plan.student and stage not in _OF_TEACHER
        files[f'{stage}.py'] = (_OWN[stage] if own else _inherited)(plan, stage)
    return files


def _data(plan: Plan) -> str:
    """Write what the stages share: classes and paths."""
    files = plan.files
    root = Path(os.path.commonpath([each.absolute() for each in vars(files).values()]))
    start = os.path.relpath(root) + '/' if root != Path.cwd() else ''

    def below(path: Path) -> str:
        return os.path.relpath(path.absolute(), root)

    metainfo: dict[str, Any] = dict(classes=Code('class_names'))
    remark = ''
    if plan.mirrored is None:
        remark = '# Classes say left or right, without pairs: images are not flipped.\n'
    elif plan.mirrored:
        remark = '# A flip swaps the labels of each pair in `mirrored`.\n'
    if remark:
        metainfo['mirrored'] = plan.mirrored
    own: Mapping[str, Any] = {'': Code('own_images')}
    validation = {**own, 'type': 'ListedCocoDataset'}
    if files.val_images != files.images:
        validation['data_prefix'] = dict(img=below(files.val_images) + '/')
    both: dict[str, Any] = dict(
        labeled_dataset=Code('labeled'), unlabeled_dataset=Code('unlabeled')
    )
    labelled_by: dict[str, Any] = dict(type='PseudoLabelHook')
    if plan.teacher:
        both['pseudo_labels'] = dict(store=_store(plan))
        labelled_by |= dict(
            teacher=plan.teacher[1], config=f'configs/{plan.name}/teacher.py'
        )
    elif 'selftrain' in plan.stages:
        labelled_by['teacher'] = [Code('selftrained'), Code('adapted')]
    else:
        labelled_by['teacher'] = Code('adapted')
    distill = Config.fromfile(plan.sizes / plan.size / 'distill.py')
    starts_supervised = distill.get('starts_supervised') and not plan.student
    goes_on = dict(type='Pretrained', checkpoint=Code('supervised'))
    outputs = {
        'supervised': 'supervised',
        'adapt': 'adapted',
        'selftrain': 'selftrained',
        'distill': 'distilled',
    }
    return ''.join(
        [
            f'# Classes and files of {plan.name}: {plan.labeled} labelled and '
            f'{plan.unlabeled} unlabelled images.\n',
            _names(plan.classes),
            remark,
            assignment(
                'own_images',
                dict(
                    data_root=start,
                    data_prefix=dict(img=below(files.images) + '/'),
                    metainfo=metainfo,
                ),
            ),
            assignment(
                'labeled',
                {
                    **own,
                    'type': 'ListedCocoDataset',
                    'ann_file': below(files.coco),
                    'image_list': below(files.lists / 'labeled.txt'),
                },
            ),
            assignment(
                'unlabeled',
                {
                    **own,
                    'type': 'ImageListDataset',
                    'ann_file': below(files.lists / 'unlabeled.txt'),
                },
            ),
            assignment('both', both),
            assignment('validation', {**validation, 'ann_file': below(files.val)}),
            assignment(
                'evaluation',
                dict(
                    type='CocoMetric',
                    metric='segm',
                    ann_file=start + below(files.val),
                ),
            ),
            '# What the stages leave.\n',
            *(
                assignment(outputs[stage], plan.left(stage))
                for stage in plan.stages
                if stage in outputs
            ),
            assignment('labelled_by', labelled_by),
            assignment('baseline', dict(compare_with=Code('supervised'))),
            *([assignment('goes_on', goes_on)] if starts_supervised else []),
        ]
    )


def _names(classes: Sequence[str]) -> str:
    text = pprint.pformat(tuple(classes), width=70, compact=True)
    if '\n' in text:
        text = text.replace('\n', '\n   ').replace('(', '(\n    ', 1)[:-1] + ',\n)'
        return f'# fmt: off\nclass_names = {text}\n# fmt: on\n'
    return f'class_names = {text}\n'


def _head(base: str | list[str], plan: Plan, stage: str) -> str:
    return assignment('_base_', base) + assignment(
        'work_dir', f'work_dirs/{plan.name}/{stage}'
    )


def _replaced(cfg: Config) -> dict[str, bool]:
    """Return what an evaluator needs to replace the user's, if it is another one."""
    every = [cfg.get('val_evaluator'), cfg.get('test_evaluator')]
    same = all(isinstance(e, Mapping) and e.get('type') == 'CocoMetric' for e in every)
    return {} if same else dict(_delete_=True)


def _evaluation(more: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Write how a stage is evaluated; the report shows its last predictions."""
    prefix = Code("work_dir + '/validation'")
    evaluation = {'': Code('_base_.evaluation'), **more}
    return (
        assignment(
            'val_dataloader = test_dataloader', dict(dataset=Code('_base_.validation'))
        )
        + assignment(
            'test_evaluator', evaluation if more else Code('_base_.evaluation')
        )
        + assignment('val_evaluator', {**evaluation, 'outfile_prefix': prefix})
    )


def _inherited(plan: Plan, stage: str) -> str:
    """Write a stage that inherits from one of SIZE."""
    base = Config.fromfile(plan.sizes / plan.size / f'{stage}.py')
    wrapper = stage in _WRAPPERS
    changes = raised(base.model.student if wrapper else base.model, plan.most)
    model: dict[str, Any] = {'classes': Code('_base_.class_names'), **changes}
    hooks: dict[str, Any] = {}
    if base.get('starts_supervised'):
        model['init_cfg'] = Code('_base_.goes_on')
    if stage == 'selftrain':
        hooks['pseudo_labels'] = dict(teacher=Code('_base_.adapted'))
    if stage == 'distill':
        hooks['export'] = Code('_base_.baseline')
        hooks['pseudo_labels'] = Code('_base_.labelled_by')
    new = [f'{part}.' for part in _with_new_queries(changes)]
    if new:
        known = ['panoptic_head.cls_embed.']
        hooks['preflight'] = dict(may_be_new=[*known, *new])
    data: Any = dict(labeled_dataset=Code('_base_.labeled'))
    if wrapper:
        data = Code('_base_.both')
    text = _head(
        [f'../mmcast/own_data/{plan.size}/{stage}.py', './data.py'], plan, stage
    )
    text += assignment('model', dict(student=model) if wrapper else model)
    text += assignment('train_dataloader', dict(dataset=data)) + _evaluation()
    if hooks:
        text += assignment('default_hooks', hooks)
    if stage == 'finetune':
        text += assignment('load_from', Code('_base_.distilled'))
    return text


def _with_new_queries(changes: Mapping[str, Any]) -> list[str]:
    """List the weights that have another shape with another number of queries."""
    found = []
    for key, value in changes.items():
        if key == 'num_queries':
            found += ['query_embed', 'query_feat']
        elif isinstance(value, Mapping):
            found += [f'{key}.{name}' for name in _with_new_queries(value)]
    return found


def _own_supervised(plan: Plan, stage: str) -> str:
    """Write the training of the user's own student on the labels."""
    student = plan.student
    assert student is not None
    cfg = student.cfg
    folder = Path('configs', plan.name)
    parts = [('own', _with_own_data('_base_.train_dataloader.dataset', cfg))]
    times = _repeats(plan)
    if times > 1:
        repeated = dict(type='RepeatDataset', times=times, dataset=Code('own'))
        parts.append(('repeated', repeated))
    dataset = dict(
        _delete_=True,
        type='SemiSupervisedDataset',
        labeled_dataset=Code(parts[-1][0]),
    )
    model = {
        **student.with_classes(),
        'classes': Code('_base_.class_names'),
        **raised(cfg.model, plan.most),
    }
    text = _head(
        [student.base(folder), '../mmcast/own_data/hooks.py', './data.py'], plan, stage
    )
    text += _imports(cfg) + assignment('model', model)
    text += ''.join(assignment(name, value) for name, value in parts)
    text += assignment('train_dataloader', dict(dataset=dataset))
    text += _evaluation(_replaced(cfg))
    return text + assignment('default_hooks', Code('_base_.mmcast_hooks'))


def _imports(cfg: Config) -> str:
    modules = cfg.get('custom_imports', {}).get('imports', [])
    modules = [modules] if isinstance(modules, str) else list(modules)
    return assignment(
        'custom_imports', dict(imports=['mmcast', *modules], allow_failed_imports=False)
    )


def _with_own_data(path: str, cfg: Config) -> dict[str, Any]:
    """Write the user's training data set, wrappers and all, with the own images."""
    node: Any = cfg.train_dataloader.dataset
    wrappers = []
    while 'dataset' in node or 'datasets' in node:
        if 'datasets' in node:
            node, path = node.datasets[0], f'{path}.datasets[0]'
        else:
            wrappers.append(path)
            node, path = node.dataset, f'{path}.dataset'
    own: dict[str, Any] = {'': Code(path), '**': Code('_base_.labeled')}
    for wrapper in wrappers[::-1]:
        own = {'': Code(wrapper), 'dataset': own}
    return own


def _repeats(plan: Plan) -> int:
    """Return how often an epoch has each labelled image: as many as unlabelled ones."""
    if plan.student is None or plan.student.epochs is None:
        return 1
    return math.ceil(plan.unlabeled / plan.labeled)


def _own_distill(plan: Plan, stage: str) -> str:
    """Write the training of the user's own student on labels and pseudo-labels."""
    assert plan.student is not None
    loader: dict[str, Any] = dict(
        sampler=dict(_delete_=True, type='LabeledUnlabeledSampler'), batch_sampler=None
    )
    batch = plan.student.cfg.train_dataloader.batch_size
    if batch % 2:
        loader['batch_size'] = batch + 1
    if plan.teacher:
        labels = _LABELS | dict(store=_store(plan))
    else:
        base = Config.fromfile(plan.sizes / plan.size / 'distill.py')
        labels = dict(base.train_dataloader.dataset.pseudo_labels)
    loader['dataset'] = dict(
        unlabeled_dataset=Code('_base_.unlabeled'), pseudo_labels=labels
    )
    return (
        _head('./supervised.py', plan, stage)
        + assignment(
            'model',
            dict(
                _delete_=True,
                type='SemiSupervisedSegmentor',
                student=Code('_base_.model'),
            ),
        )
        + assignment('train_dataloader', loader)
        + assignment(
            'val_evaluator', dict(outfile_prefix=Code("work_dir + '/validation'"))
        )
        + assignment(
            'default_hooks',
            dict(
                export=Code('_base_.baseline'), pseudo_labels=Code('_base_.labelled_by')
            ),
        )
    )


def _own_finetune(plan: Plan, stage: str) -> str:
    """Write the refinement: a tenth of the learning rate and of the length."""
    assert plan.student is not None
    cfg = plan.student.cfg
    text = _head('./supervised.py', plan, stage)
    text += assignment('load_from', Code('_base_.distilled'))
    rate = float(f'{cfg.optim_wrapper.optimizer.lr / 10:.3g}')
    text += assignment('optim_wrapper', dict(optimizer=dict(lr=rate)))
    times = _repeats(plan)
    if times > 1:
        shorter = dict(labeled_dataset=dict(times=math.ceil(times / 10)))
        text += assignment('train_dataloader', dict(dataset=shorter))
    elif plan.student.epochs is None:
        iterations = math.ceil(cfg.train_cfg.max_iters / 10)
        text += assignment(
            'train_cfg', dict(max_iters=iterations, val_interval=iterations)
        )
    return text + assignment(
        'val_evaluator', dict(outfile_prefix=Code("work_dir + '/validation'"))
    )


_OWN = {
    'supervised': _own_supervised,
    'distill': _own_distill,
    'finetune': _own_finetune,
}


def _store(plan: Plan) -> str:
    return f'work_dirs/{plan.name}/teacher/pseudo_labels'


def _teacher(plan: Plan) -> str:
    """Write the config of the user's own teacher, for `mim test` and for labelling."""
    assert plan.teacher is not None
    detector, checkpoint = plan.teacher
    tested = raised(detector.cfg.model.get('test_cfg', {}), plan.most)
    model = {
        **detector.with_classes(),
        'classes': Code('_base_.class_names'),
        **(dict(test_cfg=tested) if tested else {}),
    }
    evaluation = {'': Code('_base_.evaluation'), **_replaced(detector.cfg)}
    return (
        f'# The teacher; its weights are {checkpoint}.\n'
        + assignment('_base_', [detector.base(Path('configs', plan.name)), './data.py'])
        + _imports(detector.cfg)
        + assignment('model', model)
        + assignment(
            'val_dataloader = test_dataloader', dict(dataset=Code('_base_.validation'))
        )
        + assignment(
            'val_evaluator = test_evaluator',
            evaluation if len(evaluation) > 1 else Code('_base_.evaluation'),
        )
    )
