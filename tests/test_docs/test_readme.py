"""Follow README.md: its Python, its commands, and the links of all pages."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

from mmcast.checkpoints import save_plain

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    path
    for path in REPOSITORY.rglob('*.md')
    if not any(part.startswith('.') for part in path.relative_to(REPOSITORY).parts)
]
TEXT = (REPOSITORY / 'README.md').read_text()
STUDENT = next(
    block
    for block in re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)
    if 'DetInferencer' in block
)


def test_python_of_the_readme_draws_predictions(tmp_path, monkeypatch):
    config, checkpoint, images = re.findall(r"'([\w./]*/[\w./]+)'", STUDENT)
    student = MODELS.build(Config.fromfile(REPOSITORY / config).model)
    (tmp_path / 'configs').symlink_to(REPOSITORY / 'configs')
    save_plain(student.state_dict(), {}, tmp_path / checkpoint)
    (tmp_path / images).mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 255, (128, 256, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / images / 'street.png'), image)
    monkeypatch.chdir(tmp_path)
    exec(STUDENT, {})  # the test follows the page, which is our own code
    drawn = cv2.imread('drawn/vis/street.png')
    assert drawn.shape == image.shape


def test_commands_of_the_readme_name_configs_that_exist():
    configs = re.findall(r'mim train mmdet (configs/mmcast/\S+)', TEXT)
    assert len(configs) == 5
    for config in configs:
        assert (REPOSITORY / config).is_file()


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_relative_links_work(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if '://' in link:
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r'^#+ (.+)', target.read_text(), re.MULTILINE)
            slugs = [
                re.sub(r'[^\w -]', '', h.lower()).replace(' ', '-') for h in headings
            ]
            assert anchor in slugs, link
