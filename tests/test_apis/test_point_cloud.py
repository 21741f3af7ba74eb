"""Test the point cloud's formula, its PLY files, and the command's errors."""

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmcast.apis.point_cloud import back_project, check_camera, write_ply
from mmcast.datasets.depth_files import CameraFile

SCRIPT = Path(__file__).parents[2] / 'tools/analysis_tools/point_cloud.py'
CAMERA = CameraFile(baseline=0.2, fx=90.0, fy=80.0, u0=30.5, v0=20.25)
SIZE = (48, 72)


def read_ply(path):
    """Return the property lines and the columns of a binary little-endian PLY."""
    header, found, data = path.read_bytes().partition(b'end_header\n')
    assert found
    lines = header.decode('ascii').splitlines()
    assert lines[:2] == ['ply', 'format binary_little_endian 1.0']
    (count,) = (int(li.split()[2]) for li in lines if li.startswith('element vertex '))
    properties = [tuple(li.split()[1:]) for li in lines if li.startswith('property ')]
    columns = {name: [] for _, name in properties}
    for _ in range(count):
        for kind, name in properties:
            if kind == 'float':
                raw, data = data[:4], data[4:]
                columns[name].append(np.frombuffer(raw, '<f4')[0])
            else:
                assert kind == 'uchar'
                raw, data = data[:1], data[1:]
                columns[name].append(raw[0])
    assert data == b''
    return properties, columns, lines


@pytest.mark.parametrize('stride', [1, 2, 5, 100])
def test_points_of_a_plane_lie_on_it_and_project_to_their_pixels(stride):
    # On the plane normal . p = 6, the depth of a pixel is 6 / (normal . ray).
    normal = np.array([0.2, 0.6, 0.5])
    v, u = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    ray = np.stack([(u - 30.5) / 90, (v - 20.25) / 80, np.ones(SIZE)], -1)
    depth = (6 / (ray @ normal)).astype(np.float32)
    points = back_project(depth, CAMERA, stride)
    assert points.dtype == np.float32
    assert points.shape == (-(-SIZE[0] // stride), -(-SIZE[1] // stride), 3)
    np.testing.assert_allclose(points @ normal, 6, rtol=1e-5)
    x, y, z = np.moveaxis(points, -1, 0)
    np.testing.assert_array_equal(z, depth[::stride, ::stride])
    np.testing.assert_allclose(90 * x / z + 30.5, u[::stride, ::stride], atol=1e-3)
    np.testing.assert_allclose(80 * y / z + 20.25, v[::stride, ::stride], atol=1e-3)


def test_x_is_right_y_is_down_and_no_measurement_is_the_origin():
    depth = np.full(SIZE, 10.0)
    depth[0, 0] = 0
    points = back_project(depth, CAMERA)
    assert points[0, 0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(
        points[-1, -1], [(71 - 30.5) / 90 * 10, (47 - 20.25) / 80 * 10, 10], rtol=1e-6
    )
    assert points[1, 1, 0] < 0
    assert points[1, 1, 1] < 0


def test_a_scenes_road_is_flat_and_at_the_cameras_height(synthscapes):
    """Check the sign and scale of y with files whose camera height is known."""
    from mmcast.datasets.depth_files import disparity_to_depth, read_png

    image = sorted((synthscapes / 'leftImg8bit/val').rglob('*.png'))[0]

    def sibling(folder, suffix):
        name = image.name.replace('_leftImg8bit.png', suffix)
        return synthscapes / folder / 'val' / image.parent.name / name

    path = sibling('camera', '_camera.json')
    camera = CameraFile.read(path)
    depth = disparity_to_depth(read_png(sibling('disparity', '_disparity.png')), camera)
    road = read_png(sibling('gtFine', '_gtFine_labelIds.png')) == 7
    points = back_project(depth, camera)[road & (depth > 0) & (depth < 20)]
    assert len(points) > 50
    height = json.loads(path.read_text())['extrinsic']['z']
    np.testing.assert_allclose(np.median(points[:, 1]), height, rtol=0.05)


@pytest.mark.parametrize(('u0', 'v0'), [(72, 20), (100, 20), (30, 48), (30, 600)])
def test_a_camera_of_another_size_is_refused(u0, v0):
    camera = CameraFile(baseline=0.2, fx=90, fy=80, u0=u0, v0=v0)
    with pytest.raises(ValueError, match=r'outside the image of 72 x 48 pixels: give'):
        check_camera(camera, SIZE)
    with pytest.raises(ValueError, match='outside the image'):
        back_project(np.ones(SIZE), camera)


@pytest.mark.parametrize('stride', [0, -1])
def test_stride_is_positive(stride):
    with pytest.raises(ValueError, match='give 1'):
        back_project(np.ones(SIZE), CAMERA, stride)


@pytest.mark.parametrize('labelled', [True, False])
def test_ply_reads_back_exactly(tmp_path, labelled):
    random = np.random.default_rng(0)
    points = random.normal(size=(17, 3)).astype(np.float32)
    colours = random.integers(0, 256, (17, 3), np.uint8)
    labels = random.integers(0, 256, 17)
    labels[:2] = 0, 255
    out = tmp_path / 'new' / 'cloud.ply'
    write_ply(out, points, colours, labels if labelled else None)
    properties, columns, lines = read_ply(out)
    want = [('float', name) for name in 'xyz']
    want += [('uchar', name) for name in ('red', 'green', 'blue')]
    assert properties == want + [('uchar', 'label')] * labelled
    np.testing.assert_array_equal(np.transpose([columns[n] for n in 'xyz']), points)
    np.testing.assert_array_equal(
        np.transpose([columns[n] for n in ('red', 'green', 'blue')]), colours
    )
    if labelled:
        assert columns['label'] == labels.tolist()
    assert any('x right, y down, z ahead' in line for line in lines)


def test_ply_of_no_points_is_whole(tmp_path):
    write_ply(
        tmp_path / 'a.ply', np.ones((0, 3)), np.ones((0, 3), np.uint8), np.ones(0, int)
    )
    _, columns, _ = read_ply(tmp_path / 'a.ply')
    assert columns['label'] == []


@pytest.mark.parametrize(
    ('points', 'colours', 'labels'),
    [
        ((5, 3), (4, 3), 5),
        ((5, 3), (5, 3), 6),
        ((5, 2), (5, 3), 5),
        ((5, 3), (5, 4), None),
    ],
)
def test_ply_refuses_arrays_that_do_not_fit_and_leaves_the_old_file(
    tmp_path, points, colours, labels
):
    out = tmp_path / 'a.ply'
    out.write_text('old')
    with pytest.raises(ValueError, match=r'give \(n, 3\)'):
        write_ply(
            out,
            np.ones(points),
            np.ones(colours, np.uint8),
            None if labels is None else np.ones(labels, int),
        )
    assert out.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize('label', [-1, 256])
def test_ply_refuses_labels_beyond_a_byte(tmp_path, label):
    with pytest.raises(ValueError, match='give 0 to 255'):
        write_ply(
            tmp_path / 'a.ply',
            np.ones((2, 3)),
            np.ones((2, 3), np.uint8),
            np.array([0, label]),
        )
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('point_cloud_tool', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def command(tool, teacher_world, tmp_path, monkeypatch):
    """Return a function that runs the tool on an image with a camera."""
    random = np.random.default_rng(0)
    cv2.imwrite(
        str(tmp_path / 'street.png'), random.integers(0, 255, (*SIZE, 3), np.uint8)
    )
    content = dict(
        extrinsic=dict(baseline=0.2), intrinsic=dict(fx=90, fy=80, u0=30.5, v0=20.25)
    )
    (tmp_path / 'camera.json').write_text(json.dumps(content))
    (tmp_path / 'far.json').write_text(
        json.dumps(dict(content, intrinsic=dict(fx=90, fy=80, u0=900, v0=20)))
    )
    (tmp_path / 'text.png').write_text('no image')
    (tmp_path / 'text.pth').write_text('no checkpoint')
    files = dict(
        config=teacher_world.config,
        checkpoint=teacher_world.checkpoint,
        image=tmp_path / 'street.png',
        camera=tmp_path / 'camera.json',
    )

    def run(*options, **changes):
        paths = [tmp_path / changes.get(name, path) for name, path in files.items()]
        words = [*paths, '--out', tmp_path / 'cloud.ply', *options]
        monkeypatch.setattr(sys, 'argv', ['point_cloud.py', *map(str, words)])
        tool.main()
        return read_ply(tmp_path / 'cloud.ply')

    return run


def refusal(command, *options, **changes):
    with pytest.raises((OSError, ValueError)) as caught:
        command(*options, **changes)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(config='none.py'), 'none.py is missing'),
        (dict(checkpoint='none.pth'), 'none.pth is missing'),
        (dict(image='none.png'), 'none.png is missing'),
        (dict(camera='none.json'), 'none.json is missing'),
        (dict(image='text.png'), 'text.png is no image'),
        (dict(camera='text.png'), 'text.png is no JSON'),
        (dict(checkpoint='text.pth'), 'text.pth cannot be read as a checkpoint'),
        (dict(camera='far.json'), '(900.0, 20.0) is outside the image of 72 x 48'),
    ],
)
def test_files_are_refused_in_one_line_before_the_model_is_built(
    tool, command, monkeypatch, tmp_path, changes, message
):
    monkeypatch.setattr(tool, 'init_detector', lambda *_, **__: pytest.fail('too late'))
    assert message in refusal(command, **changes)
    assert not (tmp_path / 'cloud.ply').exists()


def test_a_model_without_depth_is_refused_in_one_line(command, tmp_path):
    assert 'predicts no depth: give one that does' in refusal(command)
    assert not (tmp_path / 'cloud.ply').exists()


@pytest.mark.parametrize('options', [('--stride', '0'), ('--max-depth', '-1')])
def test_numbers_are_positive(command, capsys, options):
    with pytest.raises(SystemExit):
        command(*options)
    assert 'must be positive' in capsys.readouterr().err


class TestWithPredictions:
    """The command with the files of a real detector, and maps in its place."""

    @pytest.fixture
    def maps(self, tool, monkeypatch):
        """Predict depth that grows by row from 1 m, and labels 0, 1, 2 by column."""
        depth = torch.arange(1.0, SIZE[0] + 1)[:, None].expand(SIZE).clone()
        labels = (torch.arange(SIZE[1]) % 3).expand(SIZE)
        sample = DetDataSample(
            pred_depth=PixelData(depth=depth[None]),
            pred_sem_seg=PixelData(sem_seg=labels[None]),
        )
        monkeypatch.setattr(tool, 'inference_detector', lambda *_: sample)
        return sample

    def test_points_have_the_colours_and_labels_of_their_pixels(
        self, command, maps, tmp_path
    ):
        _, columns, _ = command('--max-depth', '10', '--stride', '3')
        image = cv2.imread(str(tmp_path / 'street.png'))[:10:3, ::3, ::-1].reshape(
            -1, 3
        )
        got = np.transpose([columns[name] for name in ('red', 'green', 'blue')])
        np.testing.assert_array_equal(got, image)
        assert columns['z'] == [z for z in (1, 4, 7, 10) for _ in range(24)]
        assert columns['x'][0] == pytest.approx(-30.5 / 90)
        assert columns['y'][-1] == pytest.approx((9 - 20.25) / 80 * 10)
        assert set(columns['label']) == {0}

    def test_colours_of_labels(self, command, maps):
        _, columns, _ = command('--colour', 'labels')
        assert len(columns['x']) == SIZE[0] * SIZE[1]
        assert columns['label'][:4] == [0, 1, 2, 0]
        pixels = list(
            zip(columns['red'], columns['green'], columns['blue'], strict=True)
        )
        assert len(set(pixels)) == 3
        assert pixels[0] == pixels[3] != pixels[1]

    def test_a_model_that_does_not_segment_writes_no_labels(self, command, maps):
        del maps.pred_sem_seg
        properties, _, _ = command()
        assert ('uchar', 'label') not in properties
        assert 'give --colour image' in refusal(command, '--colour', 'labels')

    def test_pixels_without_depth_are_left_out(self, command, maps):
        maps.pred_depth.depth[:, :, :70] = 0
        maps.pred_depth.depth[:, 0] = torch.nan
        _, columns, _ = command()
        assert len(columns['x']) == (SIZE[0] - 1) * 2
        assert 'raise --max-depth' in refusal(command, '--max-depth', '0.5')

    def test_depth_of_another_size_is_refused(self, command, maps):
        maps.pred_depth = PixelData(depth=torch.ones(1, 24, 36))
        assert 'original size' in refusal(command)
