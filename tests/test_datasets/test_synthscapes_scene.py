"""Test the content of scenes, and how the two domains differ."""

import itertools
from collections import Counter

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label, labels, name2label

from mmcast.datasets.synthscapes import Scene, render_scene
from mmcast.datasets.synthscapes.domains import TARGET, draw_look

THINGS = {each.name for each in labels if each.hasInstances and not each.ignoreInEval}
SIZE = (128, 256)
COUNT = 100


def _render(domain: str, index: int) -> Scene:
    return render_scene(domain, 0, 'train', index, SIZE)


@pytest.fixture(scope='module')
def scenes() -> dict[str, list[Scene]]:
    return {
        domain: [_render(domain, index) for index in range(COUNT)]
        for domain in ('source', 'target')
    }


def _instances(scene: Scene) -> dict[int, int]:
    """Return the area in pixels of each instance id."""
    ids, areas = np.unique(scene.instance_ids, return_counts=True)
    return {
        int(each): int(area)
        for each, area in zip(ids, areas, strict=True)
        if each >= 1000
    }


@pytest.mark.parametrize('domain', ['source', 'target'])
def test_every_class_has_enough_instances(scenes, domain):
    areas = [list(_instances(scene).items()) for scene in scenes[domain]]
    names = Counter(id2label[each // 1000].name for image in areas for each, _ in image)
    assert set(names) == THINGS
    assert min(names.values()) >= COUNT / 20
    assert 3 <= sum(names.values()) / COUNT <= 6
    flat = np.array([area for image in areas for _, area in image])
    assert (flat >= 60).mean() > 0.9
    assert (flat < 250).any()  # small and far objects, too


def test_background_classes_exist(scenes):
    found = {
        id2label[int(each)].name
        for scene in scenes['target']
        for each in np.unique(scene.label_ids)
    }
    assert found >= {'road', 'sidewalk', 'sky', 'building', 'vegetation'}


def test_nothing_is_left_unlabelled(scenes):
    # Sky is painted first and covers the image, so an id of 0 is a defect.
    for scene in scenes['source']:
        assert scene.instance_ids.min() > 0


@pytest.mark.parametrize('domain', ['source', 'target'])
def test_truncated_and_touching_instances_exist(scenes, domain):
    truncated = touching = 0
    for scene in scenes[domain]:
        ids = scene.instance_ids
        border = np.concatenate([ids[:, 0], ids[:, -1], ids[-1]])
        truncated += bool((border >= 1000).any())
        left, right = ids[:, :-1], ids[:, 1:]
        pairs = (left != right) & (left >= 1000) & (left // 1000 == right // 1000)
        touching += bool(pairs.any())
    assert truncated >= COUNT / 10
    assert touching >= COUNT / 10


def test_domains_differ(scenes):
    def mean(domain, statistic):
        return float(np.mean([statistic(scene) for scene in scenes[domain]]))

    def colourfulness(scene):
        return np.ptp(scene.image.astype(float), axis=-1).mean()

    light = {domain: mean(domain, lambda s: s.image.mean()) for domain in scenes}
    crowd = {domain: mean(domain, lambda s: len(_instances(s))) for domain in scenes}
    assert light['source'] > light['target'] + 30
    assert crowd['target'] > crowd['source'] + 0.5
    assert mean('source', colourfulness) != pytest.approx(
        mean('target', colourfulness), rel=0.1
    )


def test_depth_agrees_with_the_ground(scenes):
    """Check that the ground under a person's feet has the person's depth."""
    person, checked = name2label['person'].id * 1000, 0
    for scene in scenes['source']:
        camera = scene.camera
        outlines = [points for name, points in scene.objects if name == 'person']
        for number, outline in enumerate(outlines):
            distance = scene.depth[scene.instance_ids == person + number]
            assert np.ptp(distance) == 0
            foot = camera.v0 + camera.focal * camera.height / distance[0]
            lowest = max(v for _, v in outline)
            assert lowest == pytest.approx(min(foot, SIZE[0] - 1), abs=1.5)
            checked += 1
    assert checked > 50


def test_depth_of_ground_and_sky(scenes):
    for scene in scenes['target']:
        ground = np.isin(scene.label_ids, [7, 8])
        rows = np.arange(SIZE[0])[:, None]
        plane = scene.camera.focal * scene.camera.height
        expected = plane / np.maximum(rows - scene.camera.v0, plane / 95.0)
        np.testing.assert_allclose(
            scene.depth[ground],
            np.broadcast_to(expected, SIZE)[ground],
            rtol=1e-4,
        )
        assert np.isinf(scene.depth[scene.label_ids == 23]).all()
        assert np.isfinite(scene.depth[scene.label_ids != 23]).all()


def test_near_persons_hide_far_ones(scenes):
    first, checked = name2label['person'].id * 1000, 0
    for scene in (*scenes['source'], *scenes['target']):
        outlines = [points for name, points in scene.objects if name == 'person']
        shapes, distances = [], []
        for number, outline in enumerate(outlines):
            shape = np.zeros(SIZE, np.uint8)
            cv2.fillPoly(shape, [np.round(outline).astype(np.int32)], 1)
            seen = scene.depth[scene.instance_ids == first + number]
            shapes.append(cv2.erode(shape, np.ones((3, 3))) > 0)
            distances.append(seen[0] if len(seen) else np.inf)
        for a, b in itertools.combinations(range(len(outlines)), 2):
            shared = scene.instance_ids[shapes[a] & shapes[b]]
            if distances[a] < distances[b]:
                assert not (shared == first + b).any()
            else:
                assert not (shared == first + a).any()
            checked += np.isin(shared, [first + a, first + b]).any()
    assert checked > 5


def test_a_scene_depends_only_on_its_arguments():
    first = _render('target', 3)
    np.random.seed(1)
    again = _render('target', 3)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.instance_ids, again.instance_ids)
    others = [
        render_scene('source', 0, 'train', 3, SIZE),
        render_scene('target', 1, 'train', 3, SIZE),
        render_scene('target', 0, 'val', 3, SIZE),
        render_scene('target', 0, 'train', 4, SIZE),
    ]
    for other in others:
        assert (first.image != other.image).mean() > 0.5


@pytest.mark.parametrize('size', [(32, 32), (97, 131), (300, 100), (64, 400)])
def test_scenes_of_any_size(size):
    for index in range(4):
        scene = render_scene('target', 0, 'val', index, size)
        assert scene.image.shape == (*size, 3)
        assert scene.image.dtype == np.uint8
        assert scene.instance_ids.shape == scene.depth.shape == size
        assert scene.instance_ids.dtype == np.int32
        assert scene.depth.dtype == np.float32


def test_unknown_domain_raises():
    with pytest.raises(ValueError, match=r"no domain 'moon': choose one of \["):
        _render('moon', 0)


def _number(value) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, value)


def test_world_never_looks_like_the_target():
    """No number lies where the target's lie, and no colour near the target's."""
    numbers = (
        *('crowd', 'distance', 'along', 'lit_windows', 'gain', 'gradient', 'contrast'),
        *('haze', 'texture', 'blur', 'noise'),
    )
    colours = ('road', 'sidewalk', 'marking', 'haze_colour')
    looks = [draw_look(np.random.default_rng(seed)) for seed in range(300)]
    for look in looks:
        for name in numbers:
            low, high = _number(getattr(TARGET, name))
            value = _number(getattr(look, name))[0]
            assert value < low or value > high, name
        assert look.rain == 0 < TARGET.rain
        for name in colours:
            gap = np.subtract(getattr(look, name), getattr(TARGET, name))
            assert np.linalg.norm(gap) >= 40
        for name in ('sky', 'buildings', 'vegetation'):
            held = getattr(TARGET, name)
            for i, colour in enumerate(getattr(look, name)):
                others = [held[i]] if name == 'sky' else held
                assert min(np.linalg.norm(np.subtract(colour, o)) for o in others) >= 40
    for name in numbers:  # they vary, on both sides of the target's where there is room
        values = [_number(getattr(look, name))[0] for look in looks]
        assert len(set(values)) == len(looks)


def test_world_draws_a_look_for_each_image():
    scenes = [_render('world', index) for index in range(20)]
    again = _render('world', 3)
    assert (again.image == scenes[3].image).all()
    roads = [
        tuple(np.median(scene.image[scene.label_ids == 7], axis=0).tolist())
        for scene in scenes
    ]
    assert len(set(roads)) > 15
    assert np.ptp(roads, axis=0).min() > 60  # the target's roads differ by noise alone
