"""Train every SwinMTL config for two iterations, and test it, in small."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS
from mmengine.runner import Runner

from mmcast.datasets.nyuv2_classes import CLASSES
from mmcast.testing import CONFIGS, all_dicts, load_config

NAMES_OF_DATA = ('cityscapes', 'nyuv2', 'synthscapes')
TASKS = ('', 'depth_only_', 'segmentation_only_')
NAMES = [f'{task}{dataset}' for dataset in NAMES_OF_DATA for task in TASKS]
POINT_CLOUD = CONFIGS.parents[1] / 'tools/analysis_tools/point_cloud.py'
TINY = dict(
    embed_dims=8,
    depths=[1, 1, 1, 1],
    num_heads=[1, 1, 2, 2],
    extra_norm_every_n_blocks=0,
)


@pytest.fixture(scope='module')
def nyuv2(tmp_path_factory):
    """Write two images a split as the converter does; rooms are 3 m deep."""
    root = tmp_path_factory.mktemp('nyuv2')
    rng = np.random.default_rng(0)
    (root / 'splits').mkdir()
    (root / 'nyuv2.json').write_text('{"classes": 40}')
    for split in ('train', 'test'):
        names = [f'{split}{i}' for i in range(2)]
        (root / f'splits/{split}.txt').write_text('\n'.join(names) + '\n')
        for name in names:
            pictures = dict(
                images=rng.integers(0, 256, (64, 96, 3), np.uint8),
                labels=rng.integers(0, 40, (64, 96), np.uint8),
                depth=np.full((64, 96), 3000, np.uint16),
            )
            for kind, picture in pictures.items():
                (root / kind / split).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / kind / split / f'{name}.png'), picture)
    return root


def small(name, synthscapes, nyuv2, **switches):
    """Reduce a config to two iterations with crops of 64 and a narrow encoder."""
    config = load_config(f'swinmtl/{name}', **switches)
    for part in list(all_dicts(config._cfg_dict)):
        kind = part.get('type')
        if kind == 'ExactRandomCrop':
            part['crop_size'] = (64, 64)
        elif kind == 'CityscapesDepthDataset':
            part['data_root'] = str(synthscapes)
        elif kind == 'NYUv2Dataset':
            part['data_root'] = str(nyuv2)
        elif kind == 'DepthMetric' and 'crop' in part:
            part['crop'] = (4, 60, 4, 90)
        elif kind == 'SwinV2' and part.get('arch') == 'base':
            part.update(arch=TINY, init_cfg=None, window_size=[4, 4, 4, 2])
            config.model.decoder.in_channels = 64
    alone = dict(num_workers=0, persistent_workers=False)
    config.train_dataloader.update(batch_size=2, **alone)
    config.val_dataloader.update(alone)
    config.test_dataloader.update(alone)
    config.train_cfg.update(max_iters=2, val_interval=2, val_begin=1)
    config.custom_hooks = [dict(type='CheckInvalidLossHook', interval=1)]
    return config


@pytest.mark.parametrize('name', [*NAMES, 'cityscapes_window30'])
def test_every_config_trains_and_validates(
    name, synthscapes, nyuv2, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = small(name, synthscapes, nyuv2)
    assert config.work_dir == f'work_dirs/swinmtl/{name}'
    runner = Runner.from_cfg(config)
    runner.train()
    found = runner.val_loop.run()
    assert ('mIoU' in found) == (not name.startswith('depth_only'))
    assert ('depth/rmse' in found) == (not name.startswith('segmentation_only'))
    # The exported file has no critic, and gives the same.
    exported = f'{config.work_dir}/model.pth'
    state = torch.load(exported, weights_only=True)
    assert not any(key.startswith('critic') for key in state['state_dict'])
    config.load_from = exported
    config.experiment_name = 'test'
    np.testing.assert_equal(Runner.from_cfg(config).test(), found)


def test_all_configs_are_tested():
    names = {path.stem for path in (CONFIGS / 'swinmtl').glob('*.py')}
    assert names == {*NAMES, 'cityscapes_window30', 'pretrain_synthscapes'}


def test_published_settings():
    config = load_config('swinmtl/cityscapes')
    assert config.model.backbone.arch == 'base'
    assert config.model.backbone.window_size == [22, 22, 22, 11]
    assert config.train_dataloader.batch_size == 4
    assert config.train_cfg.max_iters == 200 * (2975 // 4)
    window30 = load_config('swinmtl/cityscapes_window30')
    assert window30.model.backbone.window_size == [30, 30, 30, 15]
    nyuv2 = load_config('swinmtl/nyuv2')
    assert nyuv2.train_cfg.max_iters == 200 * (795 // 4)
    assert nyuv2.model.depth_head.depth_range == (1e-3, 10.0)
    assert nyuv2.model.seg_head.num_classes == len(CLASSES[40])


def test_nyuv2_of_other_classes_or_unfinished_is_refused(nyuv2, tmp_path):
    settings = dict(type='NYUv2Dataset', split='train', data_root=str(nyuv2))
    assert len(DATASETS.build(settings)) == 2
    with pytest.raises(ValueError, match='has 40 classes, the config 13'):
        DATASETS.build({**settings, 'num_classes': 13})
    with pytest.raises(FileNotFoundError, match=r'nyuv2.json is missing: run .*nyuv2'):
        DATASETS.build({**settings, 'data_root': str(tmp_path)})


def test_labels_alone_need_no_depth_files(synthscapes, nyuv2, tmp_path):
    for folder in ('leftImg8bit', 'gtFine'):
        (tmp_path / folder).symlink_to(synthscapes / folder)
    config = small('segmentation_only_cityscapes', tmp_path, nyuv2)
    for loader in (config.train_dataloader, config.val_dataloader):
        sample = DATASETS.build(loader.dataset)[0]['data_samples']
        assert 'gt_depth' not in sample
        assert 'gt_sem_seg' in sample


def test_research_code_is_one_switch(synthscapes, nyuv2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = small('cityscapes', synthscapes, nyuv2, PRESET='research_code')
    # The published loss has no epsilon: its gradient can be infinite.
    config.model.depth_head.eps = 1e-8
    config.work_dir = 'work_dirs/research'
    runner = Runner.from_cfg(config)
    runner.train()
    model = runner.model
    assert model.num_classes == 20
    assert model.critic.layers[0].in_channels == 2
    assert model.critic.layers[-1].out_channels == 2
    assert not model.depth_head.cap_targets
    found = runner.val_loop.run()
    assert {'per_image/mIoU', 'depth/rmse'} <= found.keys()
    sample = runner.val_dataloader.dataset[0]['data_samples']
    labels = sample.gt_sem_seg.sem_seg
    assert labels.max() < 20
    assert not (labels == 255).any()
    metric = [each for each in config.val_evaluator if each.type == 'DepthMetric']
    assert metric[0].silog_lambda == 0.5


def test_missing_simmim_file_says_where_to_put_it(
    synthscapes, nyuv2, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = small('cityscapes', synthscapes, nyuv2)
    config.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='pretrained/swin_v2_base_simmim.pth'
    )
    expected = 'pretrained/swin_v2_base_simmim.pth is missing.*MIM-Depth-Estimation'
    with pytest.raises(FileNotFoundError, match=expected):
        Runner.from_cfg(config).train()


def test_simmim_pretrains_an_encoder_that_loads(
    synthscapes, nyuv2, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = load_config('swinmtl/pretrain_synthscapes')
    loader = config.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    loader.dataset.data_root = str(synthscapes)
    for step in loader.dataset.pipeline:
        if step.type == 'ExactRandomCrop':
            step.crop_size = (64, 64)
        if step.type == 'mmpretrain.SimMIMMaskGenerator':
            step.input_size = 64
    config.train_cfg.max_iters = 2
    Runner.from_cfg(config).train()
    file = f'{config.work_dir}/backbone.pth'
    config = small('synthscapes', synthscapes, nyuv2)
    config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=file)
    config.work_dir = 'work_dirs/other'
    runner = Runner.from_cfg(config)
    runner.model.init_weights()
    saved = torch.load(file, weights_only=True)['state_dict']
    own = runner.model.backbone.state_dict()
    assert set(saved) - set(own) == {'mask_token'}
    for name, value in own.items():
        assert torch.equal(saved[name], value), name


def test_prediction_is_drawn_and_becomes_a_point_cloud(
    synthscapes, nyuv2, tmp_path, monkeypatch, warm
):
    """Run the visualisation hook, five lines of Python, and the tool."""
    monkeypatch.chdir(tmp_path)
    config = small('synthscapes', synthscapes, nyuv2)
    runner = Runner.from_cfg(config)
    runner.train()
    config.load_from = 'work_dirs/swinmtl/synthscapes/model.pth'
    config.experiment_name = 'test'
    config.default_hooks.visualization.update(draw=True, test_out_dir='drawn')
    Runner.from_cfg(config).test()
    drawn = list(Path('work_dirs').rglob('drawn/*.png'))
    assert len(drawn) == 4
    # Image and key, truth, prediction: two tiles of 512 pixels a row.
    assert cv2.imread(str(drawn[0])).shape[1] == 1024

    config.dump('config.py')
    model = init_detector('config.py', config.load_from, device='cpu')
    image = min((synthscapes / 'leftImg8bit/val').rglob('*.png'))
    found = inference_detector(model, str(image))
    assert found.pred_depth.depth.shape == (1, 64, 128)
    assert found.pred_sem_seg.sem_seg.shape == (1, 64, 128)
    assert 1e-3 <= found.pred_depth.depth.min() <= found.pred_depth.depth.max() <= 80

    camera = synthscapes / 'camera/val' / image.parent.name
    camera /= image.name.replace('leftImg8bit.png', 'camera.json')
    words = ['config.py', config.load_from, image, camera, '--out', 'cloud.ply']
    warm(POINT_CLOUD, *words, check=True)
    cloud = Path('cloud.ply').read_bytes()
    assert b'element vertex 8192\n' in cloud[:300]
