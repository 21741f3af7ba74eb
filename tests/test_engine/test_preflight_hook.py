"""Test what is checked before training, in a real Runner."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hook_runs import Sum, hook, make_runner, running, unlabelled
from mmdet.registry import HOOKS, MODELS
from mmengine.config import Config
from mmengine.runner import FlexibleRunner, IterBasedTrainLoop, Runner
from mmengine.runner.checkpoint import CheckpointLoader

from mmcast._requirements import mim_name
from mmcast.engine.hooks import (
    ExportHook,
    PreflightHook,
    PseudoLabelHook,
    TeacherUpdateHook,
)
from mmcast.engine.loops import TeacherStudentTestLoop

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/mmcast'
MIM_TRAIN = f'mim train {mim_name()}'


@pytest.fixture(scope='module')
def student_file(tmp_path_factory):
    """Save a student with random weights."""
    config = Config.fromfile(CONFIGS / 'supervised_synthscapes.py')
    path = tmp_path_factory.mktemp('student') / 'student.pth'
    torch.save({'state_dict': MODELS.build(config.model).state_dict()}, path)
    return path


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


def test_a_detector_alone_is_no_start_beside_a_teacher(student_file, monkeypatch):
    """Also a file that is far away, of which mmengine only says that nothing fits."""
    config = Config.fromfile(CONFIGS / 'guided_distillation/distill_synthscapes.py')
    model = MODELS.build(config.model)
    check = PreflightHook().before_run
    state = torch.load(student_file, weights_only=True)['state_dict']
    monkeypatch.setattr(CheckpointLoader, 'load_checkpoint', lambda *_, **__: state)
    for path in (str(student_file), 'https://far.away/student.pth'):
        message = rf"{path} is a detector alone.*checkpoint='{path}'\)$"
        with pytest.raises(ValueError, match=message):
            check(training(model, _load_from=path, cfg=Config()))
    wrapper = model.state_dict()
    monkeypatch.setattr(CheckpointLoader, 'load_checkpoint', lambda *_, **__: wrapper)
    check(training(model, _load_from='https://far.away/wrapper.pth', cfg=Config()))


def test_a_teacher_of_other_classes_is_refused(student_file, tmp_path):
    config = Config.fromfile(CONFIGS / 'guided_distillation/distill_synthscapes.py')
    model = MODELS.build(config.model)
    content = torch.load(student_file, weights_only=True)
    model.teacher.init_cfg['checkpoint'] = path = str(tmp_path / 'teacher.pth')
    runner = training(model)
    classes = tuple('abcdefgh')
    runner.train_loop.dataloader.dataset = SimpleNamespace(
        metainfo=dict(classes=classes)
    )
    for found in (classes, [*classes], None):
        meta = dict(dataset_meta=dict(classes=found)) if found else {}
        torch.save(dict(content, meta=meta), path)
        PreflightHook().before_run(runner)
    meta = dict(dataset_meta=dict(classes=classes[::-1]))
    torch.save(dict(content, meta=meta), path)
    with pytest.raises(
        ValueError, match=r"teacher\.pth was trained on .*'h', 'g'.*'a'"
    ):
        PreflightHook().before_run(runner)


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


def test_resume_without_a_checkpoint_raises(teacher_world, tmp_path):
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, 'none'),
        [dict(type='PreflightHook')],
        resume=True,
    )
    with pytest.raises(FileNotFoundError, match='start without --resume'):
        runner.train()


def test_hooks_are_registered():
    for kind in (ExportHook, PreflightHook, PseudoLabelHook, TeacherUpdateHook):
        assert HOOKS.get(kind.__name__) is kind
