"""Every entry point builds and trains two iterations, stage after stage.

As a user would run them, on SynthScapes in place of the real data: paths, classes,
sizes and batch are overridden, models are of full size.
"""

import shutil
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine import Config
from mmengine.runner import Runner

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'mmcast'
STAGES = ('adapt', 'selftrain', 'distill', 'finetune', 'supervised')
STUDENTS = ('dpt384', 'r50_dpt', 'dinov2_fpn')
THINGS = Config.fromfile(CONFIGS / '_base_/datasets/cityscapes.py').metainfo
SIZE = (64, 128)  # height and width that crops and tests are reduced to


def all_dicts(node):
    """Every dict of a config, from the outside inwards."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for part in node:
            yield from all_dicts(part)


def reduced(name, data, weights):
    """An entry point with paths, classes, sizes and batch for a quick look."""
    config = Config.fromfile(CONFIGS / f'{name}.py')
    height, width = SIZE
    for part in list(all_dicts(config._cfg_dict)):
        kind = part.get('type')
        if kind == 'RandomCrop':
            part['crop_size'] = (width, height)
        elif kind == 'RandomChoiceResize':
            part['scales'] = [height, 2 * height]
        elif kind == 'Resize':
            part['scale'] = (width, height)
        elif kind in ('ListedCocoDataset', 'ImageListDataset'):
            split = 'val' if part.get('test_mode') else 'train'
            part['data_root'] = str(data)
            part['data_prefix'] = dict(img=f'leftImg8bit/{split}/')
            part['metainfo'] = THINGS
            if kind == 'ListedCocoDataset':
                part['ann_file'] = (
                    f'annotations/instancesonly_filtered_gtFine_{split}.json'
                )
            if 'image_list' in part:
                part['image_list'] = 'splits/labeled.txt'
            if kind == 'ImageListDataset':
                part['ann_file'] = 'splits/unlabeled.txt'
        elif kind == 'Pretrained':
            file = part['checkpoint']
            part['checkpoint'] = str(weights.get(Path(file).stem[:8], file))
        elif kind == 'StageInputsHook' and config.load_from is None:
            part['inputs'] = {str(weights['mask2for']): 'the documented command'}
        elif kind == 'PseudoLabelHook':
            # The dumped config of the adapted teacher, which is reduced as well.
            teacher = Path(part['teacher_config']).stem
            part['teacher_config'] = f'work_dirs/{teacher}/{teacher}.py'
        elif kind == 'PixelContrastMask2Former':
            part['num_classes'] = 8
        elif kind == 'CocoMetric':
            part['ann_file'] = str(
                data / 'annotations/instancesonly_filtered_gtFine_val.json'
            )
        elif kind == 'CityScapesMetric':
            part['seg_prefix'] = str(data / 'gtFine/val')
    config.train_dataloader.update(
        batch_size=2, num_workers=0, persistent_workers=False
    )
    if 'batch_size' in config.train_dataloader.sampler:
        config.train_dataloader.sampler.batch_size = 2
    config.train_cfg.max_iters = 2
    config.param_scheduler[0].end = 2
    config.default_hooks.checkpoint.save_last = False
    config.work_dir = f'work_dirs/{name}'
    return config


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Random weights in the files that a user downloads, by the names' beginnings."""
    folder = tmp_path_factory.mktemp('weights')
    names = ('dinov2_v', 'resnet50', 'mask2for')
    files = {name: folder / f'{name}.pth' for name in names}
    student = Config.fromfile(CONFIGS / '_base_/models/student_dpt256.py').model
    student.backbone.init_cfg = None
    backbone = MODELS.build(student.backbone)
    torch.save(
        {'state_dict': {f'backbone.{k}': v for k, v in backbone.state_dict().items()}},
        files['dinov2_v'],
    )
    student = Config.fromfile(CONFIGS / '_base_/models/student_r50_dpt.py').model
    student.backbone.init_cfg = None
    torch.save(MODELS.build(student.backbone).state_dict(), files['resnet50'])
    teacher = Config.fromfile(CONFIGS / '_base_/models/teacher_swin_l.py').model
    teacher.update(num_classes=133, pixel_contrast=None, strong_view=None)
    torch.save(MODELS.build(teacher).state_dict(), files['mask2for'])
    yield files
    shutil.rmtree(folder)


def train(name, data, weights):
    """Two iterations; the losses are finite or mmengine's check raises."""
    config = reduced(name, data, weights)
    config.custom_hooks = [
        *config.get('custom_hooks', []),
        dict(type='CheckInvalidLossHook', interval=1),
    ]
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 2
    return Path(config.work_dir)


@pytest.mark.parametrize('dataset', ['cityscapes', 'ade20k', 'synthscapes'])
def test_all_stages_run(dataset, synthscapes, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        for stage in STAGES:
            work_dir = train(f'{stage}_{dataset}', synthscapes, weights)
            left = 'teacher' if stage in ('adapt', 'selftrain') else 'student'
            assert (work_dir / f'{left}.pth').is_file()
        for student in STUDENTS if dataset == 'cityscapes' else ():
            work_dir = train(f'distill_{dataset}_{student}', synthscapes, weights)
            assert (work_dir / 'student.pth').is_file()
    finally:
        shutil.rmtree(tmp_path / 'work_dirs', ignore_errors=True)  # gigabytes


def test_a_stage_before_its_input_names_file_and_command(
    synthscapes, weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name, expected in {
        'selftrain_synthscapes': r'adapt_synthscapes/teacher\.pth.*mim train mmdet '
        r'configs/mmcast/adapt_synthscapes\.py',
        'finetune_synthscapes': r'distill_synthscapes/student\.pth.*mim train mmdet '
        r'configs/mmcast/distill_synthscapes\.py',
    }.items():
        with pytest.raises(FileNotFoundError, match=expected):
            train(name, synthscapes, weights)
        assert not list(tmp_path.rglob('*.pth'))
        assert not list(tmp_path.rglob('pseudo_labels'))


def test_weights_that_a_user_must_fetch_are_named(synthscapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = reduced('adapt_synthscapes', synthscapes, {})
    full = Config.fromfile(CONFIGS / 'adapt_cityscapes.py')
    config.custom_hooks = full.custom_hooks
    with pytest.raises(
        FileNotFoundError, match=r'checkpoints/mask2former_swin-l.*mim download'
    ):
        Runner.from_cfg(config).train()


def test_a_missing_data_root_is_one_clear_line(
    synthscapes, weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = reduced('supervised_synthscapes', tmp_path / 'nowhere', weights)
    with pytest.raises(
        FileNotFoundError, match=r'data root .*nowhere.* does not exist'
    ):
        Runner.from_cfg(config).train()


def test_other_classes_than_the_models_are_told(synthscapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, where in {
        'supervised_synthscapes': r'model\.num_classes',
        'distill_synthscapes': r'model\.student\.num_classes',
    }.items():
        config = reduced(name, synthscapes, {})
        model = config.model.get('student', config.model)
        model.num_classes = 5
        config.custom_hooks = config.custom_hooks[-1:]
        with pytest.raises(ValueError, match=rf"num_classes=5.*'person'.*{where}"):
            Runner.from_cfg(config).train()


def test_all_entry_points_are_tested():
    names = {path.stem for path in CONFIGS.glob('*.py')} - {
        'pretrain_teacher_synthscapes',
        'pretrain_student_synthscapes',
    }
    tested = {
        f'{s}_{d}' for s in STAGES for d in ('cityscapes', 'ade20k', 'synthscapes')
    }
    assert names == tested | {f'distill_cityscapes_{s}' for s in STUDENTS}
