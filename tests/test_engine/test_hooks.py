"""Test the hooks that connect the stages, in a real Runner."""

import copy
import json
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
from mmengine.runner import FlexibleRunner, IterBasedTrainLoop, Runner
from pycocotools import mask as mask_utils
from torch import nn

from mmcast._requirements import mim_name
from mmcast.checkpoints import check_fits, export_part, read_checkpoint
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.semi_supervised import leaves
from mmcast.engine.hooks import (
    ExportHook,
    PreflightHook,
    PseudoLabelHook,
    TeacherUpdateHook,
)
from mmcast.engine.hooks.pseudo_label_hook import _transforms
from mmcast.engine.loops import TeacherStudentTestLoop
from mmcast.files import check_writable

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/mmcast'
MIM_TRAIN = f'mim train {mim_name()}'


@pytest.fixture(scope='module')
def student_file(tmp_path_factory):
    """Save a student with random weights."""
    config = Config.fromfile(CONFIGS / 'supervised_synthscapes.py')
    path = tmp_path_factory.mktemp('student') / 'student.pth'
    torch.save({'state_dict': MODELS.build(config.model).state_dict()}, path)
    return path


class Sum(BaseModel):
    """A model whose loss depends on a random number alone, not on the images."""

    def __init__(self):
        super().__init__()
        self.student = nn.Linear(1, 1)

    def forward(self, inputs, data_samples, mode='loss'):
        # One draw per step: the hook must not change the random state of training.
        return {'loss': self.student(torch.rand(1)).sum()}


class Record(Hook):
    """Record the training images in order, their instances, and random numbers."""

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


def unlabelled(world, store, names_file='', **loading):
    return dict(
        type='ImageListDataset',
        ann_file=str(names_file),
        data_prefix=dict(img=str(world.img_root)),
        metainfo=dict(classes=world.classes),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='LoadPseudoAnnotations',
                store=store and str(store),
                **dict(score_thr=0.06, skip_empty=False) | loading,
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    )


def hook(world, **changes):
    return (
        dict(
            type='PseudoLabelHook',
            teacher=str(world.checkpoint),
            config=str(world.config),
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


def running(path, content=None, **arguments):
    """Make a config as if it were loaded from the file ``path``."""
    path.touch()
    return Config(content, filename=str(path), **arguments)


@pytest.mark.parametrize(
    'workers', [{'num_workers': 0}, {'num_workers': 2, 'persistent_workers': True}]
)
def test_empty_and_full_store_give_the_same_training(teacher_world, tmp_path, workers):
    """Compare the images, their order and the random numbers."""
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

    # The order is also that of a new loader.
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


def test_missing_teacher_raises_before_training(teacher_world, tmp_path):
    (tmp_path / 'adapt_x.py').write_text('')
    absent = hook(teacher_world, teacher=str(tmp_path / 'adapt_x' / 'none.pth'))
    runner, record = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, tmp_path / 'store'), [absent]
    )
    runner.cfg = running(tmp_path / 'distill_x.py')
    with pytest.raises(FileNotFoundError, match='10 of 10 images') as error:
        runner.train()
    assert str(error.value).endswith(f'{MIM_TRAIN} {tmp_path}/adapt_x.py')
    assert str(tmp_path / 'adapt_x' / 'none.pth') in str(error.value)
    assert record.seen == []
    assert not (tmp_path / 'store').exists()


@pytest.mark.parametrize('layout', ['folder', 'shards'])
def test_a_folder_that_is_no_store_yet_becomes_one(teacher_world, tmp_path, layout):
    """Start again after a kill that left the folder without its manifest."""
    store = tmp_path / 'store'
    store.mkdir()
    (store / '.manifest.json.abcdefgh').write_text('{')
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, store),
        [hook(teacher_world, layout=layout)],
    )
    runner.train()
    opened = PseudoLabelStore.open(store)
    assert opened.layout == layout
    assert opened.missing(teacher_world.names) == []


def test_a_complete_store_needs_no_teacher(teacher_world, tmp_path):
    store = PseudoLabelStore.create(
        tmp_path / 'store',
        classes=teacher_world.classes,
        teacher=Teacher('t.py', 't.pth', '0'),
    )
    for name in teacher_world.names:
        store.write(name, (48, 72), [], [], [], [])
    absent = hook(teacher_world, teacher='none.pth', config='x')
    runner, record = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, store.root), [absent]
    )
    runner.train()
    assert len(record.seen) == 8
    # If the checkpoint exists, its digest must match.
    runner, record = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, store.root), [hook(teacher_world)]
    )
    with pytest.raises(ValueError, match=r'digest 0 \(t\.pth\), but [0-9a-f]{64}'):
        runner.train()
    assert record.seen == []


def test_labels_of_another_tool_are_a_teacher(teacher_world, tmp_path):
    """Its COCO file fills the store, by names; every image must be in it."""
    square = [2, 2, 40, 2, 40, 30, 2, 30]
    images = [
        dict(id=f'i{i}', file_name=f'/theirs/{name}', height=48, width=72)
        for i, name in enumerate(teacher_world.names)
    ]
    annotations = [
        dict(image_id=f'i{i}', category_id=9, segmentation=[square], score=0.5)
        for i in range(0, len(images), 2)
    ]
    categories = [
        dict(id=9 - i, name=name) for i, name in enumerate(teacher_world.classes)
    ]
    content = dict(images=images, annotations=annotations, categories=categories)
    path = tmp_path / 'labels.json'
    path.write_text(json.dumps(content))
    runner, record = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, None),
        [dict(type='PseudoLabelHook', teacher=str(path))],
    )
    runner.train()
    store = PseudoLabelStore.open(tmp_path / 'pseudo_labels')
    assert store.classes == tuple(teacher_world.classes)
    assert store.read(teacher_world.names[0]).labels.tolist() == [0]
    assert len(record.seen) == 8
    assert record.instances == sum(
        name in teacher_world.names[::2]
        for name in (
            str(Path(p).relative_to(teacher_world.img_root)) for p in record.seen
        )
    )
    filled = [dict(type='PseudoLabelHook', teacher=str(store.root))]
    runner, again = make_runner(tmp_path / 'f', unlabelled(teacher_world, None), filled)
    runner.train()
    assert again.seen == record.seen
    store.path(teacher_world.names[0]).unlink()
    runner, _ = make_runner(tmp_path / 'g', unlabelled(teacher_world, None), filled)
    command = (
        f'mmcast label --teacher sam3 --images {teacher_world.img_root}.* --classes'
    )
    with pytest.raises(FileNotFoundError, match=f'1 of 10 images .* {command} person'):
        runner.train()
    content['images'].pop()
    content['annotations'].pop()
    other = tmp_path / 'other' / 'labels.json'
    other.parent.mkdir()
    other.write_text(json.dumps(content))
    runner, _ = make_runner(
        tmp_path / 'run2',
        unlabelled(teacher_world, None),
        [dict(type='PseudoLabelHook', teacher=str(other))],
    )
    with pytest.raises(ValueError, match='1 of 10 unlabelled images are not in'):
        runner.train()


def test_broken_entry_raises_before_training(teacher_world, tmp_path):
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


def test_other_classes_raise_with_both_lists(teacher_world, tmp_path):
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


def test_teacher_of_another_architecture_raises(teacher_world, tmp_path):
    cfg = Config.fromfile(teacher_world.config)
    cfg.model.roi_head.mask_head.num_convs = 2
    cfg.dump(tmp_path / 'other.py')
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, tmp_path / 'store'),
        [hook(teacher_world, config=str(tmp_path / 'other.py'))],
    )
    with pytest.raises(ValueError, match=r'does not fit.*mask_head\.convs\.1'):
        runner.train()


def test_hook_without_a_data_set_raises(teacher_world, tmp_path):
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
    (leaf,) = leaves(dataset)
    names = [type(part).__name__ for part in _transforms(leaf.pipeline)]
    assert names.count('LoadPseudoAnnotations') == 1


def test_default_store_is_next_to_the_teacher(teacher_world, tmp_path):
    """Build the teacher from its stage's config, where it is a wrapper's student."""
    cfg = Config.fromfile(teacher_world.config)
    cfg.model = dict(type='SemiSupervisedSegmentor', student=cfg.model)
    cfg.dump(tmp_path / 'selftrain_x.py')
    folder = tmp_path / 'work_dirs/selftrain_x'
    folder.mkdir(parents=True)
    (folder / 'teacher.pth').write_bytes(teacher_world.checkpoint.read_bytes())
    dataset = unlabelled(teacher_world, None)
    own = hook(teacher_world, teacher=str(folder / 'teacher.pth'), config=None)
    runner, record = make_runner(tmp_path / 'run', dataset, [own])
    runner.cfg = running(tmp_path / 'distill_x.py')
    runner.train()
    assert record.instances > 0
    assert (folder / 'pseudo_labels/manifest.json').is_file()


def test_images_without_labels_are_skipped(teacher_world, tmp_path):
    """Check also that training does not start if no image has a label."""
    store = PseudoLabelStore.create(
        tmp_path / 'store',
        classes=teacher_world.classes,
        teacher=Teacher.from_files(teacher_world.config, teacher_world.checkpoint),
    )
    rle = mask_utils.encode(np.ones((48, 72), np.uint8, order='F'))
    for i, name in enumerate(teacher_world.names):
        scores = [0.9] if i in (2, 5) else [0.05] if i == 3 else []
        count = len(scores)
        store.write(
            name, (48, 72), [0] * count, scores, [[0, 0, 72, 48]] * count, [rle] * count
        )
    for skip in (True, False):
        runner, record = make_runner(
            tmp_path / 'run',
            unlabelled(teacher_world, store.root, skip_empty=skip),
            [hook(teacher_world)],
        )
        runner.train()
        assert len(record.seen) == 8
        assert (record.instances == 8) == skip
        assert (len(set(record.seen)) == 2) == skip
    (log,) = (tmp_path / 'run').glob(f'{runner.timestamp}/*.log')
    text = log.read_text()
    assert '2 instances have a score above 0.06, which training uses' in text
    assert '8 images have none of these' in text
    runner, record = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, store.root, skip_empty=True, score_thr=0.95),
        [hook(teacher_world)],
    )
    with pytest.raises(ValueError, match=r'None of the 10 images .*lower score_thr'):
        runner.train()
    assert record.seen == []


def test_missing_input_error_names_the_command(teacher_world, tmp_path, monkeypatch):
    """Use a file that a stage writes, one to download, and an unknown one."""
    monkeypatch.chdir(tmp_path)
    configs = tmp_path / 'configs'
    configs.mkdir()
    (configs / 'distill_x.py').write_text('')
    for load_from, command in {
        'work_dirs/distill_x/student.pth': f'make it with: SPLIT=5pct {MIM_TRAIN} '
        'configs/distill_x.py',
        'checkpoints/a.pth': 'make it with: wget a.pth',
        'elsewhere/b.pth': 'correct the path',
    }.items():
        runner, record = make_runner(
            tmp_path / 'run',
            unlabelled(teacher_world, 'none'),
            [dict(type='PreflightHook')],
            load_from=load_from,
        )
        runner.cfg = running(
            configs / 'finetune_x.py',
            dict(made_by={'checkpoints/a.pth': 'wget a.pth'}),
            env_variables=dict(SPLIT='5pct'),
        )
        with pytest.raises(FileNotFoundError) as error:
            runner.train()
        assert str(error.value) == f'{load_from} is missing; {command}'
        assert record.seen == []


def test_another_runner_raises(tmp_path):
    runner = FlexibleRunner(model=Sum(), work_dir=str(tmp_path), experiment_name='x')
    with pytest.raises(ValueError, match='FlexibleRunner cannot run a stage: with FSD'):
        PreflightHook().before_run(runner)


def test_missing_file_in_the_model_config_raises(teacher_world, tmp_path):
    """Use the file of a part, and of a teacher with the student's architecture."""
    present = dict(type='Pretrained', checkpoint=str(teacher_world.checkpoint))
    far = dict(type='Pretrained', checkpoint='https://far.away/x.pth')
    for part in (
        dict(neck=[dict(init_cfg=dict(type='Pretrained', checkpoint='none.pth'))]),
        dict(teacher=dict(checkpoint='none.pth')),
    ):
        runner, record = make_runner(
            tmp_path / 'run',
            unlabelled(teacher_world, 'none'),
            [dict(type='PreflightHook')],
        )
        runner.cfg = Config(dict(model=dict(part, a=present, b=far)))
        with pytest.raises(FileNotFoundError, match=r'^none\.pth is missing'):
            runner.train()
        assert record.seen == []


def test_checkpoint_of_another_architecture_raises(teacher_world, tmp_path):
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, 'none'),
        [dict(type='PreflightHook')],
        load_from=str(teacher_world.checkpoint),
    )
    with pytest.raises(ValueError, match=r'2 of 2 weights.*student\.weight'):
        runner.train()


def test_exported_student_in_the_wrappers_config_raises(
    student_file, synthscapes, tmp_path, monkeypatch
):
    """Test it in both configs: only the wrapper's weight names have a prefix."""
    monkeypatch.chdir(tmp_path)
    for name, fits in {'supervised': True, 'distill': False}.items():
        config = Config.fromfile(CONFIGS / f'{name}_synthscapes.py')
        (tmp_path / 'student.pth').write_bytes(student_file.read_bytes())
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
            remedy = (
                r'student\.pth is the plain checkpoint of a student, and .*'
                r'distill_synthscapes\.py is the config of its training with a '
                rf'teacher: mim test {mim_name()} .*/supervised_synthscapes\.py '
                r'--checkpoint student\.pth'
            )
            with pytest.raises(ValueError, match=remedy):
                runner.test()


def test_pretrained_weights_of_another_architecture_raise(
    student_file, synthscapes, tmp_path, monkeypatch
):
    """Load the student's weights into the teacher, alone and in the wrapper."""
    monkeypatch.chdir(tmp_path)
    for name in ('adapt', 'selftrain'):
        config = Config.fromfile(CONFIGS / f'{name}_synthscapes.py')
        model = config.model.get('student', config.model)
        model.init_cfg.checkpoint = str(student_file)
        dataset = config.train_dataloader.dataset
        for source in ('labeled_dataset', 'unlabeled_dataset'):
            if source in dataset:
                dataset[source].data_root = str(synthscapes)
        config.train_dataloader.update(num_workers=0, persistent_workers=False)
        # Remove the stage's own hook, which would ask for its teacher first.
        config.default_hooks.pop('pseudo_labels', None)
        config.update(work_dir=name, val_cfg=None)
        config.update(val_dataloader=None, val_evaluator=None)
        dataset.pop('pseudo_labels', None)
        runner = Runner.from_cfg(config)
        with pytest.raises(ValueError, match=r'student\.pth does not fit'):
            runner.train()


def test_teacher_in_the_wrapper_is_checked(student_file, tmp_path):
    """Check its ``Pretrained`` file before training, and its weights if it predicts."""
    model = MODELS.build(
        Config.fromfile(CONFIGS / 'guided_distillation/distill_synthscapes.py').model
    )
    check = PreflightHook().before_run
    model.teacher.init_cfg['checkpoint'] = str(student_file)
    check(training(model))
    # Only the class layer is missing: a student may start so, but not a teacher.
    weights = torch.load(student_file, weights_only=True)['state_dict']
    weights = {k: v for k, v in weights.items() if 'cls_embed' not in k}
    half = str(tmp_path / 'half.pth')
    torch.save({'state_dict': weights}, half)
    model.student.init_cfg = dict(type='Pretrained', checkpoint=half)
    check(training(model))
    model.teacher.init_cfg['checkpoint'] = half
    with pytest.raises(ValueError, match=r'half\.pth does not fit.*cls_embed'):
        check(training(model))

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


def training(model, **changes):
    """Stand in for a runner that is about to train."""
    loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    loop.dataloader = SimpleNamespace(dataset=None)
    return SimpleNamespace(
        **dict(
            model=model,
            _train_loop=loop,
            train_loop=loop,
            _resume=False,
            _load_from=None,
            cfg=Config(),
            hooks=[],
        )
        | changes
    )


def start_from(model, file, prefix):
    """Let the backbone of the wrapper's student start from a part of a file."""
    model.student.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(file), prefix=prefix
    )
    return training(model)


def test_part_of_a_file_is_checked(student_file, tmp_path):
    """Check each way in which what a prefix names can fail to be the backbone."""
    config = Config.fromfile(CONFIGS / 'guided_distillation/distill_synthscapes.py')
    model = MODELS.build(config.model)
    check = PreflightHook().before_run
    for prefix in ('backbone', 'backbone.'):
        check(start_from(model, student_file, prefix))
    for prefix in ('student.backbone.', 'back', 'backbone.conv1.weight.'):
        message = 'has no weights below .* only below backbone, panoptic_head'
        with pytest.raises(ValueError, match=message):
            check(start_from(model, student_file, prefix))
    with pytest.raises(ValueError, match=r"fit the model below 'panoptic_head\.': \d+"):
        check(start_from(model, student_file, 'panoptic_head.'))

    state = torch.load(student_file, weights_only=True)['state_dict']
    wider = {**state, 'backbone.conv1.weight': torch.zeros(9, 3, 7, 7)}
    less = {k: v for k, v in state.items() if k != 'backbone.conv1.weight'}
    path = tmp_path / 'x.pth'
    for changed, wrong in {
        'wider': (wider, r'conv1\.weight is \(9, 3, 7, 7\), not'),
        'less': (less, r'conv1\.weight is missing'),
    }.values():
        torch.save({'state_dict': changed}, path)
        with pytest.raises(ValueError, match=wrong):
            check(start_from(model, path, 'backbone'))
    may_be_new = ['backbone.conv1.', 'panoptic_head.cls_embed.']
    new = PreflightHook(may_be_new=may_be_new).before_run
    new(start_from(model, path, 'backbone'))
    path.write_bytes(b'torn')
    with pytest.raises(ValueError, match='cannot be read as a checkpoint'):
        check(start_from(model, path, 'backbone'))


def test_part_that_adapts_its_weights_decides_itself(student_file):
    """Check that a shape which a hook of the module would change is no error."""
    config = Config.fromfile(CONFIGS / 'supervised_synthscapes.py')
    model = MODELS.build(config.model)
    model.backbone.init_cfg = [
        dict(type='Kaiming', layer='Conv2d'),
        dict(type='Pretrained', checkpoint=str(student_file), prefix='panoptic_head'),
    ]
    check = PreflightHook().before_run
    with pytest.raises(ValueError, match='does not fit the model below'):
        check(training(model))
    model.backbone._register_load_state_dict_pre_hook(lambda *_: None)
    check(training(model))
    model.backbone.init_cfg[1]['prefix'] = 'none'
    with pytest.raises(ValueError, match=r"has no weights below 'none\.'"):
        check(training(model))


def test_start_of_the_small_student_fits():
    """Check that its file lacks the layer of the classes alone."""
    config = Config.fromfile(CONFIGS / 'supervised_synthscapes.py')
    model = MODELS.build(config.model)
    PreflightHook().before_run(training(model))
    with pytest.raises(ValueError, match=r': 2 of \d+ weights differ .*cls_embed'):
        PreflightHook(may_be_new=[]).before_run(training(model))


@pytest.mark.parametrize('folder', ['/sys/run', '/sys', 'file', 'file/run'])
def test_folder_that_cannot_be_written_raises_before_training(
    folder, teacher_world, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('')
    saver = dict(type='CheckpointHook', by_epoch=False, out_dir=folder)
    runner, record = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, 'store'),
        [dict(type='PreflightHook'), saver, hook(teacher_world)],
    )
    with pytest.raises(OSError, match=rf'^cannot write in {folder} \(.*--work-dir$'):
        runner.train()
    assert record.seen == []
    dataset = unlabelled(teacher_world, f'{folder}/labels')
    runner, record = make_runner(tmp_path / 'run', dataset, [hook(teacher_world)])
    with pytest.raises(OSError, match=rf'^cannot write in {folder}/labels \(.*store='):
        runner.train()
    assert record.seen == []


def test_check_of_a_folder_leaves_nothing(tmp_path):
    check_writable(tmp_path / 'a/b', 'x')
    assert [*tmp_path.iterdir()] == []


def test_check_fits(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    path = tmp_path / 'x.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    check_fits(model, path)
    torch.save({f'module.{key}': v for key, v in model.state_dict().items()}, path)
    check_fits(model, path)
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    check_fits(model, path)
    wider = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5), nn.Linear(5, 1))
    with pytest.raises(ValueError, match=r'4 of 6') as error:
        check_fits(wider, path)
    assert '1.weight is (4, 3), not (5, 3)' in str(error.value)
    assert '2.weight is missing' in str(error.value)
    check_fits(wider, path, ignore=['1.', '2.'])
    path.write_text('<html>404</html>')
    with pytest.raises(ValueError, match='cannot be read as a checkpoint'):
        check_fits(model, path)


def test_resume_without_a_checkpoint_raises(teacher_world, tmp_path):
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, 'none'),
        [dict(type='PreflightHook')],
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
        [hook(teacher_world), dict(type='ExportHook')],
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

    # Exporting from a training checkpoint gives the same.
    torch.save(
        {'state_dict': wrapper.state_dict(), 'meta': content['meta'], 'optimizer': {}},
        tmp_path / 'iter_1.pth',
    )
    export_part(tmp_path / 'iter_1.pth', tmp_path / 'hand.pth')
    by_hand = read_checkpoint(tmp_path / 'hand.pth')
    assert by_hand['meta'] == content['meta']
    assert all(
        torch.equal(by_hand['state_dict'][key], value)
        for key, value in content['state_dict'].items()
    )
    with pytest.raises(ValueError, match='has no weights below'):
        export_part(tmp_path / 'hand.pth', tmp_path / 'again.pth')


def test_missing_part_to_export_raises_before_training(teacher_world, tmp_path):
    store = PseudoLabelStore.create(
        tmp_path / 'store',
        classes=teacher_world.classes,
        teacher=Teacher('t.py', 't.pth', '0'),
    )
    for name in teacher_world.names:
        store.write(name, (48, 72), [], [], [], [])
    for part in ('teacher', ''):
        runner, record = make_runner(
            tmp_path / 'run',
            unlabelled(teacher_world, store.root),
            [dict(type='ExportHook', part=part, out='plain.pth')],
        )
        if part:
            with pytest.raises(ValueError, match="Sum has no 'teacher' to export"):
                runner.train()
            assert record.seen == []
        else:
            runner.train()
            state = read_checkpoint(tmp_path / 'run/plain.pth')['state_dict']
            assert list(state) == ['student.weight', 'student.bias']


def test_hooks_are_registered():
    for kind in (ExportHook, PreflightHook, PseudoLabelHook, TeacherUpdateHook):
        assert HOOKS.get(kind.__name__) is kind
