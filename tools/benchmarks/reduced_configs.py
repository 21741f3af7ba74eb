"""Entry points for a quick look: paths, classes, sizes and batch overridden."""

from pathlib import Path

from mmengine import Config
from tiny_teacher import SAM2, shrink_detector

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'mmcast'
THINGS = Config.fromfile(CONFIGS / '_base_/datasets/cityscapes.py').metainfo


def all_dicts(node):
    """Every dict of a config, from the outside inwards."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for part in node:
            yield from all_dicts(part)


def reduced(name, data, weights, size=(64, 128)):
    """An entry point with paths, classes, sizes and batch for a quick look.

    ``size`` is the height and width that crops and tests are reduced to.
    """
    config = Config.fromfile(CONFIGS / f'{name}.py')
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
        elif kind == 'DetDataPreprocessor' and 'batch_augments' in part:
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
            if 'image_list' in part:
                part['image_list'] = 'splits/labeled.txt'
            if kind == 'ImageListDataset':
                part['ann_file'] = 'splits/unlabeled.txt'
        elif kind == 'Pretrained':
            file = part['checkpoint']
            part['checkpoint'] = str(weights.get(Path(file).stem[:8], file))
        elif kind == 'StageInputsHook' and 'inputs' in part and not config.load_from:
            part['inputs'] = {str(next(iter(weights.values()))): 'the known command'}
        elif kind == 'PseudoLabelHook':
            # The dumped config of the adapted teacher, which is reduced as well.
            teacher = Path(part['teacher_config']).stem
            part['teacher_config'] = f'work_dirs/{teacher}/{teacher}.py'
        elif kind == 'PixelContrastMask2Former':
            part['num_classes'] = 8
        elif kind == 'GroundedSam2':
            part['classes'] = THINGS.classes
            shrink_detector(part['detector'], weights.get('bert'))
        elif kind == 'Sam2Segmenter':
            part['arch'] = SAM2
        elif kind == 'Sam2Hiera':
            part['arch'] = SAM2
            config.model.student.panoptic_head.in_channels = [8, 16, 32, 64]
            config.model.student.pixel_contrast.in_channels = 64
        elif kind == 'CocoMetric':
            part['ann_file'] = str(
                data / 'annotations/instancesonly_filtered_gtFine_val.json'
            )
        elif kind == 'CityScapesMetric':
            part['seg_prefix'] = str(data / 'gtFine/val')
    # Without worker processes, which take seconds to start and to end.
    alone = dict(num_workers=0, persistent_workers=False)
    config.train_dataloader.update(batch_size=2, **alone)
    config.val_dataloader.update(alone)
    config.test_dataloader.update(alone)
    if 'batch_size' in config.train_dataloader.sampler:
        config.train_dataloader.sampler.batch_size = 2
    config.train_cfg.max_iters = 2
    config.param_scheduler[0].end = 2
    config.default_hooks.checkpoint.save_last = False
    config.work_dir = f'work_dirs/{name}'
    return config
