"""Test that a few unreadable images do not end a run, and that many do."""

import shutil
from pathlib import Path

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmcast.datasets.semi_supervised import SemiSupervisedDataset
from mmcast.datasets.splits import read_list
from mmcast.engine.hooks import UnreadableImagesHook
from mmcast.testing import reduced


def truncate(path):
    path.write_bytes(path.read_bytes()[:100])


class Rename(Hook):
    """Rename the data root after the checkpoint of iteration 4."""

    priority = 'LOWEST'

    def __init__(self, data):
        self.data = data

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 3:
            self.data.rename(self.data.with_name('gone'))


def start(name, data, share, workers=0, **changes):
    config = reduced(name, data, {})
    config.update(changes)
    config.default_hooks.checkpoint.interval = 4
    config.train_dataloader.num_workers = workers
    config.train_dataloader.dataset.unreadable_share = share
    config.train_cfg.max_iters = 16  # workers read 4 batches ahead
    return Runner.from_cfg(config)


def log_of(runner):
    return ''.join(path.read_text() for path in Path(runner.log_dir).glob('*.log'))


@pytest.mark.parametrize('damage', [truncate, lambda path: path.write_text('no image')])
def test_damaged_image_is_skipped_and_named(
    damage, work_of_adapt, synthscapes, tmp_path, monkeypatch
):
    data = shutil.copytree(synthscapes, tmp_path / 'data')
    monkeypatch.chdir(shutil.copytree(work_of_adapt, tmp_path / 'run'))
    damaged = data / 'leftImg8bit/train' / read_list(data / 'splits/unlabeled.txt')[3]
    damage(damaged)
    runner = start('distill_synthscapes', data, 0.1)
    runner.train()
    log = log_of(runner)
    assert f'1 of 8 images cannot be read and have no labels: {damaged}' in log
    skipped = '1 unlabelled images were skipped, since they cannot be read'
    assert f'{skipped}: {damaged}' in log
    # Labels of a labeller that is not here, as SAM 3, lack this image, too.
    (tmp_path / 'run/work_dirs/adapt_synthscapes/teacher.pth').unlink()
    runner = start('distill_synthscapes', data, 0.1, work_dir='again')
    runner.train()
    assert f'1 of 8 images cannot be read and have no labels: {damaged}' in log_of(
        runner
    )


@pytest.mark.parametrize('workers', [0, 2])
def test_image_that_vanishes_in_training_is_skipped(
    workers, work_of_adapt, synthscapes, tmp_path, monkeypatch
):
    data = shutil.copytree(synthscapes, tmp_path / 'data')
    monkeypatch.chdir(shutil.copytree(work_of_adapt, tmp_path / 'run'))
    runner = start('distill_synthscapes', data, 0.1, workers)
    name = read_list(data / 'splits/unlabeled.txt')[3]
    hook = next(h for h in runner.hooks if type(h).__name__ == 'PseudoLabelHook')
    before_train = hook.before_train

    def label_and_delete(runner):
        before_train(runner)
        (data / 'leftImg8bit/train' / name).unlink()

    monkeypatch.setattr(hook, 'before_train', label_and_delete)
    runner.train()
    assert '1 unlabelled images were skipped' in log_of(runner)


@pytest.mark.parametrize('workers', [0, 2])
def test_data_that_vanish_in_training_are_one_error(
    workers, work_of_adapt, synthscapes, tmp_path, monkeypatch
):
    """Rename the data root while the first iteration is at work, then continue."""
    data = shutil.copytree(synthscapes, tmp_path / 'data')
    monkeypatch.chdir(shutil.copytree(work_of_adapt, tmp_path / 'run'))
    runner = start('distill_synthscapes', data, 1.0, workers)
    runner.register_hook(Rename(data))
    with pytest.raises(FileNotFoundError, match=r"train/' is gone, or empty: bring"):
        runner.train()
    assert 'skipped, cannot be read' not in log_of(runner)
    assert Path('work_dirs/distill_synthscapes/iter_4.pth').is_file()
    (tmp_path / 'gone').rename(data)
    resumed = start('distill_synthscapes', data, 1.0, workers, resume=True)
    resumed.train()
    assert resumed.iter == 16


def test_too_many_end_the_run(work_of_adapt, synthscapes, tmp_path, monkeypatch):
    data = shutil.copytree(synthscapes, tmp_path / 'data')
    monkeypatch.chdir(shutil.copytree(work_of_adapt, tmp_path / 'run'))
    names = read_list(data / 'splits/unlabeled.txt')
    runner = start('distill_synthscapes', data, 0.1)
    hook = next(h for h in runner.hooks if type(h).__name__ == 'PseudoLabelHook')
    before_train = hook.before_train

    def label_and_damage(runner):
        before_train(runner)
        for name in names[:4]:
            truncate(data / 'leftImg8bit/train' / name)

    monkeypatch.setattr(hook, 'before_train', label_and_damage)
    with pytest.raises(ValueError, match=r'[234] unlabelled images .* allows 1'):
        runner.train()


def test_a_run_without_the_hook_gets_it(
    work_of_adapt, synthscapes, tmp_path, monkeypatch
):
    """As with the twelve lines for a user's own detector."""
    data = shutil.copytree(synthscapes, tmp_path / 'data')
    monkeypatch.chdir(shutil.copytree(work_of_adapt, tmp_path / 'run'))
    truncate(data / 'leftImg8bit/train' / read_list(data / 'splits/unlabeled.txt')[3])
    runner = start('distill_synthscapes', data, 0.1)
    runner._hooks = [
        hook for hook in runner.hooks if not isinstance(hook, UnreadableImagesHook)
    ]
    runner.train()
    assert '1 unlabelled images were skipped' in log_of(runner)


def test_labelled_image_stays_an_error(
    work_of_adapt, synthscapes, tmp_path, monkeypatch
):
    data = shutil.copytree(synthscapes, tmp_path / 'data')
    monkeypatch.chdir(shutil.copytree(work_of_adapt, tmp_path / 'run'))
    runner = start('distill_synthscapes', data, 1.0)
    for name in read_list(data / 'splits/labeled.txt'):
        truncate(data / 'leftImg8bit/train' / name)
    with pytest.raises(ValueError, match=r'cannot be read \(no image\)'):
        runner.train()


@pytest.mark.parametrize('share', [-0.1, 1.5])
def test_share_outside_of_0_and_1_raises(share):
    with pytest.raises(ValueError, match='give a number from 0 to 1'):
        SemiSupervisedDataset({}, [], unreadable_share=share)
