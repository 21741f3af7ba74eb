"""A tiny composite teacher from random weights to masks, on SynthScapes.

SAM 2 and Grounding-DINO learn one after the other through their entry points, on images
of 96x96; what they find is measured on images that they have not seen.
"""

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from reduced_configs import reduced
from tiny_teacher import save_bert

SIZE = (96, 96)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """60 + 20 images of SynthScapes' bright domain."""
    from mmcast.datasets.cityscapes_to_coco import convert_split
    from mmcast.datasets.splits import format_list
    from mmcast.datasets.synthscapes import generate

    root = tmp_path_factory.mktemp('scenes') / 'source'
    splits = {'train': 60, 'val': 20}
    generate(root, splits, domain='source', size=SIZE, workers=1, progress=False)
    for split in splits:
        convert_split(root, split)
    images = root / 'leftImg8bit' / 'train'
    names = sorted(str(path.relative_to(images)) for path in images.rglob('*.png'))
    (root / 'splits').mkdir()
    (root / 'splits' / 'labeled.txt').write_text(format_list(names))
    return root


def entry_point(name, scenes, bert, iters, lr, batch):
    """A config for few iterations at a large learning rate, of the tiny model."""
    config = reduced(name, scenes, {'bert': bert}, SIZE)
    config.custom_hooks = [
        hook for hook in config.custom_hooks if hook.type == 'StudentExportHook'
    ]
    config.train_dataloader.batch_size = batch
    config.randomness = dict(seed=0)
    config.train_cfg.update(max_iters=iters, val_interval=iters + 1)
    config.param_scheduler = [
        dict(type='PolyLR', eta_min=0.0, begin=0, end=iters, by_epoch=False)
    ]
    config.optim_wrapper.optimizer.lr = lr
    config.optim_wrapper.paramwise_cfg = None  # all of it starts from random weights
    annotations = scenes / 'annotations/instancesonly_filtered_gtFine_val.json'
    config.val_evaluator = dict(
        type='CocoMetric', ann_file=str(annotations), metric=['bbox', 'segm']
    )
    return config


def train(config):
    """Train; the loss of the first and the last iterations."""
    runner = Runner.from_cfg(config)
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    return runner, losses[:10].mean(), losses[-10:].mean()


def box_ious(runner):
    """IoU of the mask of every annotated box of the validation set, (n,)."""
    ious = []
    runner.model.eval()
    for batch in runner.val_dataloader:
        with torch.no_grad():
            samples = runner.model.val_step(batch)
        for sample in samples:
            found = sample.pred_instances.masks.numpy()
            masks = sample.gt_instances.masks.masks > 0
            both = (found & masks).sum((1, 2))
            ious.extend(both / (found | masks).sum((1, 2)))
    return np.array(ious)


def test_the_teacher_learns_synthscapes(scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bert = save_bert(tmp_path / 'bert')

    config = entry_point('adapt_sam2_cityscapes', scenes, bert, 1500, 3e-3, 1)
    config.model.segmenter.init_cfg = None
    # The published 20 would have a decoder of random weights find nothing for long.
    config.model.loss_mask.loss_weight = 1.0
    for step in config.train_dataloader.dataset.weak_view:
        if step.type == 'FilterAnnotations':
            step.min_gt_bbox_wh = (12, 12)
    untrained = Runner.from_cfg(config)
    before = box_ious(untrained).mean()
    config.experiment_name = 'segmenter'
    runner, first, last = train(config)
    after = box_ious(runner).mean()
    print(f'\nSAM 2: loss {first:.2f} to {last:.2f}, IoU {before:.3f} to {after:.3f}')
    assert last < 0.5 * first
    assert after > before + 0.08

    config = entry_point('adapt_cityscapes', scenes, bert, 250, 1e-3, 4)
    config.model.detector.init_cfg = None
    config.model.segmenter.init_cfg.checkpoint = (
        'work_dirs/adapt_sam2_cityscapes/segmenter.pth'
    )
    view = config.train_dataloader.dataset.weak_view
    config.train_dataloader.dataset.weak_view = [  # as it is tested: not resized
        step for step in view if step.type != 'RandomChoice'
    ]
    config.experiment_name = 'teacher'
    runner, first, last = train(config)
    found = runner.val_loop.run()
    print(f'Detector: loss {first:.2f} to {last:.2f}, {found}')
    assert last < 0.3 * first
    assert found['coco/bbox_mAP_50'] > 0.03
    assert found['coco/segm_mAP_50'] > 0.002
