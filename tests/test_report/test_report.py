"""Test the report's numbers, and the page in a real browser."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from pycocotools import mask as mask_utils
from report_files import ANNOTATIONS

from mmcast.datasets.pseudo_label_store import PseudoLabelStore
from mmcast.report import coco, labels
from mmcast.report.data import Labels
from mmcast.report.pictures import Images, Instance


def test_page_has_every_part_once(page):
    text = page.read_text()
    assert re.findall(r'<section id="(\w+)"', text) == [
        'models',
        'training',
        'labels',
        'classes',
        'disagreement',
        'images',
    ]
    # The table has the tests' numbers, not those of the last validation.
    assert '>12.3<' in text
    assert '>22.3<' in text
    assert '>10.0<' not in text
    assert text.count('contrast: margin') == 2  # title and label of one chart
    names = re.findall(r' id="([^"]+)"', text)
    for name in re.findall(r'href="#([^"]+)"', text):
        assert name in names
    # Names in the code of charts would be colours that the page does not know.
    assert '#010' not in text


def test_page_refers_to_nothing_outside(page):
    text = page.read_text()
    links = re.findall(r'(?:src|href)="([^"]{1,40})', text)
    assert links
    assert all(link.startswith(('#', 'data:')) for link in links)
    assert 'url(http' not in text
    assert '@import' not in text


def test_quality_is_that_of_cocometric(work, synthscapes):
    path = work / 'adapt_x/test/predictions.segm.json'
    file = synthscapes / ANNOTATIONS.format('val')
    truth = coco.read_coco(file, synthscapes)
    found = coco.read_predictions(path, truth)
    categories = coco.category_ids(truth, None)
    quality = coco.measure(truth, found, categories)

    metric = CocoMetric(ann_file=str(file), metric='segm', classwise=True)
    names = [each['name'] for each in truth.loadCats(categories)]
    metric.dataset_meta = dict(classes=names)
    results = []
    for name, image in truth.image_ids.items():
        own = [each for each in found if each['image_id'] == image]
        predicted = dict(
            img_id=name,
            bboxes=np.zeros((len(own), 4)),
            scores=np.array([each['score'] for each in own]),
            labels=np.array([categories.index(each['category_id']) for each in own]),
            masks=[each['segmentation'] for each in own],
        )
        results.append((dict(img_id=name), predicted))
    expected = metric.compute_metrics(results)
    for name, ap in quality.by_class.items():
        assert ap / 100 == pytest.approx(expected[f'{name}_precision'], abs=6e-4)
    for name, ap in quality.by_size.items():
        assert ap / 100 == pytest.approx(expected[f'segm_mAP_{name[0]}'], abs=6e-4)
    mean = np.mean([*quality.by_class.values()])
    assert mean / 100 == pytest.approx(expected['segm_mAP'], abs=6e-4)


def square(left: int, score: float | None = None, category: int = 1) -> dict:
    mask = np.zeros((20, 60), np.uint8, order='F')
    mask[:10, left : left + 10] = 1
    each = dict(image_id=1, category_id=category, segmentation=mask_utils.encode(mask))
    if score is not None:
        return dict(each, score=score)
    return dict(each, iscrowd=0, area=100, bbox=[left, 0, 10, 10])


def test_matches_on_squares():
    truth = coco.COCO()
    truth.dataset = dict(
        images=[dict(id=1, height=20, width=60), dict(id=2, height=20, width=60)],
        categories=[dict(id=1, name='a'), dict(id=2, name='b')],
        annotations=[dict(square(0), id=1), dict(square(20), id=2)],
    )
    truth.createIndex()
    found = [
        square(1, 0.9),  # right
        square(0, 0.8),  # finds the same object again
        square(20, 0.7, category=2),  # the wrong class
        square(22, 0.6),  # right, with an IoU of 2/3
        square(26, 0.5),  # an IoU of 1/4
    ]
    matches = coco.match(truth, found, [1, 2])
    assert matches.hits.tolist() == [True, False, False, True, False]
    assert matches.objects == {1: 2, 2: 0}
    made, precision, recall = matches.curve(np.array([0, 0.65, 0.85, 0.95]))
    assert made == [5, 3, 1, 0]
    assert precision[:3].tolist() == pytest.approx([2 / 5, 1 / 3, 1])
    assert np.isnan(precision[3])
    assert recall.tolist() == pytest.approx([1, 0.5, 0.5, 0])
    # F1: 2/3 with the first, 2/3 with four of them; the first of equals.
    assert matches.best_threshold() == pytest.approx(0.9)
    assert matches.by_image(0.6) == {1: (2, 2, 2), 2: (0, 0, 0)}

    # One model's instances as the other's truth, above a threshold.
    seen = coco.as_truth(truth, found, 0.85)
    agreed = coco.match(seen, [square(0, 0.3), square(40, 0.2)], [1, 2])
    assert agreed.by_image(0) == {1: (1, 1, 1), 2: (0, 0, 0)}
    assert coco.match(seen, [], [1, 2]).by_image(0) == {
        1: (1, 0, 0),
        2: (0, 0, 0),
    }


def test_slider_numbers_are_those_of_the_store(page, work, synthscapes):
    numbers = json.loads(
        re.search(r'<script type="application/json">(.*?)</script>', page.read_text())[
            1
        ]
    )
    store = PseudoLabelStore.open(work / 'adapt_x/pseudo_labels')
    scores = np.concatenate([entry.scores for _, entry in store.entries()])
    for place in (0, 5, 40, 60, 99, 100):
        assert numbers['instances'][place] == (scores >= place / 100).sum()
    assert len(numbers['precision']) == len(numbers['recall']) == 101
    assert all(0 <= share <= 1 for share in numbers['recall'])
    assert numbers['recall'] == sorted(numbers['recall'], reverse=True)
    text = page.read_text()
    drawn = re.findall(
        r'data-s="([\d.]+)"', text.split('id="labels"')[1].split('<sect')[0]
    )
    assert len(drawn) == len(scores)


def test_labels_of_a_wrapped_data_set_are_found(work):
    store = PseudoLabelStore.open(work / 'adapt_x/pseudo_labels')
    (file,) = work.glob('distill_x/20*/vis_data/config.py')
    config = Config.fromfile(file)
    before = labels.show(Labels('x', store, config), Images())
    train = config.train_dataloader.dataset
    mixed = dict(type='ConcatDataset', datasets=[train.labeled_dataset])
    mixed = dict(type='MultiImageMixDataset', dataset=mixed)
    train.labeled_dataset = dict(type='RepeatDataset', times=2, dataset=mixed)
    after = labels.show(Labels('x', store, config), Images())
    assert after['known'] == before['known'] > 0
    assert after['charts'][-1]['keys'] == before['charts'][-1]['keys']
    assert 'labels' in after['charts'][-1]['keys']


def test_labels_of_annotated_images_stand_beside_their_truth(
    work, synthscapes, tmp_path, monkeypatch
):
    """Most images have no annotation; the teacher finds all in those that have."""
    file = synthscapes / ANNOTATIONS.format('train')
    truth = json.loads(file.read_text())
    store = PseudoLabelStore.open(work / 'adapt_x/pseudo_labels')
    names = [name for name, _ in store.entries()]
    ids = {each['file_name']: each['id'] for each in truth['images']}
    kept = [ids[name] for name in names[:2]]
    truth['annotations'] = [
        each for each in truth['annotations'] if each['image_id'] in kept
    ]
    (tmp_path / 'train.json').write_text(json.dumps(truth))
    (config,) = work.glob('distill_x/20*/vis_data/config.py')
    cfg = Config.fromfile(config)
    cfg.train_dataloader.dataset.labeled_dataset.ann_file = str(tmp_path / 'train.json')
    monkeypatch.setattr(labels.charts, 'paired_bars', lambda *args: args)
    shown = labels.show(Labels('x', store, cfg), Images())
    assert shown['known'] == 2 < len(names)
    _, _, values, _ = shown['charts'][-1]['svg']
    assert shown['charts'][-1]['keys'][-2:] == [
        'pseudo-labels of annotated images',
        'truth of the same images',
    ]
    expected = sum((store.read(name).scores >= 0.6).sum() for name in names[:2])
    assert values[-2].sum() == expected / 2
    assert values[-1].sum() == len(truth['annotations']) / 2


@pytest.mark.parametrize(
    ('size', 'shown'),
    [((9, 20000), (7, 16383)), ((20000, 9), (480, 1)), ((960, 300), (480, 150))],
)
def test_images_of_any_shape_are_drawn(tmp_path, size, shown):
    """WebP allows 16,383 pixels a side."""
    width, height = size
    assert cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((height, width, 3), np.uint8))
    mask = mask_utils.encode(np.ones((height, width), np.uint8, order='F'))
    svg = Images().draw(tmp_path / 'a.png', [Instance(0, 'cat', None, mask)], 'x')
    assert f'viewBox="0 0 {shown[0]} {shown[1]}"' in svg
    path = re.search(r' d="(.*?)"', svg)[1]
    places = np.array([float(v) for v in re.findall(r'[\d.e+]+', path)]).reshape(-1, 2)
    assert np.all(places <= shown)
    assert np.all(np.ptp(places, 0) >= np.array(shown) - 2 * np.array(shown) / size - 1)


@pytest.fixture(scope='module')
def browser():
    """Start the system's chromium."""
    playwright = pytest.importorskip('playwright.sync_api', reason='no playwright')
    program = shutil.which('chromium') or shutil.which('google-chrome')
    if program is None:
        pytest.skip('no browser: apt-get install chromium')
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=['--no-sandbox'])
        yield started
        started.close()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1280])
def test_page_in_a_browser(browser, page, work, tmp_path, width, scheme):
    context = browser.new_context(
        viewport=dict(width=width, height=844), color_scheme=scheme
    )
    tab = context.new_page()
    said, asked = [], []
    tab.on('console', lambda message: said.append(message.text))
    tab.on('pageerror', lambda error: said.append(str(error)))
    tab.on('request', lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    # Nothing is wider than the screen.
    assert tab.evaluate('document.documentElement.scrollWidth') == width

    store = PseudoLabelStore.open(work / 'adapt_x/pseudo_labels')
    scores = np.concatenate([entry.scores for _, entry in store.entries()])
    slider = tab.locator('.slider input')
    assert slider.input_value() == '0.6'
    shapes = '[...document.querySelectorAll("#labels .scene path")]'
    visible = f'{shapes}.filter(shape => shape.getBoundingClientRect().width).length'
    for least in (0.6, 0.05, 0.85):
        slider.fill(str(least))
        assert tab.evaluate(visible) == (scores >= least).sum()
        assert tab.inner_text('.slider .visible') == str((scores >= least).sum())
        assert 'precision' in tab.inner_text('.slider .right')
    slider.press('ArrowLeft')
    assert tab.inner_text('.slider .least') == '0.84'
    tab.locator('#masks').uncheck()
    assert tab.evaluate(visible) == 0
    tab.locator('#masks').check()

    picture = tmp_path / 'page.png'
    tab.screenshot(path=picture)
    context.close()
    pixels = cv2.imread(str(picture))
    assert pixels.shape[1] == width
    assert (pixels[-1, 0].mean() > 128) == (scheme == 'light')
    assert said == []
    assert [url for url in asked if not url.startswith('data:')] == [page.as_uri()]
