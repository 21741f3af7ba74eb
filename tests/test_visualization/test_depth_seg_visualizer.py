"""Test the picture of labels and depth: pixels, files, backends, mmdet's hook."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer

from mmcast.visualization.depth_seg_visualizer import (
    IGNORED,
    DepthSegVisualizer,
    class_palette,
    colour_depth,
    colour_labels,
    depth_bar,
    depth_range,
    legend,
)

META = dict(
    classes=('road', 'car', 'sky'),
    palette=[(128, 64, 128), (0, 0, 142), (70, 130, 180)],
)
HEIGHT, WIDTH = 64, 128
FACTOR = 4  # to MIN_WIDTH
GREY = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
TURBO = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)
TURBO = TURBO[:, 0, ::-1]


def sem_seg(top, bottom):
    """Return labels with two values: the upper and the lower half."""
    labels = torch.full((1, HEIGHT, WIDTH), top)
    labels[:, HEIGHT // 2 :] = bottom
    return PixelData(sem_seg=labels)


def depth(low, high, hole=True):
    """Return depth that grows from left to right, with a corner not measured."""
    values = torch.linspace(low, high, WIDTH).expand(1, HEIGHT, WIDTH).clone()
    if hole:
        values[:, : HEIGHT // 4, : WIDTH // 4] = 0
    return PixelData(depth=values)


def full_sample():
    return DetDataSample(
        gt_sem_seg=sem_seg(0, 255),
        gt_depth=depth(5, 50),
        pred_sem_seg=sem_seg(0, 1),
        pred_depth=depth(5, 50, hole=False),
    )


def draw(sample, image=GREY, **options):
    """Draw at full opacity and return the picture."""
    visualizer = DepthSegVisualizer(alpha=1.0)
    visualizer.dataset_meta = META
    visualizer.add_datasample('test', image, sample, **options)
    return visualizer.get_image()


def find_tiles(picture, image=GREY):
    """Return the picture's tiles by row and column, found by their size.

    Each row of tiles has a header of the same height. The first is above the image.
    """
    height, width = image.shape[0] * FACTOR, image.shape[1] * FACTOR
    head = next(y for y in range(len(picture)) if (picture[y, :width] == 100).all())
    rows, y = [], head
    while y + height <= len(picture):
        row = picture[y : y + height]
        rows.append([row[:, x : x + width] for x in range(0, row.shape[1], width)])
        y += height + head
    return rows


def has_colour(picture, colour):
    return (picture == np.array(colour)).all(-1).any()


def test_labels_have_the_palettes_colours_and_others_are_grey():
    labels = np.array([[0, 1, 2], [255, 3, -1]])
    got = colour_labels(labels, META['palette'])
    assert got.dtype == np.uint8
    assert got.tolist() == [
        [list(colour) for colour in META['palette']],
        [list(IGNORED)] * 3,
    ]
    for kind in (np.uint8, np.int32):
        same = colour_labels(labels.astype(kind), np.array(META['palette']))
        np.testing.assert_array_equal(same, got)


def test_depth_is_logarithmic_near_is_red_and_nothing_measured_is_black():
    values = np.array([[2.0, 8.0, 32.0], [1.0, 100.0, 0.0], [-1.0, np.nan, np.inf]])
    got = colour_depth(values.astype(np.float32), 2, 32)
    assert got.dtype == np.uint8
    # 8 m is halfway between 2 m and 32 m; 130 is halfway between 240 and 20.
    assert got[0].tolist() == TURBO[[240, 130, 20]].tolist()
    assert got[1].tolist() == [*TURBO[[240, 20]].tolist(), [0, 0, 0]]
    assert not got[2].any()
    red, _, blue = got[0, 0].astype(int)
    assert red > blue + 100
    red, _, blue = got[0, 2].astype(int)
    assert blue > red + 100


@pytest.mark.parametrize(
    ('low', 'high'), [(0, 10), (-1, 10), (5, 5), (6, 5), (1, np.inf)]
)
def test_a_scale_needs_two_positive_ends(low, high):
    with pytest.raises(ValueError, match='give 0 < low < high'):
        colour_depth(np.ones((2, 2)), low, high)


def test_range_leaves_out_the_outermost_hundredth_and_what_is_not_measured():
    values = np.concatenate(
        [np.linspace(10, 20, 1001), np.zeros(500), [np.nan, np.inf]]
    )
    assert depth_range(values) == pytest.approx((10.1, 19.9))
    low, high = depth_range(np.full((4, 4), 7.0))
    assert low < 7 < high
    assert depth_range(np.zeros((4, 4))) is None


def ticks_of(bar):
    """Return the columns of a bar's ticks, and its coloured part as one row."""
    coloured = np.flatnonzero((bar[0] != 255).any(-1))
    ramp = slice(coloured[0], coloured[-1] + 1)
    below = (bar[:, coloured] != 255).any(-1).argmin(0).min()
    black = np.flatnonzero((bar[below] == 0).all(-1))
    groups = np.split(black, np.flatnonzero(np.diff(black) > 1) + 1)
    return [group.mean() - ramp.start for group in groups], bar[0, ramp]


@pytest.mark.parametrize('width', [480, 512, 2048])
def test_ticks_are_at_round_depths_and_have_their_colours(width):
    ticks, ramp = ticks_of(depth_bar(0.9, 120, width))
    depths = np.array([1, 2, 5, 10, 20, 50, 100])
    want = np.log(depths / 0.9) / np.log(120 / 0.9) * (len(ramp) - 1)
    np.testing.assert_allclose(ticks, want, atol=1)
    shades = colour_depth(depths[None].astype(float), 0.9, 120)[0]
    found = ramp[np.rint(ticks).astype(int)].astype(int)
    np.testing.assert_allclose(found, shades, atol=12)


@pytest.mark.parametrize(('low', 'high'), [(5.1, 73), (11, 14), (0.02, 400)])
@pytest.mark.parametrize('width', [480, 2048])
def test_bar_runs_from_near_to_far_with_some_ticks_and_their_text(low, high, width):
    bar = depth_bar(low, high, width)
    assert bar.dtype == np.uint8
    assert bar.shape[1:] == (width, 3)
    ticks, ramp = ticks_of(bar)
    assert ramp[0].tolist() == TURBO[240].tolist()
    assert ramp[-1].tolist() == TURBO[20].tolist()
    assert 2 <= len(ticks) <= 10
    text = (bar[-bar.shape[0] // 3 :] < 100).all(-1).any(0)
    start = np.flatnonzero((bar[0] != 255).any(-1))[0]
    for tick in ticks:
        middle = round(start + tick)
        assert text[middle - width // 30 : middle + width // 30].any()
    assert not text[[0, -1]].any()


def test_legend_has_the_classes_present_and_one_entry_for_the_ignored():
    palette = class_palette(META)
    some = legend([0, 2], META['classes'], palette, 480)
    assert has_colour(some, META['palette'][0])
    assert has_colour(some, META['palette'][2])
    assert not has_colour(some, META['palette'][1])
    every = legend([0, 2, 255], META['classes'], palette, 480)
    swatches = (every == np.array(IGNORED)).all(-1).sum()
    one = (every == np.array(META['palette'][2])).all(-1).sum()
    assert swatches == one


def test_legend_of_many_classes_fits_into_a_tile():
    names = [f'a class {i}' for i in range(19)]
    palette = np.arange(19 * 3, dtype=np.uint8).reshape(19, 3) + 100
    picture = legend(range(19), names, palette, 480)
    assert picture.shape[1] == 480
    assert len(picture) < 240
    assert all(has_colour(picture, colour) for colour in palette)
    assert (picture[:, -5:] == 255).all()


def test_palette_may_be_absent_or_a_name_but_not_too_short():
    names = dict(classes=('a', 'b'))
    assert class_palette(names).shape == (2, 3)
    np.testing.assert_array_equal(
        class_palette(names), class_palette(dict(names, palette='random'))
    )
    assert class_palette({}).shape == (255, 3)
    with pytest.raises(ValueError, match='1 colours for 2 classes: give'):
        class_palette(dict(names, palette=[(1, 2, 3)]))


def test_full_picture_has_three_rows_and_two_columns_of_tiles():
    picture = draw(full_sample())
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 2 * FACTOR * WIDTH
    assert picture.shape[1] >= 2 * 480
    rows = find_tiles(picture)
    assert len(rows) == 3
    (image, key), (gt_labels, gt_depth), (pred_labels, pred_depth) = rows
    assert (image == 100).all()
    half = FACTOR * HEIGHT // 2
    road, car, sky = META['palette']
    assert (gt_labels[:half] == np.array(road)).all()
    assert (gt_labels[half:] == np.array(IGNORED)).all()
    assert (pred_labels[:half] == np.array(road)).all()
    assert (pred_labels[half:] == np.array(car)).all()
    assert all(has_colour(key, colour) for colour in (road, car, IGNORED))
    assert not has_colour(key, sky)
    assert has_colour(key, TURBO[130])
    hole = np.s_[: half // 2, : FACTOR * WIDTH // 4]
    assert not gt_depth[hole].any()
    assert pred_depth[hole].any(-1).all()
    # One scale: where depth is the same, so is the colour.
    np.testing.assert_array_equal(gt_depth[half:], pred_depth[half:])
    low, high = depth_range(full_sample().gt_depth.depth.numpy())
    want = colour_depth(full_sample().gt_depth.depth[0].numpy(), low, high)
    np.testing.assert_array_equal(gt_depth[::FACTOR, ::FACTOR], want)


def test_truth_sets_the_scale_and_a_prediction_without_truth_its_own():
    sample = full_sample()
    sample.pred_depth = depth(500, 5000, hole=False)
    *_, (_, pred_depth) = find_tiles(draw(sample))
    assert (pred_depth == TURBO[20]).all()
    *_, (_, alone) = find_tiles(draw(sample, draw_gt=False))
    assert has_colour(alone, TURBO[240])
    assert has_colour(alone, TURBO[20])


def test_labels_are_blended_with_alpha():
    visualizer = DepthSegVisualizer(alpha=0.25)
    visualizer.dataset_meta = META
    visualizer.add_datasample('test', GREY, DetDataSample(pred_sem_seg=sem_seg(1, 1)))
    want = np.rint(0.25 * np.array(META['palette'][1]) + 0.75 * 100)
    assert (find_tiles(visualizer.get_image())[1][0] == want).all()


@pytest.mark.parametrize('options', [{}, dict(draw_gt=False), dict(draw_pred=False)])
def test_rows_that_are_not_wanted_are_left_out(options):
    rows = find_tiles(draw(full_sample(), **options))
    assert len(rows) == 3 - len(options)
    car = has_colour(rows[-1][0], META['palette'][1])
    assert car == options.get('draw_pred', True)


@pytest.mark.parametrize('kind', ['sem_seg', 'depth'])
def test_with_one_task_there_is_one_column_and_the_key_is_below(kind):
    sample = full_sample()
    other = {'sem_seg': 'depth', 'depth': 'sem_seg'}[kind]
    delattr(sample, f'gt_{other}')
    delattr(sample, f'pred_{other}')
    picture = draw(sample)
    assert picture.shape[1] == FACTOR * WIDTH
    rows = find_tiles(picture)
    assert len(rows) == 3
    colour = {'sem_seg': META['palette'][1], 'depth': TURBO[130]}[kind]
    assert has_colour(rows[2][0], colour)
    key = picture[-FACTOR * HEIGHT // 4 :]
    assert (key == 255).all(-1).mean() > 0.3
    assert has_colour(key, {'sem_seg': IGNORED, 'depth': TURBO[240]}[kind])


def test_a_missing_map_leaves_a_white_tile():
    sample = full_sample()
    del sample.pred_sem_seg
    _, _, (labels, depth) = find_tiles(draw(sample))
    assert (labels == 255).all()
    assert depth.any(-1).all()


@pytest.mark.parametrize(
    ('sample', 'options'),
    [
        (None, {}),
        (DetDataSample(), {}),
        (full_sample(), dict(draw_gt=False, draw_pred=False)),
    ],
)
def test_without_maps_the_picture_is_the_image(sample, options):
    np.testing.assert_array_equal(draw(sample, **options), GREY)


def test_depth_without_any_measurement_is_black():
    sample = DetDataSample(gt_depth=PixelData(depth=torch.zeros(1, HEIGHT, WIDTH)))
    assert not find_tiles(draw(sample))[1][0].any()


def test_maps_of_another_size_type_or_in_numpy_give_the_same_picture():
    want = draw(full_sample())
    sample = full_sample()
    labels = sample.pred_sem_seg.sem_seg
    sample.pred_sem_seg = PixelData(sem_seg=labels[:, ::2, ::2].to(torch.uint8))
    sample.gt_sem_seg = PixelData(sem_seg=sample.gt_sem_seg.sem_seg.numpy())
    sample.gt_depth = PixelData(depth=sample.gt_depth.depth.double())
    np.testing.assert_array_equal(draw(sample), want)


@pytest.mark.parametrize('size', [(1024, 2048), (128, 256), (200, 90), (30, 1000)])
def test_tiles_are_wide_enough_and_large_images_keep_their_size(size):
    image = np.full((*size, 3), 100, np.uint8)
    sample = DetDataSample(
        pred_sem_seg=PixelData(sem_seg=torch.zeros(1, *size, dtype=torch.long)),
        pred_depth=PixelData(depth=torch.full((1, *size), 9.0)),
    )
    picture = draw(sample, image)
    width = picture.shape[1] // 2
    assert width % size[1] == 0
    assert 480 <= width < 480 + size[1] or width == size[1]
    for column in (slice(0, width), slice(width, None)):  # headers have text
        header = picture[: width // 24, column]
        assert (header < 60).all(-1).any()


def test_out_file_takes_the_place_of_the_backends(tmp_path):
    visualizer = DepthSegVisualizer(
        vis_backends=[dict(type='LocalVisBackend')], save_dir=str(tmp_path / 'backend')
    )
    visualizer.dataset_meta = META
    out = tmp_path / 'new' / 'out.png'
    visualizer.add_datasample('a', GREY, full_sample(), out_file=str(out))
    written = cv2.imread(str(out))[..., ::-1]
    np.testing.assert_array_equal(written, visualizer.get_image())
    assert not list(tmp_path.rglob('backend/**/*.png'))
    visualizer.add_datasample('b', GREY, full_sample(), step=7)
    (saved,) = tmp_path.rglob('backend/**/*.png')
    assert saved.name == 'b_7.png'
    np.testing.assert_array_equal(cv2.imread(str(saved))[..., ::-1], written)


def test_show_passes_the_picture_name_and_time(monkeypatch):
    calls = []
    monkeypatch.setattr(
        DepthSegVisualizer, 'show', lambda self, *a, **k: calls.append((a, k))
    )
    picture = draw(full_sample(), show=True, wait_time=1.5)
    ((drawn,), options) = calls[0]
    np.testing.assert_array_equal(drawn, picture)
    assert options == dict(win_name='test', wait_time=1.5)


@pytest.mark.parametrize('loop', ['test', 'val'])
def test_mmdets_hook_writes_the_pictures(tmp_path, monkeypatch, loop):
    config = dict(
        type='DepthSegVisualizer',
        name=f'hook_{loop}',
        vis_backends=[dict(type='LocalVisBackend')],
        save_dir=str(tmp_path / 'backend'),
    )
    visualizer = VISUALIZERS.build(config)
    visualizer.dataset_meta = META
    monkeypatch.setattr(Visualizer, 'get_current_instance', lambda: visualizer)
    cv2.imwrite(str(tmp_path / 'street.png'), GREY)
    sample = full_sample()
    sample.set_metainfo(dict(img_path=str(tmp_path / 'street.png')))
    runner = SimpleNamespace(work_dir=str(tmp_path), timestamp='now', iter=0)
    hook = DetVisualizationHook(draw=True, interval=1, test_out_dir='pictures')
    if loop == 'test':
        hook.after_test_iter(runner, 0, {}, [sample])
        written = tmp_path / 'now' / 'pictures' / 'street.png'
    else:
        hook.after_val_iter(runner, 0, {}, [sample])
        (written,) = tmp_path.rglob('backend/**/val_img_0.png')
    np.testing.assert_array_equal(
        cv2.imread(str(written))[..., ::-1], visualizer.get_image()
    )
    assert len(find_tiles(visualizer.get_image())) == 3
