"""Students of MMDetection's zoo, and of a user's file, as values of STUDENT."""

from pathlib import Path

import mmdet
import pytest
import torch
import yaml
from mmdet.registry import MODELS
from mmengine import Config
from mmengine.runner import Runner
from stock_students import two_sources

from mmcast.checkpoints import compare
from mmcast.testing import load_config, reduced, shrink

ZOO = Path(mmdet.__file__).parent / '.mim/configs'
RTMDET = 'rtmdet/rtmdet-ins_{}_8xb32-300e_coco'
MASK_RCNN = 'mask_rcnn/mask-rcnn_r50_fpn_ms-poly-3x_coco'
STAGES = ('supervised', 'distill', 'finetune')
# Each student's config in the zoo, and its millions of parameters for 80 classes.
STUDENTS = {
    'rtmdet_ins_tiny': (RTMDET.format('tiny'), 5.6),
    'rtmdet_ins_s': (RTMDET.format('s'), 10.2),
    'rtmdet_ins_m': (RTMDET.format('m'), 27.6),
    'mask_rcnn_r50': (MASK_RCNN, 44.4),
}


def test_a_student_with_weights_that_nothing_uses_says_so():
    """Without the setting, distributed training ends in the second iteration."""
    config = Config.fromfile('configs/mmcast/_base_/models/student_small.py')
    model = MODELS.build({**config.model, 'backbone': no_weights(config)})
    inputs, samples = two_sources()
    sum(
        value if isinstance(value, torch.Tensor) else sum(value)
        for name, value in model.loss(inputs['sup'], samples['sup']).items()
        if 'loss' in name
    ).backward()
    idle = {
        name.split('.')[1]
        for name, p in model.named_parameters()
        if p.requires_grad and p.grad is None
    }
    assert idle == {'conv2'}
    assert config.find_unused_parameters
    assert load_config('adapt_ccp').find_unused_parameters


def no_weights(config):
    return {**config.model.backbone, 'init_cfg': None}


def plain(config):
    """Leave out where weights come from, and whose scope a type is of."""
    if isinstance(config, dict):
        gone = ('init_cfg', '_scope_')
        return {k: plain(v) for k, v in config.items() if k not in gone}
    return [plain(v) for v in config] if isinstance(config, list | tuple) else config


@pytest.mark.parametrize('student', STUDENTS)
def test_it_is_the_network_of_the_zoo(student):
    """Config, weights and the file to start from are those of the zoo."""
    name, millions = STUDENTS[student]
    zoo = Config.fromfile(ZOO / f'{name}.py')
    ours = load_config('supervised_coco', STUDENT=student).model
    assert ours.num_classes == 80
    found, wanted = plain(ours), plain(zoo.model)  # building changes the zoo's
    network = MODELS.build(ours)
    size = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert size == pytest.approx(millions, abs=0.05)
    stock = MODELS.build(zoo.model)
    assert type(network) is type(stock)
    assert compare(network.state_dict(), stock.state_dict(), exact=True) is None

    assert found.pop('type') == 'WithClasses'
    assert found.pop('detector_type') == wanted.pop('type')
    for key in ('num_classes', 'pixel_contrast'):
        found.pop(key)
    colours = found['data_preprocessor']
    assert colours.pop('pad_mask')
    assert colours.pop('pad_size_divisor') == 32  # the zoo pads before
    for key in ('pad_mask', 'pad_size_divisor', 'batch_augments'):
        wanted['data_preprocessor'].pop(key, None)
    for config in (found, wanted):
        config.get('bbox_head', {}).pop('num_classes', None)
    assert found == wanted

    entries = yaml.safe_load((ZOO / name).parent.joinpath('metafile.yml').read_text())
    (entry,) = [
        each for each in entries['Models'] if each['Config'] == f'configs/{name}.py'
    ]
    start = load_config('distill_cityscapes', STUDENT=student).model.student.init_cfg
    assert start == dict(type='Pretrained', checkpoint=entry['Weights'])


@pytest.mark.parametrize('student', STUDENTS)
def test_its_recipe_is_that_of_the_zoo_for_eight_images(student):
    zoo = Config.fromfile(ZOO / f'{STUDENTS[student][0]}.py')
    batch = 256 if 'rtmdet' in student else 16
    for stage, part in dict(supervised=1, distill=1, finetune=0.1).items():
        config = load_config(f'{stage}_cityscapes', STUDENT=student)
        assert config.auto_scale_lr.base_batch_size == 8
        found, wanted = config.optim_wrapper, zoo.optim_wrapper
        rate = wanted.optimizer.lr * 8 / batch * part
        assert found.optimizer.pop('lr') == pytest.approx(rate)
        assert found.optimizer == {
            k: v for k, v in wanted.optimizer.items() if k != 'lr'
        }
        assert found.get('paramwise_cfg') == wanted.get('paramwise_cfg')
        assert 'clip_grad' not in found
        warmup, decay = config.param_scheduler
        assert warmup == zoo.param_scheduler[0]
        assert decay.type == 'PolyLR'


def test_on_coco_no_weights_have_seen_its_labels():
    for student in STUDENTS:
        model = load_config('supervised_coco', STUDENT=student).model
        assert model.init_cfg is None
        source = model.backbone.init_cfg.checkpoint
        assert 'imagenet' in source or 'in1k' in source or 'torchvision' in source


@pytest.mark.parametrize('student', ['rtmdet_ins_tiny', 'mask_rcnn_r50'])
def test_class_layers_alone_start_new(student, tmp_path):
    """A file for 80 classes fills the rest of a student for 8."""
    model = load_config('supervised_cityscapes', STUDENT=student).model
    shrink(model)
    file = tmp_path / 'coco.pth'
    before = MODELS.build({**model, 'num_classes': 80})
    before.init_weights()
    torch.save(dict(state_dict=before.state_dict()), file)
    network = MODELS.build(
        {**model, 'init_cfg': dict(type='Pretrained', checkpoint=str(file))}
    )
    torch.manual_seed(1)
    network.init_weights()
    loaded, found = before.state_dict(), network.state_dict()
    new = {name for name in found if found[name].shape != loaded[name].shape}
    layers = {name.rpartition('.')[0] for name in new}
    if student == 'mask_rcnn_r50':
        head = 'roi_head.bbox_head.'
        assert layers == {
            *(f'{head}fc_cls', f'{head}fc_reg', 'roi_head.mask_head.conv_logits')
        }
    else:
        assert layers == {f'bbox_head.rtm_cls.{level}' for level in range(3)}
        # The head's own start, with rare objects: its loss is small from the beginning.
        bias = network.bbox_head.rtm_cls[0].bias
        torch.testing.assert_close(bias.sigmoid(), torch.full_like(bias, 0.01))
    for name in found.keys() - new:
        assert torch.equal(found[name], loaded[name]), name


@pytest.fixture(scope='module')
def adapted(synthscapes, tmp_path_factory):
    """Adapt SynthScapes' teacher, a Mask2Former, for two iterations."""
    folder = tmp_path_factory.mktemp('adapted')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Runner.from_cfg(reduced('adapt_synthscapes', synthscapes, {})).train()
    return folder / 'work_dirs/adapt_synthscapes'


def run_labelled_by(adapted, config):
    """Train a small student for two iterations; a loss that is not finite raises."""
    shrink(config.model.get('student', config.model))
    if 'pseudo_labels' in config.default_hooks:
        config.default_hooks.pseudo_labels.update(
            teacher=str(adapted / 'teacher.pth'),
            config=str(adapted / 'adapt_synthscapes.py'),
        )
    config.custom_hooks = [dict(type='CheckInvalidLossHook', interval=1)]
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 2
    return runner


@pytest.mark.parametrize(
    ('student', 'dataset'),
    [('rtmdet_ins_tiny', 'coco'), ('mask_rcnn_r50', 'cityscapes')],
)
def test_every_stage_runs(
    student, dataset, synthscapes, adapted, tmp_path, monkeypatch
):
    """The labels are those of a teacher of another family."""
    monkeypatch.chdir(tmp_path)
    for stage in STAGES:
        config = reduced(f'{stage}_{dataset}', synthscapes, {}, STUDENT=student)
        runner = run_labelled_by(adapted, config)
        folder = Path(f'work_dirs/{student}/{stage}_{dataset}')
        assert Path(config.work_dir) == folder
        assert (folder / 'student.pth').is_file()
        if stage == 'distill':
            assert 'train/unsup_loss_mask' in runner.message_hub.log_scalars
    # The result is a checkpoint of the stock detector.
    wanted = runner.model.state_dict()
    found = torch.load(folder / 'student.pth', weights_only=True)['state_dict']
    assert compare(found, wanted, exact=True) is None


MINE = """
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'
train_dataloader = val_evaluator = dict()  # as a whole config has them
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.005))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', milestones=[8, 11]),
]
"""


@pytest.mark.parametrize('named', ['relative', 'absolute'])
def test_a_users_config_is_a_student(named, tmp_path, monkeypatch):
    """It lies in the current folder, far from the installed configs."""
    monkeypatch.chdir(tmp_path)
    Path('configs').mkdir()
    file = Path('configs/my_mask_rcnn.py')
    file.write_text(MINE)
    name = str(file if named == 'relative' else file.absolute())
    stages = {s: load_config(f'{s}_ade20k', STUDENT=name, SPLIT='5pct') for s in STAGES}
    for stage, config in stages.items():
        assert config.work_dir == f'work_dirs/5pct/my_mask_rcnn/{stage}_ade20k'
        model = config.model.get('student', config.model)
        network = MODELS.build(model)
        assert type(network).__name__ == 'MaskRCNN'
        assert network.roi_head.bbox_head.num_classes == 100
        assert config.train_dataloader.batch_size == 8
        rate = 0.0005 if stage == 'finetune' else 0.005
        assert config.optim_wrapper == dict(
            type='OptimWrapper', optimizer=dict(type='SGD', lr=pytest.approx(rate))
        )
        assert [each.type for each in config.param_scheduler] == ['LinearLR', 'PolyLR']
    assert stages['finetune'].load_from == (
        'work_dirs/5pct/my_mask_rcnn/distill_ade20k/student.pth'
    )
    # The run logs and saves its config as text.
    stages['distill'].dump('dumped.py')
    assert Config.fromfile('dumped.py').model == stages['distill'].model


def test_a_whole_config_of_the_zoo_is_a_student(
    synthscapes, adapted, tmp_path, monkeypatch
):
    """Its data set, loop and hooks are not read, and its batches get padded."""
    monkeypatch.chdir(tmp_path)
    Path('mine.py').write_text(f"_base_ = '{ZOO / RTMDET.format('s')}.py'\n")
    config = reduced('distill_cityscapes', synthscapes, {}, STUDENT='./mine.py')
    assert not {'custom_hooks', 'backend_args', 'base_lr'} & set(config)
    colours = config.model.student.data_preprocessor
    assert (colours.pad_mask, colours.pad_size_divisor) == (True, 32)
    assert colours.mean == [103.53, 116.28, 123.675]
    runner = run_labelled_by(adapted, config)
    assert 'train/unsup_loss_mask' in runner.message_hub.log_scalars


def test_a_missing_student_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'configs/none\.py'):
        load_config('distill_coco', STUDENT='configs/none.py')
    with pytest.raises(FileNotFoundError, match=r'models/student_none\.py'):
        load_config('distill_coco', STUDENT='none')
