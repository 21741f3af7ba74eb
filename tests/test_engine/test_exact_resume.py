"""Test that every stage of CAST and Guided Distillation resumes bit by bit.

SwinMTL's tests are in test_critic_training.py.
"""

import tarfile
from pathlib import Path

import pytest
import torch
from gloo_ranks import two_ranks
from mmengine.hooks import Hook
from resuming import assert_same_end, differences, train_until

from mmcast.checkpoints import read_checkpoint
from mmcast.testing import reduced

# Each with the file that it starts from, and the stage that leaves it.
STAGES = {
    'adapt': None,
    'selftrain': 'adapt',
    'distill': 'adapt',
    'supervised': None,
    'finetune': 'distill',
    'guided_distillation/teacher': None,
    'guided_distillation/distill': 'guided_distillation/teacher',
}


class Stop(Hook):
    """Record each batch; stop after so many iterations, as Ctrl-C would."""

    priority = 'LOWEST'

    def __init__(self, after):
        self.after = after
        self.images = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        samples = data_batch['data_samples']
        if isinstance(samples, dict):
            samples = [each for branch in samples.values() for each in branch if each]
        self.images[runner.iter] = [sample.img_path for sample in samples]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.after:
            raise KeyboardInterrupt


def config_of(stage, data, work_dir, workers=0, **optimizer_changes):
    """Reduce a stage to 4 iterations with a checkpoint after every second."""
    config = reduced(f'{stage}_synthscapes', data, {})
    config.work_dir = str(work_dir)
    config.randomness = dict(seed=3)
    config.train_cfg.max_iters = 4
    config.train_dataloader.num_workers = workers
    config.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=-1)
    config.default_hooks.logger.interval = 1
    if 'teacher_update' in config.default_hooks:
        config.default_hooks.teacher_update.burn_in_iters = 1
    config.optim_wrapper.update(optimizer_changes)
    return config


def train(config, stop=None, **changes):
    """Train; return the images of each iteration."""
    hook = Stop(stop)
    train_until(stop, config, hook, **changes)
    return hook.images


def run(config, stop=None, **changes):
    """Train; return the images of each iteration, and the last checkpoint."""
    images = train(config, stop, **changes)
    end = stop or config.train_cfg.max_iters
    return images, read_checkpoint(f'{config.work_dir}/iter_{end}.pth')


@pytest.fixture(scope='module')
def left(synthscapes, tmp_path_factory):
    """Run all stages in order; return the folder of their work_dirs, and what ran."""
    folder, runs = tmp_path_factory.mktemp('straight'), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in STAGES:
            work_dir = reduced(f'{stage}_synthscapes', synthscapes, {}).work_dir
            runs[stage] = run(config_of(stage, synthscapes, work_dir))
    return folder, runs


@pytest.mark.parametrize(
    ('stage', 'workers'),
    [*((name, 0) for name in STAGES), *((name, 2) for name in STAGES if 'dis' in name)],
)
def test_resumed_stage_is_identical(
    stage, workers, left, synthscapes, tmp_path, monkeypatch
):
    folder, runs = left
    monkeypatch.chdir(folder)
    images, end = runs[stage]
    seen = train(config_of(stage, synthscapes, tmp_path, workers), stop=2)
    config = config_of(stage, synthscapes, tmp_path, workers)
    # Another seed, so that the runner's must come from the checkpoint.
    again, found = run(config, resume=True, load_from=None, randomness=dict(seed=7))
    assert {0: seen[0], 1: seen[1], **again} == images
    assert sorted(again) == [2, 3]
    assert_same_end(found, end)


@pytest.mark.parametrize('setting', ['accumulation', 'autocast'])
@pytest.mark.parametrize('stage', ['distill', 'guided_distillation/distill'])
def test_resumed_stage_is_identical_with(
    setting, stage, left, synthscapes, tmp_path, monkeypatch
):
    folder, runs = left
    monkeypatch.chdir(folder)
    changes = dict(accumulative_counts=2) if setting == 'accumulation' else {}
    work_dir, other = tmp_path / 'straight', tmp_path / 'resumed'
    amp = setting == 'autocast'
    # The cache would keep the weights of the first iteration.
    with torch.autocast('cpu', torch.bfloat16, enabled=amp, cache_enabled=False):
        _, end = run(config_of(stage, synthscapes, work_dir, **changes))
        config = config_of(stage, synthscapes, other, **changes)
        middle = str(work_dir / 'iter_2.pth')
        _, found = run(config, resume=True, load_from=middle)
    assert [*differences(end['state_dict'], runs[stage][1]['state_dict'])] != []
    assert_same_end(found, end)


@pytest.mark.parametrize(
    ('stage', 'length'), [('distill', 6), ('guided_distillation/distill', 8)]
)
def test_resumed_epochs_are_identical(
    stage, length, left, synthscapes, tmp_path, monkeypatch
):
    """Stop in the second of two epochs; all images in batches of 2 make an epoch."""
    folder, _ = left
    monkeypatch.chdir(folder)

    def by_epochs(work_dir, workers=0):
        config = config_of(stage, synthscapes, work_dir, workers)
        config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
        config.train_dataloader.persistent_workers = workers > 0
        config.default_hooks.checkpoint.update(by_epoch=True, interval=1)
        return config

    images = train(by_epochs(tmp_path / 'straight'))
    assert sorted(images) == [*range(2 * length)]
    seen = train(by_epochs(tmp_path / 'resumed', workers=1), stop=length + 2)
    config = by_epochs(tmp_path / 'resumed', workers=1)
    again = train(config, resume=True, load_from=None)
    assert {**{t: seen[t] for t in range(length)}, **again} == images
    assert sorted(again) == [*range(length, 2 * length)]
    straight, resumed = (
        read_checkpoint(tmp_path / name / 'epoch_2.pth')
        for name in ('straight', 'resumed')
    )
    assert_same_end(resumed, straight)


def test_two_ranks(left, synthscapes, tmp_path, monkeypatch):
    if torch.cuda.is_initialized():
        pytest.skip('a forked child cannot use the GPU')
    folder, _ = left
    monkeypatch.chdir(folder)
    monkeypatch.setenv('LOCAL_RANK', '0')

    def train_rank(name, **options):
        config = config_of('distill', synthscapes, tmp_path / name)
        config.launcher = 'pytorch'
        config.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
        )
        return train(config, **options)

    def work(rank):
        images = train_rank('straight')
        middle = str(tmp_path / 'straight' / 'iter_2.pth')
        again = train_rank('resumed', resume=True, load_from=middle)
        assert again == {at: images[at] for at in (2, 3)}

    assert two_ranks(work, tmp_path) == [0, 0]
    straight, resumed = (
        read_checkpoint(tmp_path / name / 'iter_4.pth')
        for name in ('straight', 'resumed')
    )
    assert_same_end(resumed, straight)


def test_images_in_tars_train_as_those_in_a_folder(
    left, synthscapes, tmp_path, monkeypatch
):
    """Stop and resume with other workers, reading from three tars in another order."""
    folder, runs = left
    monkeypatch.chdir(folder)
    images = synthscapes / 'leftImg8bit/train'
    (tmp_path / 'tars').mkdir()
    for part in range(3):
        with tarfile.open(tmp_path / f'tars/{part}.tar', 'w') as tar:
            for path in sorted(images.rglob('*.png'), reverse=True)[part::3]:
                tar.add(path, path.relative_to(images))
    seen, end = runs['distill']

    def from_tars(workers):
        config = config_of('distill', synthscapes, tmp_path / 'work', workers)
        unlabeled = config.train_dataloader.dataset.unlabeled_dataset
        unlabeled.data_prefix = dict(img=f'tar://{tmp_path}/tars')
        return config

    first = train(from_tars(2), stop=2)
    again, found = run(from_tars(0), resume=True, load_from=None)
    names = {
        at: [path.split('/tars!/')[-1] for path in paths]
        for at, paths in {0: first[0], 1: first[1], **again}.items()
    }
    of_folder = {
        at: [
            path if index % 2 == 0 else str(Path(path).relative_to(images))
            for index, path in enumerate(paths)
        ]
        for at, paths in seen.items()
    }
    assert names == of_folder
    assert_same_end(found, end)
