"""Test which files a report is made of, what it leaves out, and its errors."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from report_files import (
    ANNOTATIONS,
    STAGES,
    write_log,
)

from mmcast.apis import report
from mmcast.errors import one_line
from mmcast.report import charts, coco
from mmcast.report.data import find


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


def test_nothing_to_evaluate_is_no_number(work, tmp_path):
    """CocoMetric has -1 then."""
    write_log(
        tmp_path / 'distill_x',
        '20260101_000000',
        [
            dict(loss=1.0, step=1),
            {'coco/segm_mAP': -1.0, 'coco/segm_mAP_50': 0.5, 'step': 2},
        ],
    )
    found = find([tmp_path])
    assert 'coco/segm_mAP' not in found.stages[0].scalars
    (model,) = found.models
    assert model.numbers == {'mask_ap50': 50}


def test_charts_keep_text_as_it_is():
    names = ['0.375in', r'$\foo$', 'a $b$']
    svg = charts.paired_bars('x', names, [np.array([1.0, 2, 3])], 'n')
    for name in names:
        assert name in svg
    points = {x: 0.0008 * x for x in range(1, 6)}
    svg = charts.curves('loss', [('-', points, 0)])
    ticks = re.findall(r'>([\d.]+)<', svg)
    assert len({*ticks}) == len(ticks) > 4
    assert not re.search(r'[ ,"]\d+\.\d{3,}[ ,"]', svg)


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
