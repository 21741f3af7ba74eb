"""The configs of all stages of a user's own data, as text.

A stage inherits from ``configs/mmcast/own_data/SIZE``, or from the user's own config;
``data.py`` has what they share.
"""

import os
import pprint
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .caps import most_labels, new_weights, raised
from .own_student import OWN
from .plan import (
    OF_TEACHER,
    STAGES,
    WRAPPERS,
    Plan,
    evaluation,
    head,
    imports,
    replaced,
    store,
)
from .python_text import Code, assignment


def check_configs(name: str, with_teacher: bool) -> None:
    """Check that ``configs/NAME`` has only files that the command wrote itself.

    Only names of files that the command writes or deletes are looked at.

    Args:
        name: Name of the data set.
        with_teacher: Whether ``teacher.py`` will be written.

    Raises:
        FileExistsError: A file there is the user's own.
    """
    starts = dict(data=f'# Classes and files of {name}: ')
    if with_teacher:
        starts['teacher'] = '# The teacher; its weights are '
    for stage in STAGES:
        base = r"(\[.*?'\./data\.py',?\n?\]|'\./supervised\.py')\n"
        starts[stage] = rf"_base_ = {base}.*^work_dir = 'work_dirs/{name}/{stage}'\n"
    for each, start in starts.items():
        path = Path('configs', name, f'{each}.py')
        if not path.exists():
            continue
        text = path.read_text(encoding='utf-8', errors='replace')
        if not re.match(start, text, re.DOTALL | re.MULTILINE):
            raise FileExistsError(
                f"'{path}' was not written by own-data: give the data set another "
                'name, or move the file elsewhere'
            )


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
        own = plan.student and stage not in OF_TEACHER
        files[f'{stage}.py'] = (OWN[stage] if own else _inherited)(plan, stage)
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
    links = {} if plan.link_root is None else dict(link_root=str(plan.link_root))
    own: Mapping[str, Any] = {'': Code('own_images')}
    validation = {**own, 'type': 'ListedCocoDataset'}
    if files.val_images != files.images:
        validation['data_prefix'] = dict(img=below(files.val_images) + '/')
    both: dict[str, Any] = dict(
        labeled_dataset=Code('labeled'), unlabeled_dataset=Code('unlabeled')
    )
    labelled_by: dict[str, Any] = dict(type='PseudoLabelHook')
    if plan.by_words:
        labelled_by['teacher'] = store(plan)
    elif plan.teacher:
        both['pseudo_labels'] = dict(store=store(plan))
        labelled_by |= dict(
            teacher=plan.teacher[1], config=f'configs/{plan.name}/teacher.py'
        )
    elif 'selftrain' in plan.stages:
        labelled_by['teacher'] = [Code('selftrained'), Code('adapted')]
    else:
        labelled_by['teacher'] = Code('adapted')
    if most_labels(plan.most) != 100:
        labelled_by['max_instances'] = most_labels(plan.most)
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
                    **links,
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
                    type='WindowedCocoMetric',
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
        text = text.removesuffix(')').removesuffix(',')  # of a single name
        text = text.replace('\n', '\n   ').replace('(', '(\n    ', 1) + ',\n)'
        return f'# fmt: off\nclass_names = {text}\n# fmt: on\n'
    return f'class_names = {text}\n'


def _inherited(plan: Plan, stage: str) -> str:
    """Write a stage that inherits from one of SIZE."""
    base = Config.fromfile(plan.sizes / plan.size / f'{stage}.py')
    wrapper = stage in WRAPPERS
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
    new = new_weights(changes)
    if new:
        hooks['preflight'] = dict(may_be_new=new)
    data: Any = dict(labeled_dataset=Code('_base_.labeled'))
    if wrapper:
        data = Code('_base_.both')
    text = head(
        [f'../mmcast/own_data/{plan.size}/{stage}.py', './data.py'], plan, stage
    )
    text += assignment('model', dict(student=model) if wrapper else model)
    text += assignment('train_dataloader', dict(dataset=data)) + evaluation()
    if hooks:
        text += assignment('default_hooks', hooks)
    if stage == 'finetune':
        text += assignment('load_from', Code('_base_.distilled'))
    return text


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
    evaluation = {'': Code('_base_.evaluation'), **replaced(detector.cfg)}
    return (
        f'# The teacher; its weights are {checkpoint}.\n'
        + assignment('_base_', [detector.base(Path('configs', plan.name)), './data.py'])
        + imports(detector.cfg)
        + assignment('model', model)
        + assignment(
            'val_dataloader = test_dataloader', dict(dataset=Code('_base_.validation'))
        )
        + assignment(
            'val_evaluator = test_evaluator',
            evaluation if len(evaluation) > 1 else Code('_base_.evaluation'),
        )
    )
