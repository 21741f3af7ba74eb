"""Fixtures that all tests share."""

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import mmcast  # noqa: F401  (before any test imports mmdet.models)

# Their tests take a minute or more. They start first, so that none is left at the end.
LONG = ('test_crash', 'test_demo', 'test_quickstart', 'test_teacher_learns')


def pytest_collection_modifyitems(items):
    """Sort the long tests to the front."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_collection_finish():
    """Keep the garbage collector from what was imported.

    mmengine collects garbage for each data set, which else takes a third of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def _mmdet_scope():
    init_default_scope('mmdet')


@pytest.fixture
def same_points(monkeypatch):
    """Make draws of points depend on their shape alone, not on earlier draws."""
    rand = torch.rand

    def again(*size, device=None, **_):
        shape = size[0] if isinstance(size[0], tuple | list | torch.Size) else size
        g = torch.Generator().manual_seed(sum(shape))
        return rand(*shape, generator=g, dtype=torch.get_default_dtype()).to(device)

    monkeypatch.setattr(torch, 'rand', again)


@pytest.fixture(scope='session', autouse=True)
def _plain_config_text():
    """Keep configs unformatted when a runner logs or dumps them."""
    from warm import FORMATTERS, unformatted

    with pytest.MonkeyPatch.context() as patch:
        for module in FORMATTERS:
            patch.setattr(f'{module}.FormatCode', unformatted, raising=False)
        yield


@pytest.fixture(scope='session')
def warm(tmp_path_factory):
    """Run scripts and `mim` without their imports: ``warm(script, *words)``."""
    from warm import warm_server

    with warm_server(tmp_path_factory.mktemp('warm')) as run:
        yield run


@pytest.fixture(scope='session', autouse=True)
def _workers_end_with_their_training():
    """End data workers when a training ends.

    If the garbage collector finds them, their queue may be closed already. They then
    look five seconds later whether they are still wanted.
    """
    iterator = torch.utils.data.dataloader._MultiProcessingDataLoaderIter
    start, train, running = iterator.__init__, Runner.train, weakref.WeakSet()

    def start_and_remember(self, *args):
        start(self, *args)
        running.add(self)

    def train_and_end(self):
        try:
            return train(self)
        finally:
            for workers in list(running):
                workers._shutdown_workers()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(iterator, '__init__', start_and_remember)
        patch.setattr(Runner, 'train', train_and_end)
        yield


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def synthscapes(tmp_path_factory):
    """Generate SynthScapes' target domain: 12 + 4 images, COCO files and lists."""
    from mmcast.datasets.cityscapes_to_coco import convert_split
    from mmcast.datasets.splits import format_list
    from mmcast.datasets.synthscapes import generate

    root = tmp_path_factory.mktemp('data') / 'target'
    generate(
        root,
        {'train': 12, 'val': 4},
        domain='target',
        size=(64, 128),
        workers=1,
        progress=False,
    )
    for split in ('train', 'val'):
        convert_split(root, split)
    images = root / 'leftImg8bit' / 'train'
    names = sorted(str(path.relative_to(images)) for path in images.rglob('*.png'))
    (root / 'splits').mkdir()
    (root / 'splits' / 'labeled.txt').write_text(format_list(names[:4]))
    (root / 'splits' / 'unlabeled.txt').write_text(format_list(names[4:]))
    return root


@pytest.fixture(scope='session')
def work_of_adapt(synthscapes, tmp_path_factory):
    """Train a teacher for two iterations; return the folder of its work_dirs."""
    from mmengine.runner import Runner

    from mmcast.testing import reduced

    folder = tmp_path_factory.mktemp('adapt')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Runner.from_cfg(reduced('adapt_synthscapes', synthscapes, {})).train()
    return folder


@pytest.fixture(scope='session')
def teacher_world(tmp_path_factory):
    """Build a tiny Mask R-CNN with random weights, its files, and images to label."""
    import cv2
    import mmdet
    import numpy as np
    from mmdet.registry import MODELS
    from mmengine.config import Config

    init_default_scope('mmdet')
    root = tmp_path_factory.mktemp('teacher_world')
    classes = ('person', 'car', 'rider')
    cfg = Config.fromfile(
        Path(mmdet.__file__).parent / '.mim/configs/mask_rcnn/'
        'mask-rcnn_r50_fpn_1x_coco.py'
    )
    model = cfg.model
    model.backbone.update(
        depth=18, base_channels=8, init_cfg=None, norm_eval=False, frozen_stages=-1
    )
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    heads = model.roi_head
    heads.bbox_roi_extractor.out_channels = 16
    heads.mask_roi_extractor.out_channels = 16
    heads.bbox_head.update(in_channels=16, fc_out_channels=16, num_classes=3)
    heads.mask_head.update(
        in_channels=16, conv_out_channels=16, num_convs=1, num_classes=3
    )
    model.test_cfg.rpn.update(nms_pre=50, max_per_img=20)
    model.test_cfg.rcnn.update(max_per_img=12)
    cfg.test_dataloader.dataset.pipeline[1].update(scale=(96, 64))
    cfg.test_dataloader.dataset.update(metainfo=dict(classes=classes))
    cfg.dump(root / 'teacher.py')

    torch.manual_seed(0)
    detector = MODELS.build(model)
    torch.save(
        {
            'state_dict': detector.state_dict(),
            'meta': {'dataset_meta': {'classes': classes}},
        },
        root / 'teacher.pth',
    )

    random = np.random.default_rng(0)
    names = [f'town{i % 2}/image_{i:02d}.png' for i in range(10)]
    for name in names:
        path = root / 'img' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 255, (6, 9, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (72, 48)))
    return SimpleNamespace(
        config=root / 'teacher.py',
        checkpoint=root / 'teacher.pth',
        img_root=root / 'img',
        names=names,
        classes=classes,
        model=model,
        pipeline=cfg.test_dataloader.dataset.pipeline,
    )
