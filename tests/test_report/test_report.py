"""Test the report's numbers, what it leaves out, and the page in a real browser."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from pycocotools import mask as mask_utils

from mmcast.apis import report
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.errors import one_line
from mmcast.report import coco, labels
from mmcast.report.data import Labels, find
from mmcast.report.pictures import Images, Instance

ANNOTATIONS = 'annotations/instancesonly_filtered_gtFine_{}.json'
STAGES = {'adapt_x': 'teacher', 'distill_x': 'student'}


def results_like(truth: dict, seed: int, share: float = 0.8) -> list[dict]:
    """Make results from annotations: some missing, moved, or of another class."""
    random = np.random.default_rng(seed)
    sizes = {each['id']: (each['height'], each['width']) for each in truth['images']}
    categories = [each['id'] for each in truth['categories']]
    found = []
    for each in truth['annotations']:
        if random.random() > share:
            continue
        size = sizes[each['image_id']]
        mask = mask_of(each['segmentation'], size)
        mask = np.roll(mask, random.integers(0, 5, 2), (0, 1))
        category = each['category_id']
        if random.random() < 0.2:
            category = int(random.choice(categories))
        rle = mask_utils.encode(np.asfortranarray(mask))
        rle['counts'] = rle['counts'].decode()
        box = [float(v) for v in mask_utils.toBbox(rle)]
        found.append(
            dict(
                image_id=each['image_id'],
                category_id=category,
                score=round(float(random.random()), 4),
                bbox=box,
                segmentation=rle,
            )
        )
    return found


def mask_of(segmentation, size):
    if isinstance(segmentation, list):
        parts = mask_utils.frPyObjects(segmentation, *size)
        segmentation = mask_utils.merge(parts)
    elif isinstance(segmentation['counts'], list):
        segmentation = mask_utils.frPyObjects(segmentation, *size)
    return mask_utils.decode(segmentation)


def config_text(root: Path, stage: str) -> str:
    """Write what of a stage's config the report reads."""
    test = dict(
        data_root=str(root), data_prefix=dict(img='leftImg8bit/val'), metainfo={}
    )
    train = dict(
        labeled_dataset=dict(
            data_root=str(root),
            ann_file=ANNOTATIONS.format('train'),
            image_list='splits/labeled.txt',
            data_prefix=dict(img='leftImg8bit/train'),
        ),
        unlabeled_dataset=dict(
            data_root=str(root), data_prefix=dict(img='leftImg8bit/train')
        ),
        pseudo_labels=dict(score_thr=0.6),
    )
    hooks = {}
    if stage.startswith('distill'):
        hooks = dict(pseudo_labels=dict(teacher='work_dirs/adapt_x/teacher.pth'))
    values = dict(
        default_hooks=hooks,
        load_from=f'work_dirs/{stage}/{STAGES[stage]}.pth',
        test_dataloader=dict(dataset=test),
        test_evaluator=dict(
            type='CocoMetric', ann_file=str(root / ANNOTATIONS.format('val'))
        ),
        train_dataloader=dict(dataset=train),
    )
    return '\n'.join(f'{name} = {value!r}' for name, value in values.items())


@pytest.fixture(scope='module')
def work(synthscapes, tmp_path_factory):
    """Write the files of two stages, their tests, and a store of pseudo-labels."""
    folder = tmp_path_factory.mktemp('report') / 'work_dirs'
    truth = json.loads((synthscapes / ANNOTATIONS.format('val')).read_text())
    for seed, stage in enumerate(STAGES):
        config = config_text(synthscapes, stage)
        logs = folder / stage / '20260101_000000/vis_data'
        logs.mkdir(parents=True)
        (logs / 'config.py').write_text(config)
        lines = [
            dict(loss=9 / step, iter=step, step=step) for step in range(10, 60, 10)
        ]
        lines.append({'coco/segm_mAP': 0.1, 'step': 50})
        if stage == 'distill_x':
            for each in lines[:5]:
                each |= {'contrast/margin': 0.3, 'contrast/fnr_gt': 0.1, 'loss_pxl': 1}
        text = '\n'.join(json.dumps(line) for line in lines) + '\n{"loss": 1, "st'
        (logs / 'scalars.json').write_text(text)
        test = folder / stage / 'test'
        (test / '20260101_000100/vis_data').mkdir(parents=True)
        (test / '20260101_000100/vis_data/config.py').write_text(config)
        metrics = {'coco/segm_mAP': 0.123 + seed / 10, 'coco/segm_mAP_50': 0.4}
        (test / '20260101_000100/20260101_000100.json').write_text(json.dumps(metrics))
        (test / 'predictions.segm.json').write_text(
            json.dumps(results_like(truth, seed))
        )
    make_store(synthscapes, folder / 'adapt_x/pseudo_labels')
    return folder


def make_store(root: Path, out: Path) -> None:
    truth = json.loads((root / ANNOTATIONS.format('train')).read_text())
    classes = [each['name'] for each in truth['categories']]
    labels = {each['id']: i for i, each in enumerate(truth['categories'])}
    store = PseudoLabelStore.create(
        out, classes=classes, teacher=Teacher('adapt_x.py', 'teacher.pth', '0' * 64)
    )
    names = (root / 'splits/unlabeled.txt').read_text().split()
    found = results_like(truth, 2)
    for image in truth['images']:
        if image['file_name'] not in names:
            continue
        own = [each for each in found if each['image_id'] == image['id']]
        store.write(
            image['file_name'],
            (image['height'], image['width']),
            [labels[each['category_id']] for each in own],
            [max(each['score'], 0.05) for each in own],
            [[*each['bbox'][:2], each['bbox'][0], each['bbox'][1]] for each in own],
            [each['segmentation'] for each in own],
        )


@pytest.fixture(scope='module')
def page(work):
    out = work.parent / 'report.html'
    report(work, out)
    return out


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


def test_parts_without_files_are_left_out(work, tmp_path):
    copy = tmp_path / 'work_dirs'
    shutil.copytree(work, copy)
    for folder in copy.rglob('pseudo_labels'):
        shutil.rmtree(folder)
    for path in copy.rglob('predictions.segm.json'):
        path.unlink()
    report(copy, tmp_path / 'report.html')
    text = (tmp_path / 'report.html').read_text()
    assert re.findall(r'<section id="(\w+)"', text) == ['models', 'training']
    # Only a log of validations: its last one is the row.
    shutil.rmtree(copy / 'adapt_x')
    shutil.rmtree(copy / 'distill_x/test')
    report(copy / 'distill_x', tmp_path / 'report.html')
    assert '>10.0<' in (tmp_path / 'report.html').read_text()
    (found,) = find([copy]).models
    assert found.title == 'distill x'


def write_log(folder: Path, start: str, records: list[dict], config: str = '') -> None:
    logs = folder / start / 'vis_data'
    logs.mkdir(parents=True)
    (logs / 'config.py').write_text(config)
    lines = ''.join(json.dumps(record) + '\n' for record in records)
    (logs / 'scalars.json').write_text(lines)


@pytest.mark.parametrize(
    ('config', 'losses', 'aps'),
    [
        ('resume = True', [10, 20, 30, 40], {20: 0.2, 40: 0.3}),
        ('resume = False', [30, 40], {40: 0.3}),
    ],
)
def test_only_a_resumed_run_extends_an_older_one(tmp_path, config, losses, aps):
    older = [dict(loss=1.0, step=step) for step in range(10, 110, 10)]
    older += [{'coco/segm_mAP': 0.1, 'step': 100}]
    older.insert(2, {'coco/segm_mAP': 0.2, 'step': 20})
    write_log(tmp_path, '20260101_000000', older)
    newer = [dict(loss=1.0, step=step) for step in (30, 40)]
    newer += [{'coco/segm_mAP': 0.3, 'step': 40}]
    write_log(tmp_path, '20260102_000000', newer, config)
    # One that ended before its first iteration changes nothing.
    write_log(tmp_path, '20260103_000000', [], 'resume = False')
    found = find([tmp_path])
    (stage,) = found.stages
    assert [*stage.scalars['loss']] == losses
    assert stage.scalars['coco/segm_mAP'] == aps
    assert found.models[0].numbers['mask_ap'] == 30.0


def test_a_validation_of_an_epoch_is_at_its_iteration(tmp_path):
    """MMEngine's logger gives it the number of the epoch."""
    records = [
        dict(loss=1.0, epoch=1, step=50),
        {'coco/segm_mAP': 0.1, 'step': 1},
        dict(loss=1.0, epoch=2, step=100),
        {'coco/segm_mAP': 0.2, 'step': 2},
    ]
    write_log(tmp_path, '20260101_000000', records)
    (stage,) = find([tmp_path]).stages
    assert stage.scalars['coco/segm_mAP'] == {50: 0.1, 100: 0.2}


def test_stages_are_in_the_order_of_their_times(work, tmp_path):
    later = shutil.copytree(work, tmp_path / 'work_dirs')
    run = later / 'adapt_x/20260101_000000'
    run.rename(run.with_name('20260102_000000'))
    names = [stage.name for stage in find([later]).stages]
    assert names == ['distill_x', 'adapt_x']
    assert [stage.name for stage in find([work]).stages] == ['adapt_x', 'distill_x']


def test_predictions_of_a_training_serve_without_a_test(work, tmp_path):
    """They are its last validation's; a test adds numbers, in whatever folder."""
    alone = shutil.copytree(work, tmp_path / 'work_dirs')
    (alone / 'adapt_x/teacher.pth').touch()
    for stage in STAGES:
        kept = alone / stage / 'test/predictions.segm.json'
        kept.rename(alone / stage / 'validation.segm.json')
        shutil.move(alone / stage / 'test', tmp_path / stage)
    models = {model.name: model for model in find([alone]).models}
    assert sorted(models) == list(STAGES)
    for stage, model in models.items():
        assert model.predictions == alone / stage / 'validation.segm.json'
        assert model.numbers['mask_ap'] == 10.0
    # `mim test` with another stage's config, without --work-dir
    config = Path('distill_x/20260101_000000/vis_data/config.py')
    run = alone / 'adapt_x/20260101_000100'
    shutil.move(tmp_path / 'distill_x/20260101_000100', run)
    left = f'load_from = {str(alone / "distill_x/student.pth")!r}'
    text = (alone / config).read_text()
    text = re.sub('^load_from = .*$', left, text, flags=re.M)
    (run / 'vis_data/config.py').write_text(text)
    models = {model.name: model for model in find([alone]).models}
    assert sorted(models) == list(STAGES)
    assert models['adapt_x'].numbers['mask_ap'] == 10.0
    assert models['distill_x'].numbers['mask_ap'] == pytest.approx(22.3)
    assert models['distill_x'].predictions == alone / 'distill_x/validation.segm.json'
    report(alone, tmp_path / 'report.html')
    assert 'id="disagreement"' in (tmp_path / 'report.html').read_text()


def test_missing_images_and_annotations(work, tmp_path):
    copy = tmp_path / 'work_dirs'
    shutil.copytree(work, copy)
    for path in copy.rglob('config.py'):
        text = re.sub(r"'[^']*target'", "'/nowhere'", path.read_text())
        path.write_text(re.sub(r"'[^']*val.json'", "'/nowhere.json'", text))
    report(copy, tmp_path / 'report.html')
    text = (tmp_path / 'report.html').read_text()
    found = re.findall(r'<section id="(\w+)"', text)
    assert found == ['models', 'training', 'labels']
    assert '<image' not in text
    assert 'Right labels' not in text
    assert '"recall":null' in text


def test_errors_are_one_line(work, tmp_path, monkeypatch):
    (tmp_path / 'empty').mkdir()
    copy = tmp_path / 'work_dirs'
    shutil.copytree(work, copy)
    damaged = copy / 'adapt_x/test/predictions.segm.json'
    damaged.write_text(damaged.read_text()[:100])
    expected = {
        'empty': 'empty: no logs, results, predictions or pseudo-labels here',
        'missing': 'missing is no folder',
        'work_dirs': 'is no COCO result: run `mim test` again',
    }
    for word, message in expected.items():
        with pytest.raises((FileNotFoundError, ValueError)) as caught:
            report([tmp_path / word])
        assert message in one_line(caught.value)
    with pytest.raises(ValueError, match='no work folder') as caught:
        report([])
    assert one_line(caught.value)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        'find_spec',
        lambda name: None if name == 'jinja2' else found(name),
    )
    with pytest.raises(ImportError) as caught:
        report(work)
    assert one_line(caught.value) == 'the report needs jinja2: pip install jinja2'
    assert not list(tmp_path.rglob('report.html'))


def test_a_place_that_cannot_be_written_is_told_first(work, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setattr('mmcast.report.page.judge', None)
    for out, message in ('', 'is a folder'), ('file/a.html', 'cannot write in'):
        with pytest.raises(OSError, match=message) as caught:
            report(work, tmp_path / out)
        assert one_line(caught.value)


def test_ids_can_be_text_or_start_anywhere(work, page, synthscapes, tmp_path):
    """The page is the same, and an object without a readable mask changes nothing."""
    before = page.read_text()
    ids = {
        'text': (lambda i: f'image {i}', lambda i: f'class {i}', lambda i: f'{i:x}-a'),
        'moved': (lambda i: i + 2**40, lambda i: i + 7, lambda i: i - 3),
        'mixed': (lambda i: str(i) if i % 2 else i, lambda i: i, lambda i: None),
    }
    for kind, (of_image, of_category, of_object) in ids.items():
        data = shutil.copytree(synthscapes, tmp_path / kind / 'data')
        for split in ('train', 'val'):
            file = data / ANNOTATIONS.format(split)
            content = json.loads(file.read_text())
            for each in content['images']:
                each['id'] = of_image(each['id'])
            for each in content['categories']:
                each['id'] = of_category(each['id'])
            for each in content['annotations']:
                each['id'] = of_object(each['id'])
            renumber(content['annotations'], of_image, of_category)
            line = dict(segmentation=[[1, 1, 9, 9]], bbox=None, area=None)
            content['annotations'].append(content['annotations'][0] | line)
            file.write_text(json.dumps(content))
        copy = shutil.copytree(work, tmp_path / kind / 'work_dirs')
        for file in copy.rglob('predictions.segm.json'):
            found = json.loads(file.read_text())
            renumber(found, of_image, of_category)
            file.write_text(json.dumps(found))
        for file in copy.rglob('config.py'):
            file.write_text(file.read_text().replace(str(synthscapes), str(data)))
        again = report(copy, tmp_path / kind / 'report.html').read_text()
        assert 'id="disagreement"' in again
        # The head has the time.
        assert again[again.index('<section') :] == before[before.index('<section') :]


def test_names_can_have_folders_in_front(work, page, synthscapes, tmp_path):
    """The page is the same, since training removes them, too."""
    data = shutil.copytree(synthscapes, tmp_path / 'data')
    for split in ('train', 'val'):
        file = data / ANNOTATIONS.format(split)
        content = json.loads(file.read_text())
        for each in content['images']:
            each['file_name'] = f'/far/images/{each["file_name"]}'
        file.write_text(json.dumps(content))
    copy = shutil.copytree(work, tmp_path / 'work_dirs')
    for file in copy.rglob('config.py'):
        file.write_text(file.read_text().replace(str(synthscapes), str(data)))
    again = report(copy, tmp_path / 'report.html').read_text()
    before = page.read_text()
    assert again[again.index('<section') :] == before[before.index('<section') :]


def renumber(found, of_image, of_category):
    for each in found:
        each['image_id'] = of_image(each['image_id'])
        each['category_id'] = of_category(each['category_id'])


def test_predictions_of_other_annotations_are_refused(work, synthscapes, tmp_path):
    path = work / 'adapt_x/test/predictions.segm.json'
    truth = coco.read_coco(synthscapes / ANNOTATIONS.format('val'), synthscapes)
    found = json.loads(path.read_text())
    other = tmp_path / 'predictions.segm.json'
    for name in 'image_id', 'category_id':
        other.write_text(json.dumps([*found, found[0] | {name: 999}]))
        with pytest.raises(ValueError, match=r'999.*: run `mim test` again'):
            coco.read_predictions(other, truth)
    other.write_text('{"images": []}')
    with pytest.raises(ValueError, match='is not a COCO file'):
        coco.read_coco(other, tmp_path)


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
