"""Entry points for a quick run: paths, classes, sizes and batch overridden."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmengine import Config

import mmcast

from .tiny_teacher import SAM2, shrink_detector

CONFIGS = (Path(mmcast.__file__).parent / '.mim' / 'configs' / 'mmcast').resolve()
THINGS = Config.fromfile(CONFIGS / '_base_/datasets/cityscapes.py').images.metainfo


def all_dicts(node: Any) -> Iterator[dict]:
    """Yield every dict of a config, from the outside inwards."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for part in node:
            yield from all_dicts(part)


def load_config(name: str, **switches: str) -> Any:
    """Load an entry point with its switches.

    Args:
        name: Path below ``configs/mmcast``, without ``.py``.
        switches: Environment variables that the config reads, ``SPLIT='5pct'``.
    """
    with patch.dict(os.environ, switches):
        return Config.fromfile(CONFIGS / f'{name}.py')


def reduced(
    name: str,
    data: Path,
    weights: Mapping[str, Path],
    size: tuple[int, int] = (64, 128),
    **switches: str,
) -> Any:
    """Reduce an entry point to two iterations on a few small images.

    Args:
        name: Path below ``configs/mmcast``, without ``.py``.
        data: A small data set in Cityscapes' layout, with COCO files and lists.
        weights: Files to start from. A key is the first eight letters of the file's
            name in the config; ``'bert'`` is a text encoder's folder.
        size: Height and width that crops and tests are reduced to.
        switches: See :func:`load_config`.
    """
    config = load_config(name, **switches)
    height, width = size
    for part in list(all_dicts(config._cfg_dict)):
        kind = part.get('type')
        if kind == 'RandomCrop':
            part['crop_size'] = (width, height)
            if part.get('crop_type') == 'absolute_range':
                part['crop_size'] = (height, width)  # least and most
        elif kind == 'RandomChoiceResize':
            part['scales'] = [(width, height), (2 * width, 2 * height)]
            if 'resize_type' in part:  # of the shortest edge
                part['scales'] = [height, 2 * height]
        elif kind in ('Resize', 'FixScaleResize', 'RandomResize'):
            part['scale'] = (width, height)
        elif kind == 'DetDataPreprocessor' and part.get('batch_augments'):
            # The next size that the padding before it leaves as it is.
            step = part['pad_size_divisor']
            part['batch_augments'][0]['size'] = [-(-n // step) * step for n in size]
        elif kind in ('ListedCocoDataset', 'ImageListDataset'):
            split = 'val' if part.get('test_mode') else 'train'
            part['data_root'] = str(data)
            part['data_prefix'] = dict(img=f'leftImg8bit/{split}/')
            part['metainfo'] = THINGS
            if kind == 'ListedCocoDataset':
                part['ann_file'] = (
                    f'annotations/instancesonly_filtered_gtFine_{split}.json'
                )
            if part.get('image_list'):
                part['image_list'] = 'splits/labeled.txt'
            if kind == 'ImageListDataset' and part['ann_file']:
                part['ann_file'] = 'splits/unlabeled.txt'
        elif kind == 'SemiSupervisedDataset' and part.get('pseudo_labels'):
            # A teacher with random weights may find nothing.
            part['pseudo_labels'].update(skip_empty=False)
        elif kind == 'Pretrained':
            file = part['checkpoint']
            part['checkpoint'] = str(weights.get(Path(file).stem[:8], file))
        elif kind == 'PseudoLabelHook':
            # The dumped config of the stage before, which is reduced as well.
            stage = Path(part['teacher']).parent
            part['config'] = str(stage / f'{stage.name}.py')
        elif kind in ('PixelContrastMask2Former', 'WithClasses'):
            part['num_classes'] = len(THINGS.classes)
        elif kind == 'GroundedSam2':
            part['classes'] = THINGS.classes
            if 'language_model' in part['detector']:
                shrink_detector(part['detector'], weights.get('bert', ''))
        elif kind == 'Sam2Segmenter':
            part['arch'] = SAM2
        elif kind == 'WindowedCocoMetric':
            part['ann_file'] = str(
                data / 'annotations/instancesonly_filtered_gtFine_val.json'
            )
        elif kind == 'CosineAnnealingLR':
            part['begin'] = 0  # not after a warm-up
        elif kind == 'SharedCityScapesMetric':
            part['seg_prefix'] = str(data / 'gtFine/val')
    network = config.model.get('student', config.model)
    if network.get('backbone', {}).get('type') == 'Sam2Hiera':
        network.backbone.arch = SAM2
        network.panoptic_head.in_channels = [8, 16, 32, 64]
        if network.pixel_contrast:
            network.pixel_contrast.in_channels = 64
    # Without worker processes, which take seconds to start and to end.
    alone = dict(num_workers=0, persistent_workers=False)
    config.train_dataloader.update(batch_size=2, **alone)
    if 'source_ratio' in config.train_dataloader.get('sampler', {}):
        config.train_dataloader.sampler.source_ratio = [1, 1]
    config.val_dataloader.update(alone)
    config.test_dataloader.update(alone)
    config.train_cfg.max_iters = 2
    config.default_hooks.checkpoint.save_last = False
    config.work_dir = config.get('work_dir') or f'work_dirs/{name}'
    return config


def shrink(model: Any) -> None:
    """Make a published student small, in its config, with random weights."""
    if model.type == 'WithClasses':
        shrink_stock(model)
    else:
        _shrink_mask2former(model)


def shrink_stock(model: Any) -> None:
    """Make a detector of MMDetection with ResNet or CSPNeXt small, in its config."""
    model.init_cfg = model.backbone.init_cfg = None
    if model.backbone.type == 'ResNet':
        model.backbone.update(depth=18, base_channels=8, frozen_stages=-1)
        if 'neck' in model:
            model.neck.in_channels = [8, 16, 32, 64]
    else:
        model.backbone.update(deepen_factor=0.1, widen_factor=0.125)
        model.neck.update(in_channels=[32, 64, 128], num_csp_blocks=1)
    for name in ('neck', 'rpn_head', 'roi_head', 'bbox_head', 'mask_head'):
        for part in list(all_dicts(model.get(name, {}))):
            for key, value in part.items():
                if key.endswith('_channels') and isinstance(value, int):
                    # Group norm has 32 groups, and wants several channels in each.
                    part[key] = min(value, 64)
    few = dict(nms_pre=50, max_per_img=50, num=16)  # also of sampled boxes
    for name in ('train_cfg', 'test_cfg'):
        for part in list(all_dicts(model.get(name) or {})):
            part.update({key: value for key, value in few.items() if key in part})


def _shrink_mask2former(model: Any) -> None:
    vit = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48)
    backbone, head = model.backbone, model.panoptic_head
    backbone.init_cfg = None
    widths = [8, 16, 32, 64]
    if backbone.type == 'ResNet':
        backbone.update(depth=18, base_channels=8)
    elif backbone.type in ('ImageNetSwin', 'SwinTransformer'):
        backbone.update(embed_dims=8, depths=[2, 1, 1, 1], num_heads=[1, 1, 2, 2])
    elif backbone.type == 'Sam2Hiera':
        backbone.arch = SAM2
    elif backbone.type == 'ViTPyramid':
        backbone.update(out_channels=widths)
        backbone.vit.arch = vit
        if 'out_indices' in backbone.vit:
            backbone.vit.out_indices = [3]
    else:
        backbone.arch = vit
        widths = [24] * 4
    head.update(in_channels=widths, num_queries=10, feat_channels=32, out_channels=32)
    if model.get('pixel_contrast'):
        model.pixel_contrast.in_channels = widths[-1]
    small = dict(embed_dims=32, num_feats=16, feedforward_channels=32, num_layers=1)
    for part in list(all_dicts(head)):
        part.update({key: value for key, value in small.items() if key in part})
    model.train_cfg.num_points = 64
    model.test_cfg.max_per_image = 10
