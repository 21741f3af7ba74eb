"""Test the temperature's schedule in a run that stops and is resumed."""

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmcast.models.losses import PixelContrastLoss

SCHEDULE = dict(start=0.3, end=0.1, iters=8)


class Model(BaseModel):
    """A projection and the loss on it; it stops before forward ``dies_at``."""

    def __init__(self, dies_at=None):
        super().__init__()
        self.project = nn.Conv2d(5, 5, 1)
        self.loss = PixelContrastLoss(SCHEDULE)
        self.dies_at = dies_at
        self.temperatures = []

    def forward(self, inputs, mode):
        if len(self.temperatures) == self.dies_at:
            raise KeyboardInterrupt
        self.temperatures.append(self.loss.temperature.value)
        z = self.project(inputs)
        masks, classes = inputs[:, :3], inputs[:, :3, :, 0]
        return dict(loss_pxl=self.loss(z, z.detach(), masks, classes))


def run(work_dir, model, **arguments):
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=[dict(inputs=torch.randn(5, 3, 4)) for _ in range(4)],
            batch_size=2,
            num_workers=0,
            sampler=dict(type='InfiniteSampler'),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=6),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False)
        ),
        default_scope='mmdet',
        experiment_name=f'{work_dir.name}_{id(model)}',
        **arguments,
    )
    runner.train()
    return model.temperatures


def test_schedule_continues_from_the_checkpoint(tmp_path):
    whole = run(tmp_path / 'whole', Model())
    assert whole == pytest.approx([0.3, 0.275, 0.25, 0.225, 0.2, 0.175])
    cut = tmp_path / 'cut'
    with pytest.raises(KeyboardInterrupt):
        run(cut, Model(dies_at=5))
    state = torch.load(cut / 'iter_3.pth', weights_only=True)['state_dict']
    assert state['loss.temperature.step'] == 3
    assert run(cut, Model(), resume=True) == whole[3:]
    state = torch.load(cut / 'iter_6.pth', weights_only=True)['state_dict']
    assert state['loss.temperature.step'] == 6
