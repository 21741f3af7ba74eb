"""Follow docs/swinmtl.md: its Python, its config and its commands."""

import re
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from mmcast.checkpoints import save_plain

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / 'docs/swinmtl.md').read_text()
PREDICT, OWN_DATA = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)


def test_python_of_the_page_predicts(tmp_path, monkeypatch):
    config, checkpoint = re.findall(r"'([\w./]*/[\w./]+)'", PREDICT)
    model = MODELS.build(Config.fromfile(REPOSITORY / config).model)
    (tmp_path / 'configs').symlink_to(REPOSITORY / 'configs')
    save_plain(model.state_dict(), {}, tmp_path / checkpoint)
    image = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / 'street.png'), image)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(PREDICT, names)  # the test follows the page, which is our own code
    assert names['metres'].shape == names['labels'].shape == (70, 90)
    assert names['metres'].dtype == torch.float32
    assert names['labels'].dtype == torch.int64


def test_own_data_of_the_page_trains(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pictures = dict(
        images=rng.integers(0, 255, (140, 300, 3), np.uint8),
        labels=rng.integers(0, 3, (140, 300), np.uint8),
        depth=rng.integers(500, 9000, (140, 300), np.uint16),
    )
    for kind, picture in pictures.items():
        for split in ('train', 'val'):
            folder = tmp_path / 'data/mine' / kind / split
            folder.mkdir(parents=True)
            assert cv2.imwrite(str(folder / 'a.png'), picture)
    (tmp_path / 'configs').symlink_to(REPOSITORY / 'configs')
    (tmp_path / 'config.py').write_text(OWN_DATA)
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile('config.py')
    alone = dict(num_workers=0, persistent_workers=False)
    config.train_dataloader.update(batch_size=2, **alone)
    config.val_dataloader.update(alone)
    config.train_cfg.max_iters = 2
    runner = Runner.from_cfg(config)
    runner.train()
    sample = runner.val_dataloader.dataset[0]['data_samples']
    assert torch.equal(
        sample.gt_depth.depth[0], torch.from_numpy(pictures['depth'] * np.float32(1e-3))
    )
    assert {'mIoU', 'depth/rmse'} <= runner.val_loop.run().keys()
    assert (tmp_path / 'work_dirs/mine/model.pth').is_file()


def test_commands_of_the_page_name_files_that_exist():
    for file in re.findall(r'(?:configs|tools)/[\w/]+\.py', PAGE):
        assert (REPOSITORY / file).is_file()
