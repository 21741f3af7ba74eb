"""Follow README.md: its Python, its commands, and the links of all pages."""

import re
import shutil
from pathlib import Path

import cv2
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
QUICKSTART = (REPOSITORY / 'docs/quickstart.md').read_text()
# The blocks that use a student, in order: by name, images, then a video.
USE = [
    block
    for block in re.findall(r'```python\n(.*?)```', TEXT + QUICKSTART, re.DOTALL)
    if 'mmdet.apis' in block
]


def test_python_of_the_readme_draws_images_a_folder_and_a_video(
    tmp_path, monkeypatch, warm
):
    named, still, moving = USE
    config, checkpoint, images = re.findall(r"'([\w./]*/[\w./]+)'", still)
    (tmp_path / 'configs').symlink_to(REPOSITORY / 'configs')
    student = MODELS.build(Config.fromfile(REPOSITORY / config).model)
    student.init_weights()  # from configs/mmcast/weights
    classes = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bike')
    meta = dict(dataset_meta=dict(classes=classes))
    save_plain(student.state_dict(), meta, tmp_path / checkpoint)
    monkeypatch.chdir(tmp_path)
    generator = REPOSITORY / 'tools/dataset_converters/synthscapes.py'
    settings = [
        '--domain',
        'target',
        '--train',
        '0',
        '--val',
        '3',
        '--size',
        '64',
        '128',
        '--seed',
        '1',
    ]
    folder = tmp_path / images
    root = folder.parents[2]
    warm(generator, root, *settings, check=True)
    scenes = sorted(folder.glob('*.png'))
    assert scenes
    video = cv2.VideoWriter('drive.mp4', cv2.VideoWriter_fourcc(*'mp4v'), 5, (128, 64))
    for scene in scenes:
        video.write(cv2.imread(str(scene)))
    video.release()
    shutil.copy(scenes[0], 'street.png')
    exec(named, {})
    assert cv2.imread('drawn/vis/street.png').shape == (64, 128, 3)
    names: dict = {}
    exec(still, names)  # the test follows the page, which is our own code
    for scene in scenes:
        assert cv2.imread(f'drawn/vis/{scene.name}').shape == (64, 128, 3)
    # The page says that one image works as well.
    exec(still.replace(images, str(scenes[0])).replace('drawn', 'one'), {})
    assert len(list((tmp_path / 'one/vis').iterdir())) == 1
    exec(moving, names)
    drawn = cv2.VideoCapture('drawn/drive.mp4')
    assert int(drawn.get(cv2.CAP_PROP_FRAME_COUNT)) == len(scenes)
    assert drawn.read()[1].shape == (64, 128, 3)


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
