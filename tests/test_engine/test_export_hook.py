"""Test what a training leaves."""

from types import SimpleNamespace

import pytest
import torch
from gloo_ranks import two_ranks
from hook_runs import Sum, hook, labels_of_nothing, make_runner, unlabelled
from mmdet.apis import init_detector
from mmdet.registry import MODELS
from torch import nn

from mmcast.checkpoints import check_fits, export_part, read_checkpoint
from mmcast.engine.hooks import ExportHook


def test_the_exported_student_is_a_plain_detector(teacher_world, tmp_path):
    class Wrapper(Sum):
        def __init__(self):
            super().__init__()
            self.scale = self.student
            self.student = MODELS.build(teacher_world.model)

        def forward(self, inputs, data_samples, mode='loss'):
            return {'loss': self.scale(torch.rand(1)).sum()}

    wrapper = Wrapper()
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, tmp_path / 'store'),
        [hook(teacher_world), dict(type='ExportHook')],
        model=wrapper,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=1),
    )
    runner.train()
    path = tmp_path / 'run/student.pth'
    exported = init_detector(str(teacher_world.config), str(path), device='cpu')
    assert tuple(exported.dataset_meta['classes']) == teacher_world.classes
    check_fits(exported, path)
    for key, value in wrapper.student.state_dict().items():
        assert torch.equal(exported.state_dict()[key], value), key
    content = torch.load(path, weights_only=True)
    assert set(content) == {'state_dict', 'meta'}
    assert list(content['state_dict']) == list(wrapper.student.state_dict())
    assert not list((tmp_path / 'run').glob('.student*'))

    # Exporting from a training checkpoint gives the same.
    torch.save(
        {'state_dict': wrapper.state_dict(), 'meta': content['meta'], 'optimizer': {}},
        tmp_path / 'iter_1.pth',
    )
    export_part(tmp_path / 'iter_1.pth', tmp_path / 'hand.pth')
    by_hand = read_checkpoint(tmp_path / 'hand.pth')
    assert by_hand['meta'] == content['meta']
    assert all(
        torch.equal(by_hand['state_dict'][key], value)
        for key, value in content['state_dict'].items()
    )
    with pytest.raises(ValueError, match='has no weights below'):
        export_part(tmp_path / 'hand.pth', tmp_path / 'again.pth')


def test_all_ranks_validate_with_the_statistics_of_the_file(tmp_path):
    def work(rank):
        model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
        model[0].running_mean += rank
        model[0].num_batches_tracked += rank
        model[1].weight.data += rank
        ExportHook().before_val_epoch(SimpleNamespace(model=model))
        assert not model[0].running_mean.any()
        assert model[0].num_batches_tracked == 0

    assert two_ranks(work, tmp_path) == [0, 0]


def test_a_weight_that_float16_does_not_hold(tmp_path):
    weights = {'a': torch.tensor([7e4]), 'b': torch.tensor([1.5])}
    torch.save(dict(state_dict=weights, meta={}), tmp_path / 'all.pth')
    with pytest.raises(ValueError, match=r'a of .* above 65,504'):
        export_part(tmp_path / 'all.pth', tmp_path / 'half.pth', '', half=True)
    assert not (tmp_path / 'half.pth').exists()
    weights['a'] /= 2
    torch.save(dict(state_dict=weights, meta={}), tmp_path / 'all.pth')
    export_part(tmp_path / 'all.pth', tmp_path / 'half.pth', '', half=True)
    found = read_checkpoint(tmp_path / 'half.pth')['state_dict']
    assert {name: value.dtype for name, value in found.items()} == {
        'a': torch.float16,
        'b': torch.float16,
    }


def test_missing_part_to_export_raises_before_training(teacher_world, tmp_path):
    store = labels_of_nothing(teacher_world, tmp_path / 'store')
    for part in ('teacher', ''):
        runner, record = make_runner(
            tmp_path / 'run',
            unlabelled(teacher_world, store.root),
            [dict(type='ExportHook', part=part, out='plain.pth')],
        )
        if part:
            with pytest.raises(ValueError, match="Sum has no 'teacher' to export"):
                runner.train()
            assert record.seen == []
        else:
            runner.train()
            state = read_checkpoint(tmp_path / 'run/plain.pth')['state_dict']
            assert list(state) == ['student.weight', 'student.bias']


def test_a_finished_run_keeps_its_metrics_when_it_is_resumed(teacher_world, tmp_path):
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, tmp_path / 'store'),
        [hook(teacher_world)],
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=1),
    )
    runner.train()
    metrics = tmp_path / 'run/plain.json'
    measured = ExportHook(part='', out='plain.pth')
    measured.after_val_epoch(runner, {'coco/segm_mAP': 0.5})
    measured.after_train(runner)
    written = metrics.read_bytes()
    ExportHook(part='', out='plain.pth').after_train(runner)
    assert metrics.read_bytes() == written
    with torch.no_grad():
        runner.model.student.weight += 1
    ExportHook(part='', out='plain.pth').after_train(runner)
    assert not metrics.exists()
