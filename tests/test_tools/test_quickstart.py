"""Run the quickstart with a few images and iterations."""

import json
import re
from pathlib import Path

import cv2

from mmcast._requirements import mim_name

SCRIPT = Path(__file__).resolve().parents[2] / 'tools/benchmarks/quickstart.py'
TINY = ['--labeled', '30', '--unlabeled', '6', '--val', '6', '--scale', '0.001']
SECTION = re.compile(r'<section id="(\w+)"')
NAMES = [
    'zero_shot_teacher',
    'adapted_teacher',
    'supervised_student',
    'distilled_student',
    'refined_student',
]


def test_quickstart_runs_and_continues(tmp_path, warm):
    def run(*words):
        return warm(*words, cwd=tmp_path, check=True, OMP_NUM_THREADS='1')

    command = [SCRIPT, *TINY]
    run(*command)
    out = tmp_path / 'work_dirs/quickstart'
    report = json.loads((out / 'results.json').read_text())
    assert set(report) == {'seed', 'versions', 'dataset', 'models'}
    assert report['dataset'] == {'labelled': 30, 'unlabelled': 6, 'val': 6}
    assert [model['name'] for model in report['models']] == NAMES
    sizes = {model['name']: model['params_m'] for model in report['models']}
    for model in report['models']:
        assert set(model) == {
            'name',
            'params_m',
            'mask_ap',
            'mask_ap50',
            'minutes',
            'config',
            'checkpoint',
        }
        assert 0 <= model['mask_ap'] <= model['mask_ap50'] <= 100
        assert (SCRIPT.parents[2] / model['config']).is_file()
    assert 8 * sizes['refined_student'] <= sizes['adapted_teacher']
    picture = cv2.imread(str(out / 'predictions.png'))
    assert picture.shape[1] == (1 + len(NAMES)) * 2 * 256
    page = (out / 'report.html').read_text()
    # There is a section on disagreement if these short trainings see anything.
    sections = [name for name in SECTION.findall(page) if name != 'disagreement']
    assert sections == [
        *('models', 'training', 'labels', 'classes', 'images', 'picture'),
    ]
    assert page.count('<h3><i class="chip"') == 4  # stages with curves
    # Title and label of a chart. Two stages have a contrast, all validate.
    assert page.count('contrast: margin') == 2 * 2
    assert page.count('<figcaption>mask AP</figcaption>') == 4

    # A second call computes only what is missing.
    student = tmp_path / 'work_dirs/distill_synthscapes/student.pth'
    written = student.stat().st_mtime_ns
    (out / 'done/refined_student.json').unlink()
    again = run(*command)
    assert again.stdout.count('mim test') == 1
    assert 'mim train' not in again.stdout
    assert student.stat().st_mtime_ns == written

    # Run the other method on the same data.
    run(*command, '--method', 'guided')
    out = tmp_path / 'work_dirs/quickstart_guided'
    report = json.loads((out / 'results.json').read_text())
    names = [model['name'] for model in report['models']]
    assert names == ['supervised_student', 'guided_student']
    assert (out / 'predictions.png').is_file()
    page = (out / 'report.html').read_text()
    sections = [name for name in SECTION.findall(page) if name != 'disagreement']
    assert sections == ['models', 'training', 'classes', 'images', 'picture']
    assert 'teacher (dashed)' in page

    # Depth and labels, on the same data.
    run(*command, '--method', 'swinmtl')
    out = tmp_path / 'work_dirs/quickstart_swinmtl'
    report = json.loads((out / 'results.json').read_text())
    models = {model['name']: model for model in report['models']}
    assert list(models) == ['depth_only', 'segmentation_only', 'multi_task']
    depth, labels = {'abs_rel', 'rmse', 'd1'}, {'miou'}
    common = {'name', 'params_m', 'ms', 'minutes', 'config', 'checkpoint'}
    assert set(models['depth_only']) == common | depth
    assert set(models['segmentation_only']) == common | labels
    assert set(models['multi_task']) == common | depth | labels
    assert cv2.imread(str(out / 'predictions.png')).shape[1] == 5 * 2 * 256
    page = (out / 'report.html').read_text()
    assert SECTION.findall(page) == ['models', 'training', 'picture']
    assert page.count('<figcaption>mIoU</figcaption>') == 2
    assert page.count('<figcaption>RMSE of depth (m)</figcaption>') == 2

    # SwinMTL's ablation, one variant that needs another one's model.
    ablate = ['--seeds', '0', '--iterations', '2', '--jobs', '2']
    ablate += ['--variants', 'true_protocol', '--out', 'ablation']
    run(SCRIPT.with_name('swinmtl.py'), *ablate)
    found = json.loads((tmp_path / 'ablation/swinmtl.json').read_text())['runs']
    assert set(found['research_code']['0']) == {
        'depth/abs_rel',
        'depth/rmse',
        'depth/d1',
        'per_image/mIoU',
    }
    assert set(found['true_protocol']['0']) == {
        'depth/abs_rel',
        'depth/rmse',
        'depth/d1',
        'mIoU',
    }


def test_a_failure_is_shown_at_once(tmp_path, warm):
    # A file takes the place of the first test's folder.
    out = tmp_path / 'work_dirs/quickstart'
    out.mkdir(parents=True)
    (out / 'test_zero_shot_teacher').write_text('')
    result = warm(SCRIPT, *TINY, cwd=tmp_path, OMP_NUM_THREADS='1')
    assert result.returncode == 1
    assert result.stderr.startswith('error: ')
    first, failed, rest = result.stdout.partition('test of zero_shot_teacher failed')
    assert failed
    # What ran at the same time ended; nothing else has started. On a busy machine the
    # test may fail before the training starts.
    started = f'$ mim train {mim_name()} configs/mmcast/adapt_synthscapes.py' in first
    trained = tmp_path / 'work_dirs/adapt_synthscapes/teacher.pth'
    assert trained.is_file() == started
    assert '$ mim' not in rest
    assert not (tmp_path / 'work_dirs/distill_synthscapes').exists()
