"""The configs of the stages that train the user's own student, as text."""

import math
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .caps import new_weights, raised
from .plan import Plan, evaluation, head, imports, replaced, store
from .python_text import Code, assignment

# For a user's own teacher; SIZE's stage `distill` has that of its own one.
_LABELS = dict(score_thr=0.5, min_left=0.8)


def _own_supervised(plan: Plan, stage: str) -> str:
    """Write the training of the user's own student on the labels."""
    student = plan.student
    assert student is not None
    cfg = student.cfg
    folder = Path('configs', plan.name)
    parts = [('own', _with_own_data('_base_.train_dataloader.dataset', cfg))]
    times = repeats(plan)
    if times > 1:
        repeated = dict(type='RepeatDataset', times=times, dataset=Code('own'))
        parts.append(('repeated', repeated))
    dataset = dict(
        _delete_=True,
        type='SemiSupervisedDataset',
        labeled_dataset=Code(parts[-1][0]),
    )
    changes = raised(cfg.model, plan.most)
    model = {
        **student.with_classes(),
        'classes': Code('_base_.class_names'),
        **changes,
    }
    if cfg.get('load_from'):
        # `distill` wraps the model, so the names in the file would not fit; and layers
        # of other classes may be new only here.
        start = dict(type='Pretrained', checkpoint=Code('_base_.load_from'))
        delete = dict(_delete_=True) if 'init_cfg' in cfg.model else {}
        model['init_cfg'] = delete | start
    text = head(
        [student.base(folder), '../mmcast/own_data/hooks.py', './data.py'], plan, stage
    )
    text += imports(cfg) + assignment('model', model)
    if 'init_cfg' in model:
        text += assignment('load_from', None)
    text += ''.join(assignment(name, value) for name, value in parts)
    text += assignment('train_dataloader', dict(dataset=dataset))
    text += evaluation(replaced(cfg))
    hooks: Any = Code('_base_.mmcast_hooks')
    new = new_weights(changes)
    if new:
        hooks = {'': hooks, 'preflight': dict(type='PreflightHook', may_be_new=new)}
    return text + assignment('default_hooks', hooks)


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


def repeats(plan: Plan) -> int:
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
    if plan.has_teacher:
        labels = _LABELS | dict(store=store(plan))
    else:
        base = Config.fromfile(plan.sizes / plan.size / 'distill.py')
        labels = dict(base.train_dataloader.dataset.pseudo_labels)
    loader['dataset'] = dict(
        unlabeled_dataset=Code('_base_.unlabeled'), pseudo_labels=labels
    )
    return (
        head('./supervised.py', plan, stage)
        + assignment(
            'model',
            dict(
                _delete_=True,
                type='SemiSupervisedSegmentor',
                student=Code('_base_.model'),
            ),
        )
        + _optimizer(plan.student.cfg)
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


def _optimizer(cfg: Config) -> str:
    """Write that the user's own constructor of the optimiser sees the student."""
    own = cfg.optim_wrapper.get('constructor')
    if not own:
        return ''
    return assignment(
        'optim_wrapper',
        dict(
            constructor='StudentOptimWrapperConstructor',
            paramwise_cfg=dict(constructor=own),
        ),
    )


def _own_finetune(plan: Plan, stage: str) -> str:
    """Write the refinement: a tenth of the learning rate and of the length.

    It has one epoch at least. The rate falls from the first iteration on, and a
    pipeline for the last epochs is there from the first one: a warm-up and an epoch of
    the whole length would be too long, or never come.
    """
    assert plan.student is not None
    cfg = plan.student.cfg
    text = head('./supervised.py', plan, stage)
    text += assignment('load_from', Code('_base_.distilled'))
    rate = float(f'{cfg.optim_wrapper.optimizer.lr / 10:.3g}')
    text += assignment('optim_wrapper', dict(optimizer=dict(lr=rate)))
    text += assignment(
        'param_scheduler', [dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False)]
    )
    users = [Code(f'_base_.custom_hooks[{i}]') for i in range(len(_hooks(cfg)))]
    switched = [
        {'': name, 'switch_epoch': 0} if 'switch_epoch' in each else name
        for name, each in zip(users, _hooks(cfg), strict=True)
    ]
    if switched != users:
        text += assignment('custom_hooks', switched)
    key = 'max_iters' if plan.student.epochs is None else 'max_epochs'
    length = max(round(cfg.train_cfg[key] / 10), 1)
    text += assignment(
        'train_cfg', dict({key: length}, val_interval=length, val_begin=1)
    )
    return text + assignment(
        'val_evaluator', dict(outfile_prefix=Code("work_dir + '/validation'"))
    )


def _hooks(cfg: Config) -> list[dict[str, Any]]:
    return cfg.get('custom_hooks') or []


OWN = {
    'supervised': _own_supervised,
    'distill': _own_distill,
    'finetune': _own_finetune,
}
