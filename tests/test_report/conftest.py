"""The files of two stages, and their report."""

import json

import pytest
from report_files import ANNOTATIONS, STAGES, config_text, make_store, results_like

from mmcast.apis import report


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


@pytest.fixture(scope='module')
def page(work):
    out = work.parent / 'report.html'
    report(work, out)
    return out
