"""Train every kind of instance segmenter of MMDetection through all that mmcast offers.

    python tools/benchmarks/detectors.py work_dirs/detectors

For each, `mim train mmdet` runs a plain training, distillation with the labels of
another detector, Guided Distillation and refinement; a distillation continues from its
middle with ``--resume`` and must leave the same weights; and `mim test mmdet` evaluates
the exported file under the plain config. Detectors are small and images few: this shows
that a cell works, not how well. What has run is not run again.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

import mmcast  # noqa: F401
from mmcast._requirements import mim_name
from mmcast.checkpoints import read_checkpoint
from mmcast.datasets.cityscapes_to_coco import convert_split
from mmcast.datasets.synthscapes import generate
from mmcast.files import write_atomic
from mmcast.testing import FAMILIES, THINGS, stock_detector

CELLS = ('supervised', 'distill', 'guided', 'finetune', 'resume', 'export')
ANNOTATIONS = 'annotations/instancesonly_filtered_gtFine_{}.json'
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(128, 64), keep_ratio=True),
]
SEMI = """\
_base_ = './plain.py'
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=_base_.model)
images = dict(_delete_=True, type='SemiSupervisedDataset')
images['labeled_dataset'] = _base_.train_dataloader.dataset
images['unlabeled_dataset'] = dict(data_prefix=dict(img='data/leftImg8bit/train/'))
sampler = dict(_delete_=True, type='LabeledUnlabeledSampler')
train_dataloader = dict(dataset=images, sampler=sampler)
"""
DISTILL = (
    SEMI
    + """\
images['pseudo_labels'] = dict(score_thr=0.05, skip_empty=False)
labels = dict(type='PseudoLabelHook', teacher='{0}/student.pth', config='{0}/plain.py')
default_hooks = dict(pseudo_labels=labels)
"""
)
GUIDED = (
    SEMI
    + """\
model.update(teacher=dict(checkpoint='{0}/student.pth'), score_thr=0.05, nms_thr=0.7)
model.update(strong_view=dict(type='StrongView'))
follow = dict(type='TeacherUpdateHook', burn_in_iters=2)
default_hooks = dict(follow=follow)
"""
)


def plain_config(family: str, iterations: int) -> Config:
    """Return a small detector's own training, as a user has it."""

    def loader(split: str, sampler: dict, steps: list, **more: Any) -> dict:
        dataset = dict(
            type='CocoDataset',
            data_root='data',
            ann_file=ANNOTATIONS.format(split),
            data_prefix=dict(img=f'leftImg8bit/{split}/'),
            metainfo=THINGS,
            pipeline=[*PIPELINE, *steps],
            **more,
        )
        return dict(batch_size=4, num_workers=0, sampler=sampler, dataset=dataset)

    meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    train = loader(
        'train',
        dict(type='InfiniteSampler', shuffle=True),
        [
            dict(type='RandomFlip', prob=0.5),
            dict(type='FilterAnnotations', keep_empty=False),
            dict(type='PackDetInputs'),
        ],
        indices=4,  # as if the others had no labels
    )
    test = loader(
        'val',
        dict(type='DefaultSampler', shuffle=False),
        [dict(type='PackDetInputs', meta_keys=meta)],
        test_mode=True,
    )
    ann_file = f'data/{ANNOTATIONS.format("val")}'
    return Config(
        dict(
            custom_imports=dict(imports=['mmcast'], allow_failed_imports=False),
            default_scope='mmdet',
            model=stock_detector(family, len(THINGS['classes'])).to_dict(),
            train_dataloader=train,
            test_dataloader=test,
            test_evaluator=dict(type='CocoMetric', metric='segm', ann_file=ann_file),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations),
            test_cfg=dict(type='TestLoop'),
            optim_wrapper=dict(
                optimizer=dict(type='AdamW', lr=1e-4),
                clip_grad=dict(max_norm=1.0),
                paramwise_cfg=dict(bypass_duplicate=True),
            ),
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=False, interval=iterations // 2
                ),
                random_state=dict(type='RandomStateHook'),
                preflight=dict(type='PreflightHook'),
                export=dict(type='ExportHook'),
            ),
            randomness=dict(seed=0),
        )
    )


def mim(root: Path, log: str, verb: str, *words: str) -> str | None:
    """Run ``mim VERB``; return None, or the last line of its error."""
    command = ['mim', verb, mim_name(), *words]
    path = root / 'logs' / f'{log}.txt'
    path.parent.mkdir(exist_ok=True)
    with open(path, 'w') as file:
        done = subprocess.run(command, cwd=root, stdout=file, stderr=subprocess.STDOUT)
    if not done.returncode:
        return None
    lines = path.read_text().split('\n')
    errors = [line for line in lines if 'rror: ' in line]
    return errors[0].strip() if errors else f'exit status {done.returncode}'


def same_weights(first: Path, second: Path) -> bool:
    one, other = (read_checkpoint(path)['state_dict'] for path in (first, second))
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) for name in one
    )


def run_family(root: Path, family: str, iterations: int) -> dict[str, str]:
    """Run all cells of a detector; return what each shows."""
    folder = root / family
    folder.mkdir(exist_ok=True)
    teacher = 'rtmdet_ins' if family == 'mask_rcnn' else 'mask_rcnn'
    (folder / 'distill.py').write_text(DISTILL.format(teacher))
    (folder / 'guided.py').write_text(GUIDED.format(family))
    found: dict[str, str] = {}

    def cell(name: str, *words: str, verb: str = 'train') -> None:
        start = time.time()
        error = mim(root, f'{family}_{name}', verb, *words)
        found[name] = error or f'{time.time() - start:.0f} s'
        print(f'{family} {name}: {found[name]}', flush=True)

    for name in ('distill', 'guided'):
        work = f'{family}/{name}'
        cell(name, f'{family}/{name}.py', '--work-dir', work)
    work = root / family / 'distill'
    again = root / family / 'resume'
    shutil.rmtree(again, ignore_errors=True)
    again.mkdir()
    half = f'iter_{iterations // 2}.pth'
    if (work / half).is_file():
        shutil.copy(work / half, again / half)
        (again / 'last_checkpoint').write_text(str(again / half))
        cell(
            'resume',
            f'{family}/distill.py',
            '--work-dir',
            f'{family}/resume',
            '--resume',
        )
        exported = again / 'student.pth'
        if found['resume'].endswith(' s'):
            same = same_weights(exported, work / 'student.pth')
            found['resume'] = 'same weights' if same else 'other weights'
    student = f'{family}/distill/student.pth'
    cell(
        'finetune',
        *(f'{family}/plain.py', '--work-dir', f'{family}/finetune'),
        *('--cfg-options', f'load_from={student}'),
    )
    work_dir = ('--work-dir', f'{family}/export')
    cell(
        'export', f'{family}/plain.py', '--checkpoint', student, *work_dir, verb='test'
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('root', type=Path, help='work folder')
    parser.add_argument('--families', nargs='+', choices=FAMILIES, default=[*FAMILIES])
    parser.add_argument('--iterations', type=int, default=4)
    args = parser.parse_args()
    root = args.root.resolve()
    if not (root / 'data').exists():
        generate(root / 'data', {'train': 12, 'val': 4}, 'target', (64, 128), workers=1)
        for split in ('train', 'val'):
            convert_split(root / 'data', split)
    results = {}
    # All plain trainings first: each other detector learns from the labels of one.
    for family in {**dict.fromkeys(['mask_rcnn', 'rtmdet_ins']), **FAMILIES}:
        folder = root / family
        if family in args.families or family in ('mask_rcnn', 'rtmdet_ins'):
            folder.mkdir(exist_ok=True)
            if not (folder / 'student.pth').is_file():
                plain_config(family, args.iterations).dump(folder / 'plain.py')
                start = time.time()
                words = (f'{family}/plain.py', '--work-dir', family)
                error = mim(root, f'{family}_supervised', 'train', *words)
                text = error or f'{time.time() - start:.0f} s'
                print(f'{family} supervised: {text}', flush=True)
                write_atomic(folder / 'supervised.json', json.dumps(text))
    console = Console(width=None if sys.stdout.isatty() else 160)
    for family in args.families:
        file = root / family / 'cells.json'
        if not file.is_file():
            first = json.loads((root / family / 'supervised.json').read_text())
            found = {'supervised': first, **run_family(root, family, args.iterations)}
            write_atomic(file, json.dumps(found, indent=1) + '\n')
        results[family] = json.loads(file.read_text())
    table = Table('detector', *CELLS)
    for family, found in results.items():
        table.add_row(family, *(found.get(name, '-') for name in CELLS))
    console.print(table)


if __name__ == '__main__':
    main()
