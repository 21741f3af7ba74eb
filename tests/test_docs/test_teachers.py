"""Follow docs/teachers.md: its files, commands, configs and class."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from mmcast.checkpoints import check_fits
from mmcast.models.segmenters.masks import predict_masks
from mmcast.testing import SAM2, reduced, save_bert, teacher_config

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / 'docs/teachers.md').read_text()
CONTRAST, OTHER_BOXES, CLASS, *_ = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
ASSEMBLE = REPOSITORY / 'tools/misc/assemble_teacher.py'


def config(text, folder):
    """Load a config of the page as if it were in the folder of mmcast's configs."""
    text = re.sub(r"'\./(\w+\.py)'", rf"'{REPOSITORY / 'configs/mmcast'}/\1'", text)
    path = folder / 'config.py'
    path.write_text(text)
    return Config.fromfile(path)


def test_page_lists_the_files_that_the_config_reads():
    page = Config.fromfile(REPOSITORY / 'configs/mmcast/adapt_cityscapes.py')
    files = [*page.made_by, page.bert_folder]
    assert len(files) == 3
    for file in files:
        assert f'`{file}' in PAGE
    for command in page.made_by.values():
        assert f'`{command}`' in PAGE


def test_contrast_of_the_page_fits_the_published_detector(tmp_path):
    model = config(CONTRAST, tmp_path).model
    student = model.student
    assert student.type == 'GroundedSam2'
    assert len(student.classes) == 8
    assert model.pixel_contrast.in_channels == student.detector.neck.in_channels[-1]
    assert student.data_preprocessor.pad_mask


def test_a_teacher_is_adapted_with_the_contrast_of_the_page(
    synthscapes, tmp_path, monkeypatch
):
    """Two iterations, and the file that the page names."""
    monkeypatch.chdir(tmp_path)
    bert = save_bert(tmp_path / 'bert')
    config(CONTRAST, tmp_path)
    small = reduced(str(tmp_path / 'config'), synthscapes, {'bert': bert})
    small.model.pixel_contrast.in_channels = 128
    small.model.student.detector.init_cfg = None
    small.model.student.segmenter.init_cfg = None
    small.work_dir = 'work'
    runner = Runner.from_cfg(small)
    runner.train()
    assert 'train/loss_pxl' in runner.message_hub.log_scalars
    plain = reduced('adapt_cityscapes', synthscapes, {'bert': bert})
    check_fits(MODELS.build(plain.model), 'work/teacher.pth')


def test_another_box_detector(tmp_path):
    boxes = config(OTHER_BOXES.replace(', ...', ', num_queries=9'), tmp_path)
    assert boxes.model.detector == dict(type='DINO', num_queries=9)
    assert boxes.model.segmenter.type == 'Sam2Segmenter'


def test_another_segmenter(tmp_path):
    names = {}
    exec(CLASS, names)
    try:
        config = teacher_config(
            save_bert(tmp_path / 'bert'), segmenter=dict(type='BoxFiller')
        )
        teacher = MODELS.build(config)
        boxes = torch.tensor([[2.0, 3, 10, 9], [0, 0, 4, 4]])
        masks, qualities = predict_masks(
            teacher.segmenter, torch.zeros(3, 20, 30), boxes, 1
        )
        assert qualities is None
        assert masks.shape == (2, 20, 30)
        assert masks.flatten(1).sum(1).tolist() == [48, 16]
        assert masks[0, 3:9, 2:10].all()
    finally:
        MODELS.module_dict.pop('BoxFiller')


def assemble(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['assemble_teacher.py', *map(str, arguments)])
    runpy.run_path(str(ASSEMBLE), run_name='__main__')


def test_files_are_checked_and_joined(tmp_path, monkeypatch, capsys):
    bert = save_bert(tmp_path / 'bert')
    source = MODELS.build(teacher_config(bert))
    source.init_weights()
    torch.save(dict(state_dict=source.detector.state_dict()), tmp_path / 'd.pth')
    model = teacher_config(bert)
    for part, file in (('detector', 'd.pth'), ('segmenter', 's.pth')):
        model[part].init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / file))
    Config(dict(model=model, default_scope='mmdet')).dump(tmp_path / 'c.py')
    out = tmp_path / 'out/teacher.pth'
    with pytest.raises(FileNotFoundError, match=r's\.pth is missing; correct the path'):
        assemble(monkeypatch, tmp_path / 'c.py', out)
    torch.save(source.segmenter.sam2.state_dict(), tmp_path / 's.pth')
    assemble(monkeypatch, tmp_path / 'c.py', out)
    printed = capsys.readouterr().out
    assert re.search(r'^[0-9a-f]{64}  .*d\.pth$', printed, re.MULTILINE)
    assert 'detector: ' in printed
    joined = torch.load(out, weights_only=True)
    assert joined['meta']['dataset_meta']['classes'] == source.classes
    assert joined['state_dict'].keys() == source.state_dict().keys()
    for name, tensor in source.state_dict().items():
        assert torch.equal(joined['state_dict'][name], tensor)
    model.segmenter = dict(type='Sam2Segmenter', arch=SAM2)
    Config(dict(model=model, default_scope='mmdet')).dump(tmp_path / 'c.py')
    with pytest.raises(ValueError, match=r'model\.segmenter has no init_cfg'):
        assemble(monkeypatch, tmp_path / 'c.py', out)
