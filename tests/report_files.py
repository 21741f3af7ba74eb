"""Write the files that a report is made of."""

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_utils

from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher

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


def write_log(folder: Path, start: str, records: list[dict], config: str = '') -> None:
    logs = folder / start / 'vis_data'
    logs.mkdir(parents=True)
    (logs / 'config.py').write_text(config)
    lines = ''.join(json.dumps(record) + '\n' for record in records)
    (logs / 'scalars.json').write_text(lines)
