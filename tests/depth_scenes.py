"""Samples and a tiny SwinMTL for tests."""

import uuid

import torch
from mmdet.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmcast.testing.reduced_configs import all_dicts, load_config

ARCH = dict(
    embed_dims=8,
    depths=[1, 1, 2, 1],
    num_heads=[1, 1, 2, 2],
    extra_norm_every_n_blocks=0,
)
# Initial weights with which untrained predictions vary over the image.
WIDE = dict(
    decoder=dict(
        type='DeconvDecoder', in_channels=64, channels=8, out_channels=16, init_std=0.5
    ),
    depth_head=dict(type='DepthHead', in_channels=16, init_std=0.5),
    seg_head=dict(type='SemSegHead', num_classes=5, in_channels=16, init_std=0.5),
)


def tiny_model(**changes):
    """Build a SwinMTL of 8 channels; ``changes`` update its config."""
    config = dict(
        type='SwinMTL',
        data_preprocessor=dict(
            type='DepthSegDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255]
        ),
        backbone=dict(
            type='SwinV2',
            arch=ARCH,
            window_size=[4, 4, 4, 2],
            pretrained_window_sizes=[0, 0, 0, 0],
            drop_path_rate=0.1,
        ),
        decoder=dict(type='DeconvDecoder', in_channels=64, channels=8, out_channels=16),
        depth_head=dict(type='DepthHead', in_channels=16),
        seg_head=dict(type='SemSegHead', num_classes=5, in_channels=16),
        critic=dict(type='WassersteinCritic', channels=4),
        head_stride=4,
    )
    config.update(changes)
    return MODELS.build(config)


def samples(count=2, size=(64, 64), classes=5, seed=0):
    """Draw data samples with holes in depth and ignored labels."""
    g = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        depth = torch.rand(1, *size, generator=g) * 90 + 0.5
        depth[torch.rand(1, *size, generator=g) < 0.2] = 0
        labels = torch.randint(0, classes, (1, *size), generator=g)
        labels[torch.rand(1, *size, generator=g) < 0.2] = 255
        sample = DetDataSample(
            gt_depth=PixelData(depth=depth), gt_sem_seg=PixelData(sem_seg=labels)
        )
        sample.set_metainfo(dict(img_shape=size, ori_shape=size, img_path='x.png'))
        found.append(sample)
    return found


def inputs(count=2, size=(64, 64)):
    """Draw images, float (count, 3, *size) from 0 to 1."""
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(3))


def batch(count=2, size=(64, 64), seed=0):
    """Draw what a loader gives: images of uint8 and data samples."""
    g = torch.Generator().manual_seed(seed + 1)
    images = torch.randint(0, 256, (count, 3, *size), generator=g, dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=samples(count, size, seed=seed))


def optimizers(model, **changes):
    """Build the two optimisers of a model; ``changes`` update their config."""
    config = dict(
        optimizer=dict(type='SGD', lr=0.1, weight_decay=0.0),
        critic_optimizer=dict(type='SGD', lr=0.1),
    )
    config.update(changes)
    return OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(type='CriticOptimWrapperConstructor', optim_wrapper_cfg=config)
    )(model)


def weights(module):
    """Copy a module's parameters by name."""
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def small_config(data, work_dir, max_iters=4, workers=0, **optimizer_changes):
    """Reduce the entry point of SynthScapes to a few iterations on crops of 64.

    Args:
        data: Folder of the fixture ``synthscapes``.
        work_dir: Folder of the run.
        max_iters: Iterations; a checkpoint is written every 2.
        workers: Processes that load training samples.
        optimizer_changes: Updates of ``optim_wrapper``.
    """
    config = load_config('swinmtl/synthscapes')
    for part in list(all_dicts(config._cfg_dict)):
        if part.get('type') == 'CityscapesDepthDataset':
            part['data_root'] = str(data)
        elif part.get('type') == 'ExactRandomCrop':
            part['crop_size'] = (64, 64)
        elif part.get('type') == 'RandomResize':
            part['scale'] = (128, 64)
    alone = dict(num_workers=0, persistent_workers=False)
    config.train_dataloader.update(
        batch_size=2, num_workers=workers, persistent_workers=workers > 0
    )
    config.val_dataloader.update(alone)
    config.test_dataloader.update(alone)
    config.train_cfg.max_iters = max_iters
    config.default_hooks.checkpoint.update(interval=2)
    config.model.data_preprocessor.batch_augments = [dict(type='PasteMix')]
    config.model.backbone.arch.update(embed_dims=16, depths=[1, 1, 2])
    config.model.backbone.drop_path_rate = 0.3
    config.model.decoder.update(in_channels=64, channels=16, out_channels=16)
    config.model.depth_head.update(in_channels=16)
    config.model.seg_head.update(in_channels=16)
    config.optim_wrapper.paramwise_cfg.layer_decay_rate = 0.9
    config.optim_wrapper.update(optimizer_changes)
    config.randomness = dict(seed=3)
    config.work_dir = str(work_dir)
    config.experiment_name = f'swinmtl_{uuid.uuid4().hex}'
    return config


def rise_and_fall(step, total_iters, top=5e-4, bottom=3e-5):
    """Return the learning rate of ``RiseAndFallLR`` at a step."""
    half = total_iters // 2
    if step < half:
        return bottom + (top - bottom) * (step / half) ** 0.9
    return max(bottom, top - (top - bottom) * (step / half - 1) ** 0.9)
