"""Test the data set on disk: complete, unchanging, readable by Cityscapes' tools."""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as evaluation
import cv2
import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label, labels
from cityscapesscripts.preparation.json2instanceImg import json2instanceImg
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image

from mmcast.apis.label_images import _start_worker as start_loader_worker
from mmcast.datasets.synthscapes import generate, render_scene
from mmcast.datasets.synthscapes.generate import _start_worker as start_process

SIZE = (128, 256)
SCRIPT = Path(__file__).parents[2] / 'tools/dataset_converters/synthscapes.py'
THINGS = [each for each in labels if each.hasInstances and not each.ignoreInEval]


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('synthscapes') / 'data'
    splits = {'train': 2, 'val': 12, 'test': 1}
    generate(folder, splits, 'target', SIZE, workers=1, progress=False)
    return folder


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def _read(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_folder_layout(root):
    images = sorted(root.glob('leftImg8bit/val/*/*_leftImg8bit.png'))
    assert len(images) == 12
    assert len({image.parent.name for image in images}) == 2
    for image in images:
        stem = image.name.removesuffix('_leftImg8bit.png')
        city, sequence, frame = stem.split('_')
        assert city == image.parent.name
        assert len(sequence) == len(frame) == 6
        place = f'val/{city}/{stem}'
        for name in (
            f'gtFine/{place}_gtFine_instanceIds.png',
            f'gtFine/{place}_gtFine_labelIds.png',
            f'gtFine/{place}_gtFine_polygons.json',
            f'camera/{place}_camera.json',
            f'disparity/{place}_disparity.png',
        ):
            assert (root / name).is_file()
    assert sum(path.is_file() for path in root.rglob('*')) == 15 * 6 + 1


def test_files_contain_the_rendered_scene(root):
    city = 'targetheim'  # val's first city; image 0 is its number 0
    scene = render_scene('target', 0, 'val', 0, SIZE)
    place = f'val/{city}/{city}_000000_000019'
    image = _read(root / f'leftImg8bit/{place}_leftImg8bit.png')
    np.testing.assert_array_equal(image, scene.image)
    ids = _read(root / f'gtFine/{place}_gtFine_instanceIds.png')
    np.testing.assert_array_equal(ids, scene.instance_ids)


def test_cityscapesscripts_tools_draw_the_same_labels(root, tmp_path):
    polygons = sorted(root.glob('gtFine/*/*/*_polygons.json'))
    assert len(polygons) == 15
    for path in polygons:
        stem = str(path).removesuffix('polygons.json')
        for tool, ours in (
            (json2instanceImg, 'instanceIds'),
            (json2labelImg, 'labelIds'),
        ):
            theirs = tmp_path / f'{ours}.png'
            tool(str(path), str(theirs), 'ids')
            np.testing.assert_array_equal(
                _read(theirs), _read(Path(f'{stem}{ours}.png'))
            )


def test_disparity_encodes_the_depth(root):
    for index in (0, 2):  # the first city has the even images
        scene = render_scene('target', 0, 'val', index, SIZE)
        place = f'val/targetheim/targetheim_{index // 2:06d}_000019'
        camera = json.loads((root / f'camera/{place}_camera.json').read_text())
        coded = _read(root / f'disparity/{place}_disparity.png')
        assert coded.dtype == np.uint16
        np.testing.assert_array_equal(coded == 0, scene.label_ids == 23)
        valid = coded > 0
        disparity = (coded[valid].astype(float) - 1) / 256
        bf = camera['extrinsic']['baseline'] * camera['intrinsic']['fx']
        # Rounding moves a disparity by at most half a step of 1/256 pixel.
        exact = bf / scene.depth[valid]
        assert np.abs(disparity - exact).max() <= 0.5 / 256 + 1e-4
        np.testing.assert_allclose(
            bf / disparity, scene.depth[valid], rtol=0.5 / 256 / exact.min() * 1.1
        )


def _perfect_results(root: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Write each true instance as a prediction in cityscapesscripts' format."""
    folder.mkdir()
    truths, predictions = [], []
    for truth in sorted(root.glob('gtFine/val/*/*_instanceIds.png')):
        ids = _read(truth)
        lines = []
        for each in np.unique(ids[ids >= 1000]):
            name = f'{truth.stem}_{each}.png'
            Image.fromarray((ids == each).astype(np.uint8) * 255).save(folder / name)
            lines.append(f'{name} {each // 1000} 0.9\n')
        path = folder / f'{truth.stem}_pred.txt'
        path.write_text(''.join(lines))
        truths.append(str(truth))
        predictions.append(str(path))
    return predictions, truths


def test_cityscapesscripts_evaluation_of_the_truth_is_one(root, tmp_path, monkeypatch):
    # The evaluation also writes all matches to the current folder, which fails with
    # numpy 2.4.
    monkeypatch.setattr(evaluation, 'writeDict2JSON', lambda *_: None)
    predictions, truths = _perfect_results(root, tmp_path / 'results')
    values = dict(vars(evaluation.args))
    values |= {
        'gtInstancesFile': str(tmp_path / 'gtInstances.json'),
        'predictionPath': str(tmp_path / 'results'),
        'JSONOutput': False,
        'quiet': True,
    }
    averages = evaluation.evaluateImgLists(
        predictions, truths, SimpleNamespace(**values)
    )['averages']
    assert averages['allAp'] == pytest.approx(1.0)
    present = [row['ap'] for row in averages['classes'].values()]
    assert np.isfinite(present).sum() >= 6


def test_mmdet_metric_of_the_truth_is_one(root, tmp_path):
    from mmdet.evaluation import CityScapesMetric

    metric = CityScapesMetric(
        outfile_prefix=str(tmp_path / 'metric'), seg_prefix=str(root / 'gtFine/val')
    )
    names = [each.name for each in THINGS]
    metric.dataset_meta = {'classes': names}
    for path in sorted(root.glob('leftImg8bit/val/*/*.png')):
        truth = Path(
            str(path)
            .replace('leftImg8bit.png', 'gtFine_instanceIds.png')
            .replace('/leftImg8bit/', '/gtFine/')
        )
        ids = _read(truth)
        each = np.unique(ids[ids >= 1000])
        classes = [names.index(id2label[int(one) // 1000].name) for one in each]
        sample = {
            'img_path': str(path),
            'pred_instances': {
                'labels': torch.tensor(classes),
                'scores': torch.full((len(each),), 0.9),
                'masks': torch.from_numpy(ids[None] == each[:, None, None]),
            },
        }
        metric.process({}, [sample])
    assert metric.evaluate(size=12)['cityscapes/mAP'] == pytest.approx(1.0)


def test_mmdet_converter_reads_it(root, tmp_path, warm):
    import mmdet

    script = Path(mmdet.__file__).parent / '.mim/tools/dataset_converters/cityscapes.py'
    if not script.exists():
        pytest.skip('this mmdet comes without its tools')
    warm(script, root, '-o', tmp_path, check=True)
    coco = json.loads((tmp_path / 'instancesonly_filtered_gtFine_val.json').read_text())
    assert len(coco['images']) == 12
    assert [each['name'] for each in coco['categories']] == [
        each.name for each in THINGS
    ]
    expected = sum(
        int((np.unique(_read(path)) >= 1000).sum())
        for path in root.glob('gtFine/val/*/*_instanceIds.png')
    )
    assert len(coco['annotations']) == expected > 12
    assert all(
        (root / 'leftImg8bit/val' / x['file_name']).exists() for x in coco['images']
    )


def test_files_do_not_depend_on_processes_or_image_count(tmp_path):
    size = (64, 128)
    generate(tmp_path / 'one', {'train': 20}, 'source', size, 5, 1, False)
    generate(tmp_path / 'three', {'train': 20}, 'source', size, 5, 3, False)
    one = _digests(tmp_path / 'one')
    assert len(one) == 20 * 6 + 1
    assert one == _digests(tmp_path / 'three')
    generate(tmp_path / 'grown', {'train': 7}, 'source', size, 5, 1, False)
    generate(tmp_path / 'grown', {'train': 20}, 'source', size, 5, 1, False)
    assert one == _digests(tmp_path / 'grown')


def test_only_missing_images_are_made(tmp_path):
    def make(**splits):
        generate(tmp_path, splits, 'source', (64, 128), workers=1, progress=False)

    make(train=3)
    before = _digests(tmp_path)
    kept, *_ = sorted(tmp_path.glob('leftImg8bit/train/*/*.png'))
    stamp = kept.stat().st_mtime_ns
    *_, gone = sorted(tmp_path.glob('gtFine/train/*/*_labelIds.png'))
    gone.unlink()
    torn = gone.with_name(f'.{gone.name}.abcdefgh')
    torn.write_bytes(b'half')
    make(train=3)
    assert _digests(tmp_path) == before
    assert kept.stat().st_mtime_ns == stamp
    assert not torn.exists()
    make(val=1)
    manifest = json.loads((tmp_path / 'synthscapes.json').read_text())
    assert manifest['splits'] == {'train': 3, 'val': 1}


def test_a_killed_run_leaves_complete_files_and_continues(tmp_path):
    killed, whole = tmp_path / 'killed', tmp_path / 'whole'
    arguments = ['--domain', 'target', '--train', '40', '--size', '64', '128']
    command = [sys.executable, SCRIPT, 'killed', *arguments, '--workers', '1']
    process = subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while len(list(killed.glob('leftImg8bit/*/*/*.png'))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(killed.glob('leftImg8bit/*/*/*.png'))) < 40
    for path in killed.rglob('*.png'):
        if not path.name.startswith('.'):
            Image.open(path).load()
    generate(killed, {'train': 40}, 'target', (64, 128), progress=False)
    generate(whole, {'train': 40}, 'target', (64, 128), progress=False)
    assert _digests(killed) == _digests(whole)


def test_folder_with_other_files_raises(tmp_path):
    (tmp_path / 'photo.png').write_bytes(b'mine')
    with pytest.raises(FileExistsError, match=r"holds 'photo.png'.*an empty folder$"):
        generate(tmp_path, {'train': 1}, 'source', SIZE, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ['photo.png']
    with pytest.raises(FileExistsError, match='is a file: give a folder'):
        generate(tmp_path / 'photo.png', {'train': 1}, 'source', SIZE)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'domain': 'source'}, 'made with domain target, not domain source'),
        ({'seed': 1}, 'made with seed 0, not seed 1'),
        ({'size': (64, 64)}, r'size \[128, 256\], not size \[64, 64\]: give another'),
        ({'splits': {'val': 3}}, "12 images in 'val', not 3: ask for at least 12"),
    ],
)
def test_other_settings_in_the_same_folder_raise(root, change, message):
    before = _digests(root)
    arguments = {'splits': {'val': 12}, 'domain': 'target', 'size': SIZE, 'seed': 0}
    with pytest.raises(ValueError, match=message):
        generate(root, **(arguments | change), progress=False)
    assert _digests(root) == before


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'domain': 'moon'}, "no domain 'moon': choose one of"),
        ({'splits': {}}, 'no image asked for: give'),
        ({'splits': {'train': -1}}, "'train' of -1 images: ask for 0 or more"),
        ({'splits': {'../up': 1}}, "split name '../up': use letters"),
        ({'size': (8, 8)}, 'each at least 32'),
        ({'seed': -1}, 'seed -1: give 0 or more'),
        ({'workers': 0}, '0 workers: give at least 1'),
    ],
)
def test_invalid_arguments_raise(tmp_path, change, message):
    arguments = {'splits': {'train': 1}, 'domain': 'source', 'size': SIZE} | change
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / 'new', **arguments)
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('start', [start_process, lambda: start_loader_worker(0)])
def test_workers_start_although_opencv_has_threads(start):
    fork = multiprocessing.get_context('fork')
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        ended = []
        for _ in range(8):  # a faulty start hangs in about half of them
            cv2.GaussianBlur(np.zeros((4000, 4000, 3), np.uint8), (31, 31), 5)
            worker = fork.Process(target=start, daemon=True)
            worker.start()
            worker.join(20)
            ended.append(worker.exitcode)
            worker.kill()
    finally:
        cv2.setNumThreads(before)
    assert ended == [0] * 8


def test_command_line_error_is_one_line(root, warm):
    arguments = ['--domain', 'target', '--val', '12', '--size', '64', '96']
    done = warm(SCRIPT, root.name, *arguments, cwd=root.parent)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('error: data was made')
    assert 'Traceback' not in done.stderr
