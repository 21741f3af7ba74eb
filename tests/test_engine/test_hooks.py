"""The hooks that join the stages, through a real Runner."""

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.apis import init_detector
from mmdet.registry import DATASETS, HOOKS, MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.engine.checkpoints import check_fits, read_checkpoint
from mmcast.engine.hooks import (
    CheckpointFitsHook,
    PseudoLabelHook,
    StageInputsHook,
    StudentExportHook,
    TeacherUpdateHook,
    export_student,
)
from mmcast.engine.hooks.pseudo_label_hook import _leaves, _transforms
from mmcast.engine.loops import TeacherStudentTestLoop

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/mmcast'
STUDENT = CONFIGS / 'weights/synthscapes_student.pth'


class Sum(BaseModel):
    """A student that only counts how many instances it was shown."""

    def __init__(self):
        super().__init__()
        self.student = nn.Linear(1, 1)

    def forward(self, inputs, data_samples, mode='loss'):
        # One draw a step: training must not depend on what the hook drew.
        return {'loss': self.student(torch.rand(1)).sum()}


class Record(Hook):
    """What was trained on, in order."""

    def __init__(self):
        self.seen = []
        self.instances = 0
        self.random = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for sample in data_batch['data_samples']:
            self.seen.append(sample.img_path)
            self.instances += len(sample.gt_instances)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.random += [torch.rand(1).item(), np.random.rand()]


def unlabelled(world, store, names_file=''):
    return dict(
        type='ImageListDataset',
        ann_file=str(names_file),
        data_prefix=dict(img=str(world.img_root)),
        metainfo=dict(classes=world.classes),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadPseudoAnnotations', store=str(store), score_thr=0.06),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    )


def hook(world, **changes):
    return (
        dict(
            type='PseudoLabelHook',
            teacher_config=str(world.config),
            teacher_checkpoint=str(world.checkpoint),
            made_by='mim train mmdet configs/teacher.py',
        )
        | changes
    )


def make_runner(
    work_dir, dataset, hooks, *, loader=None, train_cfg=None, model=None, **arguments
):
    record = Record()
    loader = loader or dict(
        num_workers=0, batch_size=2, sampler=dict(type='InfiniteSampler')
    )
    runner = Runner(
        model=model or Sum(),
        work_dir=str(work_dir),
        train_dataloader=dict(dataset=dataset, **loader),
        train_cfg=train_cfg or dict(type='IterBasedTrainLoop', max_iters=4),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[record, *hooks],
        default_hooks=dict(
            logger=None,
            timer=None,
            checkpoint=None,
            runtime_info=None,
            param_scheduler=None,
        ),
        randomness=dict(seed=3),
        default_scope='mmdet',
        experiment_name=f'{Path(work_dir).name}_{id(record)}',
        **arguments,
    )
    return runner, record


@pytest.mark.parametrize(
    'workers', [{'num_workers': 0}, {'num_workers': 2, 'persistent_workers': True}]
)
def test_training_from_an_empty_store_is_training_from_a_full_one(
    teacher_world, tmp_path, workers
):
    """The same images in the same order, and the same random numbers."""
    store = tmp_path / 'store'
    second = dict(type='ConcatDataset', datasets=[unlabelled(teacher_world, store)] * 2)
    loader = dict(
        batch_size=2,
        batch_sampler=None,
        sampler=dict(type='MultiSourceSampler', batch_size=2, source_ratio=[1, 1]),
        **workers,
    )
    records = []
    for run in ('empty', 'full'):
        runner, record = make_runner(
            tmp_path / run,
            copy.deepcopy(second),
            [hook(teacher_world)],
            loader=copy.deepcopy(loader),
        )
        runner.train()
        records.append(record)
        times = {p: p.stat().st_mtime_ns for p in store.rglob('*.json')}
        assert len(times) == len(teacher_world.names) + 1
        if run == 'empty':
            before = times
    assert before == times
    assert len(records[0].seen) == 8
    assert records[0].instances > 8
    assert records[0].seen == records[1].seen
    assert records[0].instances == records[1].instances
    assert records[0].random == records[1].random

    # And the order is that of a loader from which nothing was drawn before.
    fresh = Runner.build_dataloader(
        dict(
            dataset=copy.deepcopy(second),
            **{**loader, 'num_workers': 0} | {'persistent_workers': False},
        ),
        seed=3,
    )
    batches = iter(fresh)
    expected = [
        sample.img_path for _ in range(4) for sample in next(batches)['data_samples']
    ]
    assert records[0].seen == expected


def test_epoch_based_training(teacher_world, tmp_path):
    runner, record = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, tmp_path / 'store'),
        [hook(teacher_world, batch_size=3)],
        loader=dict(
            num_workers=1,
            batch_size=5,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1),
    )
    runner.train()
    assert [path[-12:] for path in record.seen] == [
        name[-12:] for name in sorted(teacher_world.names)
    ]


def test_a_missing_teacher_is_told_before_work(teacher_world, tmp_path):
    absent = hook(teacher_world, teacher_checkpoint=str(tmp_path / 'none.pth'))
    runner, record = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, tmp_path / 'store'), [absent]
    )
    with pytest.raises(FileNotFoundError, match='10 of 10 images') as error:
        runner.train()
    assert str(error.value).endswith('mim train mmdet configs/teacher.py')
    assert str(tmp_path / 'none.pth') in str(error.value)
    assert record.seen == []
    assert not (tmp_path / 'store').exists()


def test_a_complete_store_needs_no_teacher(teacher_world, tmp_path):
    store = PseudoLabelStore.create(
        tmp_path / 'store',
        classes=teacher_world.classes,
        teacher=Teacher('t.py', 't.pth', '0'),
    )
    for name in teacher_world.names:
        store.write(name, (48, 72), [], [], [], [])
    absent = hook(teacher_world, teacher_checkpoint='none.pth', teacher_config='x')
    runner, record = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, store.root), [absent]
    )
    runner.train()
    assert len(record.seen) == 8
    # With the checkpoint there, its digest counts.
    runner, record = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, store.root), [hook(teacher_world)]
    )
    with pytest.raises(ValueError, match=r'digest 0 \(t\.pth\), but [0-9a-f]{64}'):
        runner.train()
    assert record.seen == []


def test_a_torn_entry_is_told_before_the_first_iteration(teacher_world, tmp_path):
    store = tmp_path / 'store'
    runner, _ = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, store), [hook(teacher_world)]
    )
    runner.train()
    (store / 'town1/image_03.json').write_text('{"ima')
    runner, record = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, store), [hook(teacher_world)]
    )
    with pytest.raises(ValueError, match=r'town1/image_03\.json is not a whole'):
        runner.train()
    assert record.seen == []


def test_other_classes_are_told_with_both_sides(teacher_world, tmp_path):
    dataset = unlabelled(teacher_world, tmp_path / 'store')
    dataset['metainfo'] = dict(classes=('dog', 'car', 'rider'))
    runner, _ = make_runner(tmp_path / 'run', dataset, [hook(teacher_world)])
    with pytest.raises(ValueError, match=r"'person'.*'dog'"):
        runner.train()
    PseudoLabelStore.create(
        tmp_path / 'other', classes=['cat'], teacher=Teacher('t.py', 't.pth', '0')
    )
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, tmp_path / 'other'),
        [hook(teacher_world)],
    )
    with pytest.raises(ValueError, match=r"'cat'.*'person'"):
        runner.train()


def test_a_teacher_of_another_architecture_is_told(teacher_world, tmp_path):
    cfg = Config.fromfile(teacher_world.config)
    cfg.model.roi_head.mask_head.num_convs = 2
    cfg.dump(tmp_path / 'other.py')
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, tmp_path / 'store'),
        [hook(teacher_world, teacher_config=str(tmp_path / 'other.py'))],
    )
    with pytest.raises(ValueError, match=r'does not fit.*mask_head\.convs\.1'):
        runner.train()


def test_a_hook_without_a_data_set_is_told(teacher_world, tmp_path):
    dataset = unlabelled(teacher_world, tmp_path / 'store')
    del dataset['pipeline'][1]
    runner, _ = make_runner(tmp_path / 'run', dataset, [hook(teacher_world)])
    with pytest.raises(ValueError, match='no data set with LoadPseudoAnnotations'):
        runner.train()


def test_the_transform_is_found_inside_wrappers(teacher_world, tmp_path):
    inner = unlabelled(teacher_world, tmp_path / 'store')
    load, *rest = inner['pipeline']
    inner['pipeline'] = [
        load,
        dict(type='MultiBranch', branch_field=['unsup'], unsup=rest),
    ]
    dataset = DATASETS.build(
        dict(
            type='ConcatDataset',
            datasets=[dict(type='RepeatDataset', times=2, dataset=inner)],
        )
    )
    (leaf,) = _leaves(dataset)
    names = [type(part).__name__ for part in _transforms(leaf.pipeline)]
    assert names.count('LoadPseudoAnnotations') == 1


def test_missing_inputs_name_the_command(teacher_world, tmp_path):
    inputs = {
        str(teacher_world.checkpoint): 'unused',
        str(tmp_path / 'student.pth'): 'mim train mmdet configs/distill.py',
    }
    runner, record = make_runner(
        tmp_path / 'run',
        dict(**unlabelled(teacher_world, 'none')),
        [dict(type='StageInputsHook', inputs=inputs)],
        load_from=str(tmp_path / 'student.pth'),
    )
    with pytest.raises(FileNotFoundError) as error:
        runner.train()
    assert str(error.value) == (
        f'{tmp_path / "student.pth"} is missing; make it with: '
        'mim train mmdet configs/distill.py'
    )
    assert record.seen == []


def test_a_checkpoint_of_another_architecture_is_told(teacher_world, tmp_path):
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, 'none'),
        [dict(type='StageInputsHook', inputs={})],
        load_from=str(teacher_world.checkpoint),
    )
    with pytest.raises(ValueError, match=r'2 of its 2 weights.*student\.weight'):
        runner.train()


def test_a_student_in_its_wrappers_config_is_not_evaluated(
    synthscapes, tmp_path, monkeypatch
):
    """The wrapper's names have a prefix that the exported student's have not."""
    monkeypatch.chdir(tmp_path)
    for name, fits in {'supervised': True, 'distill': False}.items():
        config = Config.fromfile(CONFIGS / f'{name}_synthscapes.py')
        (tmp_path / 'student.pth').write_bytes(STUDENT.read_bytes())
        dataset = config.test_dataloader.dataset
        dataset.data_root = str(synthscapes)
        annotations = synthscapes / 'annotations/instancesonly_filtered_gtFine_val.json'
        config.test_evaluator.ann_file = str(annotations)
        config.test_dataloader.update(num_workers=0, persistent_workers=False)
        config.merge_from_dict({'load_from': 'student.pth', 'work_dir': name})
        runner = Runner.from_cfg(config)
        if fits:
            assert 'coco/segm_mAP' in runner.test()
        else:
            with pytest.raises(ValueError, match=r'student\.pth does not fit'):
                runner.test()


def test_pretrained_weights_of_another_architecture_are_told(
    synthscapes, tmp_path, monkeypatch
):
    """The student's in the teacher, plain and in the wrapper."""
    monkeypatch.chdir(tmp_path)
    for name in ('adapt', 'selftrain'):
        config = Config.fromfile(CONFIGS / f'{name}_synthscapes.py')
        model = config.model.get('student', config.model)
        model.init_cfg.checkpoint = str(STUDENT)
        dataset = config.train_dataloader.dataset
        for source in ('labeled_dataset', 'unlabeled_dataset'):
            if source in dataset:
                dataset[source].data_root = str(synthscapes)
        config.train_dataloader.update(num_workers=0, persistent_workers=False)
        # Not the stage's own hooks: they would ask for its other inputs first.
        config.update(custom_hooks=[], work_dir=name, val_cfg=None)
        config.update(val_dataloader=None, val_evaluator=None)
        if 'unlabeled_dataset' in dataset:
            dataset.pseudo_labels = None
        runner = Runner.from_cfg(config)
        with pytest.raises(ValueError, match=r'synthscapes_student\.pth does not fit'):
            runner.train()


def test_the_teacher_inside_is_checked_as_the_student_is(tmp_path):
    """Its ``Pretrained`` checkpoint before training, its weights where it predicts."""
    model = MODELS.build(
        Config.fromfile(CONFIGS / 'guided_distill_synthscapes.py').model
    )
    check = CheckpointFitsHook().before_run
    training = SimpleNamespace(
        model=model,
        _train_loop=IterBasedTrainLoop.__new__(IterBasedTrainLoop),
        _resume=False,
    )
    model.teacher.init_cfg['checkpoint'] = str(STUDENT)
    check(training)
    # But for the classes' layer it would fit: a student may start so, no teacher.
    weights = torch.load(STUDENT, weights_only=True)['state_dict']
    weights = {k: v for k, v in weights.items() if 'cls_embed' not in k}
    half = str(tmp_path / 'half.pth')
    torch.save({'state_dict': weights}, half)
    model.student.init_cfg['checkpoint'] = half
    check(training)
    model.teacher.init_cfg['checkpoint'] = half
    with pytest.raises(ValueError, match=r'half\.pth does not fit.*cls_embed'):
        check(training)

    weights = {k: v for k, v in model.state_dict().items() if 'teacher' not in k}
    torch.save({'state_dict': weights}, tmp_path / 'whole.pth')
    testing = SimpleNamespace(
        model=model,
        _train_loop=None,
        _test_loop=None,
        _load_from=str(tmp_path / 'whole.pth'),
    )
    check(testing)
    both = TeacherStudentTestLoop.__new__(TeacherStudentTestLoop)
    for predicts, loop in (('teacher', None), ('student', both)):
        model.semi_test_cfg['predict_on'] = predicts
        testing._test_loop = loop
        with pytest.raises(ValueError, match=r'whole\.pth does not fit.*teacher\.'):
            check(testing)


def test_what_fits(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    path = tmp_path / 'x.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    check_fits(model, path)
    torch.save({f'module.{key}': v for key, v in model.state_dict().items()}, path)
    check_fits(model, path)
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    check_fits(model, path)
    wider = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5), nn.Linear(5, 1))
    with pytest.raises(ValueError, match=r'4 of its 6') as error:
        check_fits(wider, path)
    assert '1.weight is (4, 3), not (5, 3)' in str(error.value)
    assert '2.weight is missing' in str(error.value)
    check_fits(wider, path, ignore=['1.', '2.'])
    path.write_text('<html>404</html>')
    with pytest.raises(ValueError, match='cannot be read as a checkpoint'):
        check_fits(model, path)


def test_resuming_nothing_is_told(teacher_world, tmp_path):
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, 'none'),
        [dict(type='StageInputsHook', inputs={})],
        resume=True,
    )
    with pytest.raises(FileNotFoundError, match='start without --resume'):
        runner.train()


def test_the_exported_student_is_a_plain_detector(teacher_world, tmp_path):
    class Wrapper(Sum):
        def __init__(self):
            super().__init__()
            self.scale = self.student
            self.student = MODELS.build(teacher_world.model)

        def forward(self, inputs, data_samples, mode='loss'):
            return {'loss': self.scale(torch.rand(1)).sum()}

    wrapper = Wrapper()
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, tmp_path / 'store'),
        [hook(teacher_world), dict(type='StudentExportHook')],
        model=wrapper,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=1),
    )
    runner.train()
    path = tmp_path / 'run/student.pth'
    exported = init_detector(str(teacher_world.config), str(path), device='cpu')
    assert tuple(exported.dataset_meta['classes']) == teacher_world.classes
    check_fits(exported, path)
    for key, value in wrapper.student.state_dict().items():
        assert torch.equal(exported.state_dict()[key], value), key
    content = torch.load(path, weights_only=True)
    assert set(content) == {'state_dict', 'meta'}
    assert list(content['state_dict']) == list(wrapper.student.state_dict())
    assert not list((tmp_path / 'run').glob('.student*'))

    # The same from a training checkpoint, by hand.
    torch.save(
        {'state_dict': wrapper.state_dict(), 'meta': content['meta'], 'optimizer': {}},
        tmp_path / 'iter_1.pth',
    )
    export_student(tmp_path / 'iter_1.pth', tmp_path / 'hand.pth')
    by_hand = read_checkpoint(tmp_path / 'hand.pth')
    assert by_hand['meta'] == content['meta']
    assert all(
        torch.equal(by_hand['state_dict'][key], value)
        for key, value in content['state_dict'].items()
    )
    with pytest.raises(ValueError, match='holds no weights below'):
        export_student(tmp_path / 'hand.pth', tmp_path / 'again.pth')


def test_a_model_without_a_student_is_told_before_training(teacher_world, tmp_path):
    store = PseudoLabelStore.create(
        tmp_path / 'store',
        classes=teacher_world.classes,
        teacher=Teacher('t.py', 't.pth', '0'),
    )
    for name in teacher_world.names:
        store.write(name, (48, 72), [], [], [], [])
    for attr in ('teacher', ''):
        runner, record = make_runner(
            tmp_path / 'run',
            unlabelled(teacher_world, store.root),
            [dict(type='StudentExportHook', attr=attr, out='plain.pth')],
        )
        if attr:
            with pytest.raises(ValueError, match="Sum has no 'teacher' to export"):
                runner.train()
            assert record.seen == []
        else:
            runner.train()
            state = read_checkpoint(tmp_path / 'run/plain.pth')['state_dict']
            assert list(state) == ['student.weight', 'student.bias']


def test_hooks_are_registered():
    for kind in (
        PseudoLabelHook,
        StageInputsHook,
        StudentExportHook,
        TeacherUpdateHook,
    ):
        assert HOOKS.get(kind.__name__) is kind
