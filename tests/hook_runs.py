"""Runs of a tiny model in a real Runner, with hooks and unlabelled images."""

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher


class Sum(BaseModel):
    """A model whose loss depends on a random number alone, not on the images."""

    def __init__(self):
        super().__init__()
        self.student = nn.Linear(1, 1)

    def forward(self, inputs, data_samples, mode='loss'):
        # One draw per step: the hook must not change the random state of training.
        return {'loss': self.student(torch.rand(1)).sum()}


class Record(Hook):
    """Record the training images in order, their instances, and random numbers."""

    def __init__(self):
        self.seen = []
        self.instances = 0
        self.random = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for sample in data_batch['data_samples']:
            self.seen.append(sample.img_path)
            self.instances += len(sample.gt_instances)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.random += [torch.rand(1).item(), np.random.rand()]


def unlabelled(world, store, names_file='', **loading):
    return dict(
        type='ImageListDataset',
        ann_file=str(names_file),
        data_prefix=dict(img=str(world.img_root)),
        metainfo=dict(classes=world.classes),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='LoadPseudoAnnotations',
                store=store and str(store),
                **dict(score_thr=0.06, skip_empty=False) | loading,
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    )


def labels_of_nothing(world, root):
    """Make a complete store without any instance."""
    store = PseudoLabelStore.create(
        root, classes=world.classes, teacher=Teacher('t.py', 't.pth', '0')
    )
    for name in world.names:
        store.write(name, (48, 72), [], [], [], [])
    return store


def hook(world, **changes):
    return (
        dict(
            type='PseudoLabelHook',
            teacher=str(world.checkpoint),
            config=str(world.config),
        )
        | changes
    )


def make_runner(
    work_dir, dataset, hooks, *, loader=None, train_cfg=None, model=None, **arguments
):
    record = Record()
    loader = loader or dict(
        num_workers=0, batch_size=2, sampler=dict(type='InfiniteSampler')
    )
    runner = Runner(
        model=model or Sum(),
        work_dir=str(work_dir),
        train_dataloader=dict(dataset=dataset, **loader),
        train_cfg=train_cfg or dict(type='IterBasedTrainLoop', max_iters=4),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[record, *hooks],
        default_hooks=dict(
            logger=None,
            timer=None,
            checkpoint=None,
            runtime_info=None,
            param_scheduler=None,
        ),
        randomness=dict(seed=3),
        default_scope='mmdet',
        experiment_name=f'{Path(work_dir).name}_{id(record)}',
        **arguments,
    )
    return runner, record


def running(path, content=None, **arguments):
    """Make a config as if it were loaded from the file ``path``."""
    path.touch()
    return Config(content, filename=str(path), **arguments)
