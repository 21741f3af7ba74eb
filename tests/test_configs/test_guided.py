"""Test Guided Distillation's configs: their settings, models, and that they run."""

from functools import cache

import pytest
import torch
from guided_settings import SETTINGS, SIZES, folder, switches
from mmdet.registry import MODELS
from mmengine import Config
from mmengine.runner import Runner
from tiny_student import sample
from torch import nn

from mmcast._requirements import mim_name
from mmcast.checkpoints import check_fits
from mmcast.testing import CONFIGS, load_config, reduced, shrink

ITERATIONS = dict(cityscapes=90000, coco=368750)
IMAGES = dict(
    cityscapes=('data/cityscapes/', 'leftImg8bit/train/'),
    coco=('data/coco/', 'train2017/'),
)
CLASSES = dict(cityscapes=8, coco=80)


@cache
def entry(stage, *setting):
    name = f'guided_distillation/{stage}_{setting[0]}'
    return load_config(name, **switches(*setting))


@pytest.mark.parametrize('setting', SETTINGS, ids='-'.join)
def test_both_stages_have_the_same_setting(setting):
    data, _, share = setting
    a, b = entry('teacher', *setting), entry('distill', *setting)
    assert b.model.student == a.model
    assert a.work_dir == folder('teacher', *setting)
    assert b.work_dir == folder('distill', *setting)
    assert a.default_hooks.export.out == 'teacher.pth'
    assert b.default_hooks.export.out == 'student.pth'
    assert b.model.teacher == dict(checkpoint=f'{a.work_dir}/teacher.pth')
    assert a.model.pixel_contrast is None
    assert 'teacher_update' not in a.default_hooks
    assert b.default_hooks.teacher_update.burn_in_iters == 50000
    for config in (a, b):
        assert config.train_cfg.max_iters == ITERATIONS[data]
        assert 'end' not in config.param_scheduler  # default: the last iteration
        labelled = config.train_dataloader.dataset.labeled_dataset
        assert labelled.image_list == f'splits/{share}/labeled.txt'
        assert (labelled.data_root, labelled.data_prefix.img) == IMAGES[data]
        assert len(labelled.metainfo.classes) == CLASSES[data] == a.model.num_classes
    everything = b.train_dataloader.dataset.unlabeled_dataset
    assert (everything.data_root, everything.data_prefix.img) == IMAGES[data]
    assert everything.ann_file == ''
    # Labelled images, too, as in the published code.
    assert b.train_dataloader.dataset.leave_out_labeled is False
    batches = a.train_dataloader.batch_size, b.train_dataloader.batch_size
    assert batches == (a.auto_scale_lr.base_batch_size, 32) == (16, 32)
    assert b.auto_scale_lr.base_batch_size == 32
    assert b.train_dataloader.sampler.source_ratio == [1, 1]


def test_coco_has_the_published_learning_rate_schedule():
    for stage in ('teacher', 'distill'):
        schedule = entry(stage, 'coco', 'r50', '10pct').param_scheduler
        assert (schedule.type, schedule.gamma) == ('MultiStepLR', 0.1)
        assert schedule.milestones == [327778, 355092]


def test_dpt256_is_casts_student():
    student = Config.fromfile(CONFIGS / '_base_/models/student_dpt256.py').model
    student.pixel_contrast = None
    found = entry('teacher', 'cityscapes', 'dpt256', '10pct').model
    assert found == student


@pytest.mark.parametrize('data', CLASSES)
@pytest.mark.parametrize('backbone', SIZES)
def test_networks_have_the_published_size(data, backbone, monkeypatch):
    linspace = torch.linspace  # Swin needs its values when it is built
    monkeypatch.setattr(torch, 'linspace', lambda *a: linspace(*a, device='cpu'))
    config = entry('distill', data, backbone, '10pct')
    with torch.device('meta'):
        model = MODELS.build(dict(config.model, strong_view=None))
    student, head = model.student, config.model.student.panoptic_head
    millions = sum(p.numel() for p in student.parameters()) / 1e6
    assert millions == pytest.approx(SIZES[backbone], abs=1)
    assert student.panoptic_head.cls_embed.out_features == CLASSES[data] + 1
    assert head.num_queries == (200 if backbone == 'swin_l' else 100)
    assert head.pixel_decoder.get('encoder', {}).get('num_layers', 6) == 6
    # The maps fit the decoder, for an image size that all strides divide.
    student.backbone.eval()
    maps = student.backbone(torch.empty(1, 3, 224, 448, device='meta'))
    assert [level.shape[1] for level in maps] == head.in_channels
    strides = [14] * 4 if backbone == 'dpt256' else [4, 8, 16, 32]
    assert [tuple(level.shape[2:]) for level in maps] == [
        (224 // stride, 448 // stride) for stride in strides
    ]
    if backbone in ('r50', 'r101'):
        synchronised = isinstance(student.backbone.norm1, nn.SyncBatchNorm)
        assert synchronised == (data == 'cityscapes')
    trained = all(p.requires_grad for p in student.backbone.parameters())
    assert trained == ((data, config.model.student.backbone.type) != ('coco', 'ResNet'))


@pytest.mark.parametrize(('backbone', 'side'), [('r50', 1024), ('dpt256', 1036)])
def test_coco_images_are_padded_to_one_size(backbone, side):
    config = entry('distill', 'coco', backbone, '10pct')
    preprocessor = MODELS.build(
        dict(
            type='MultiBranchDataPreprocessor',
            data_preprocessor=config.model.student.data_preprocessor,
        )
    )
    sizes = dict(sup=(100, 300), unsup=(1024, 80))
    batch = preprocessor(
        dict(
            inputs={
                k: [torch.ones(3, *v, dtype=torch.uint8)] for k, v in sizes.items()
            },
            data_samples={k: [sample(*v)] for k, v in sizes.items()},
        ),
        training=True,
    )
    for branch, size in sizes.items():
        assert batch['inputs'][branch].shape == (1, 3, side, side)
        (found,) = batch['data_samples'][branch]
        assert found.img_shape == size  # without the padding
        assert found.gt_instances.masks.masks.shape[1:] == (side, side)


@pytest.mark.parametrize(
    ('data', 'backbone'),
    [
        ('cityscapes', 'swin_t'),
        ('cityscapes', 'dinov2_b'),
        ('coco', 'r50'),
        ('coco', 'deit_b'),
        ('coco', 'dpt256'),
    ],
)
def test_both_stages_run(data, backbone, synthscapes, tmp_path, monkeypatch):
    """Train small models; the teacher's switch is between the two iterations."""
    monkeypatch.chdir(tmp_path)
    configs = [
        reduced(
            f'guided_distillation/{stage}_{data}',
            synthscapes,
            {},
            **switches(data, backbone),
        )
        for stage in ('teacher', 'distill')
    ]
    shrink(configs[0].model)
    shrink(configs[1].model.student)
    configs[1].default_hooks.teacher_update.burn_in_iters = 1
    for config in configs:
        config.custom_hooks = [dict(type='CheckInvalidLossHook', interval=1)]
        runner = Runner.from_cfg(config)
        runner.train()
        assert runner.iter == 2
    student = runner.model.student
    rates = {id(g['params'][0]): g for g in runner.optim_wrapper.param_groups}
    for part, rate in ((student.backbone, 1e-5), (student.panoptic_head, 1e-4)):
        for name, parameter in part.named_parameters():
            if parameter.requires_grad and 'reassemble' not in name:
                assert rates[id(parameter)]['initial_lr'] == pytest.approx(rate), name
    plain = MODELS.build(configs[0].model)
    check_fits(plain, f'{configs[1].work_dir}/student.pth')


def test_missing_teacher_error_names_file_and_command(
    synthscapes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for setting in (('cityscapes', 'swin_t'), ('coco', 'r50', '0.4pct')):
        data, given = setting[0], switches(*setting)
        name = f'guided_distillation/distill_{data}'
        config = reduced(name, synthscapes, {}, **given)
        shrink(config.model.student)
        before = ' '.join(f'{key}={value}' for key, value in given.items())
        with pytest.raises(
            FileNotFoundError,
            match=rf'^{folder("teacher", *setting)}/teacher\.pth is missing; make it '
            rf'with: {before} mim train {mim_name()} '
            rf'\S+/configs/mmcast/guided_distillation/teacher_{data}\.py$',
        ):
            Runner.from_cfg(config).train()


def test_teacher_checkpoint_is_one_option(synthscapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = reduced('guided_distillation/distill_synthscapes', synthscapes, {})
    left = 'work_dirs/guided_distillation/teacher_synthscapes/teacher.pth'
    assert config.model.teacher == dict(checkpoint=left)
    config.merge_from_dict({'model.teacher.checkpoint': 'elsewhere/mine.pth'})
    with pytest.raises(
        FileNotFoundError, match=r'^elsewhere/mine\.pth is missing; correct the path$'
    ):
        Runner.from_cfg(config).train()
