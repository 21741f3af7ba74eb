"""Follow docs/extend.md: write its files, build and train what they describe."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from mmcast.testing import reduced, reduced_configs

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / 'docs/extend.md').read_text()
FILES = dict(re.findall(r'```python\n# (\S+)\n(.*?)```', PAGE, re.DOTALL))


@pytest.fixture
def followed(tmp_path, monkeypatch):
    """Copy the configs, and write the page's files beside them."""
    shutil.copytree(REPOSITORY / 'configs', tmp_path / 'configs')
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(reduced_configs, 'CONFIGS', tmp_path / 'configs/mmcast')
    yield tmp_path
    sys.modules.pop('my_contrast', None)
    MODELS.module_dict.pop('AllPixelsContrast', None)


def with_small_student(name):
    """Let a config of the page have the small student, which learns in seconds."""
    file = Path(f'configs/mmcast/{name}.py')
    text = file.read_text().replace('distill_cityscapes', 'distill_synthscapes')
    file.write_text(text)


def train(name, synthscapes, weights, work_of_adapt, **switches):
    """Train for two iterations with the labels of a small teacher."""
    config = reduced(name, synthscapes, weights, **switches)
    # A copy, since its labels come beside it.
    teacher = Path('made')
    made = work_of_adapt / 'work_dirs/adapt_synthscapes'
    shutil.copytree(made, teacher, dirs_exist_ok=True)
    config.default_hooks.pseudo_labels.update(
        teacher=str(teacher / 'teacher.pth'),
        config=str(teacher / 'adapt_synthscapes.py'),
    )
    runner = Runner.from_cfg(config)
    runner.train()
    return runner


def test_teacher(followed, synthscapes, work_of_adapt):
    """Any detector with masks is a teacher: here a small Mask2Former."""
    hook = Config.fromfile('configs/mmcast/distill_mine.py').default_hooks.pseudo_labels
    assert hook == dict(
        type='PseudoLabelHook',
        teacher='work_dirs/my_teacher/best.pth',
        config='configs/my_teacher.py',
    )
    made = work_of_adapt / 'work_dirs/adapt_synthscapes'
    Path(hook.teacher).parent.mkdir(parents=True)
    shutil.copy(made / 'teacher.pth', hook.teacher)
    shutil.copy(made / 'adapt_synthscapes.py', hook.config)
    with_small_student('distill_mine')
    config = reduced('distill_mine', synthscapes, {})
    config.default_hooks.pseudo_labels.config = hook.config  # reduced() changes it
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 2
    assert Path('work_dirs/my_teacher/pseudo_labels/manifest.json').is_file()


def test_student(followed, synthscapes, work_of_adapt):
    file = followed / 'checkpoints/mobilenet_v2.pth'
    name = 'distill_cityscapes'
    with pytest.raises(FileNotFoundError, match=r'checkpoints/mobilenet_v2\.pth'):
        train(name, synthscapes, {}, work_of_adapt, STUDENT='mobilenet_dpt')
    file.parent.mkdir()
    student = Config.fromfile('configs/mmcast/_base_/models/student_mobilenet_dpt.py')
    backbone = MODELS.build({**student.model.backbone, 'init_cfg': None})
    torch.save(backbone.state_dict(), file)
    runner = train(name, synthscapes, {}, work_of_adapt, STUDENT='mobilenet_dpt')
    assert type(runner.model.student.backbone).__name__ == 'MobileNetV2'
    assert runner.iter == 2
    assert len(list(Path('work_dirs').glob('*mobilenet_dpt*/**/student.pth'))) == 1


def test_loss(followed, synthscapes, work_of_adapt):
    with_small_student('distill_all_pixels')
    runner = train('distill_all_pixels', synthscapes, {}, work_of_adapt)
    loss = runner.model.student.pixel_contrast.contrast
    assert type(loss).__name__ == 'AllPixelsContrast'
    assert runner.message_hub.get_scalar('train/loss_pxl').current() > 0

    from mmcast.models.losses import Grid

    z = torch.eye(6)[None, :, :, None].repeat(2, 1, 1, 2)[..., :1]
    found = loss(z, z, None, None, Grid.without_padding(2, (6, 1)))
    expected = 0.1 * torch.log(1 + 5 * torch.exp(torch.tensor(-5.0)))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
