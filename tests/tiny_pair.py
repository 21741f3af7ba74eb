"""Build a student and a teacher with three layers each, and a Runner for them."""

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn


def network(width=4):
    net = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
    net.register_buffer('constant', torch.rand(2), persistent=False)
    return net


class Pair(BaseModel):
    """A student that learns the sum of its inputs plus its teacher's output."""

    def __init__(self, seed=0, teacher_width=4):
        super().__init__()
        torch.manual_seed(seed)
        self.student = network()
        self.teacher = network(teacher_width).requires_grad_(False)
        self.semi_test_cfg = dict(predict_on='student')

    def train(self, mode=True):
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, inputs, mode='loss'):
        inputs = inputs.to(self.student[0].weight.dtype)
        if mode == 'predict':
            net = getattr(self, self.semi_test_cfg['predict_on'])
            return [float(value) for value in net(inputs)]
        found = self.student(inputs)
        wanted = inputs.sum(1, keepdim=True) + self.teacher(inputs)
        return dict(loss=(found - wanted).square().mean())


def state(module):
    """Copy all parameters and buffers, also those that no checkpoint contains."""
    parts = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: value.detach().clone() for name, value in parts.items()}


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Watch(Hook):
    """Record the teacher's state before each training iteration."""

    def __init__(self):
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen[runner.iter] = state(runner.model.teacher)


def random_inputs(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [dict(inputs=torch.randn(3, generator=generator)) for _ in range(count)]


def make_runner(
    work_dir,
    model,
    hooks,
    *,
    max_iters=10,
    optim=None,
    checkpoint=None,
    val_interval=100,
    schedule=None,
    epochs=None,
    **arguments,
):
    length = dict(type='IterBasedTrainLoop', max_iters=max_iters)
    if epochs:
        length = dict(type='EpochBasedTrainLoop', max_epochs=epochs)
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=random_inputs(12),
            batch_size=4,
            num_workers=0,
            sampler=dict(type='DefaultSampler' if epochs else 'InfiniteSampler'),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(length, val_interval=val_interval, **schedule or {}),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9), **optim or {}
        ),
        default_hooks=dict(
            checkpoint=dict(
                dict(type='CheckpointHook', interval=1, by_epoch=False),
                **checkpoint or {},
            )
        ),
        custom_hooks=hooks,
        randomness=dict(seed=3),
        default_scope='mmdet',
        experiment_name=f'{work_dir.name}_{id(model)}',
        **arguments,
    )


def hook(**changes):
    return dict(type='TeacherUpdateHook', burn_in_iters=5, momentum=0.5) | changes


def guided(seed=0, **arguments):
    """Build a pair whose teacher counts as loaded from a checkpoint."""
    model = Pair(seed, **arguments)
    model.teacher.init_cfg = dict(type='Pretrained', checkpoint='of a stage before')
    return model


class Mean(BaseMetric):
    """The mean of the model's predictions."""

    default_prefix = 'test'

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(mean=sum(results) / len(results))


def evaluation(part, loop):
    """Return a Runner's arguments for ``part``, which is ``'val'`` or ``'test'``."""
    loader = dict(
        dataset=random_inputs(4),
        batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    return {
        f'{part}_dataloader': loader,
        f'{part}_cfg': dict(type=loop),
        f'{part}_evaluator': dict(type=Mean),
    }
