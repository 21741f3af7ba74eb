"""Test what is around Ray's tasks, with a stand-in that runs them in this process."""

import pytest
import ray_stand_in

from mmcast.apis import label_with_ray, labeler
from mmcast.datasets.pseudo_label_store import PseudoLabelStore


@pytest.fixture(autouse=True)
def one_cpu(monkeypatch):
    ray_stand_in.install(monkeypatch, {'CPU': 1.0})


def run(world, images, store, **options):
    teacher = world.config, world.checkpoint
    return label_with_ray(*teacher, images, store, num_workers=0, **options)


def fail_on(monkeypatch, names):
    """Let every teacher fail on the images whose paths end with these names."""
    load = labeler.load_model

    def load_model(*arguments):
        model = load(*arguments)
        step = model.test_step

        def test_step(data):
            if data['data_samples'][0].img_path.endswith(names):
                raise IndexError('Kernel size can not be greater than the input')
            return step(data)

        model.test_step = test_step
        return model

    monkeypatch.setattr(labeler, 'load_model', load_model)


def test_a_teacher_that_fails_on_all_is_a_bug(teacher_world, tmp_path, monkeypatch):
    """A task has 2 or 3 of the 10 images, fewer than prove that it is a bug."""
    names = teacher_world.names
    images = teacher_world.img_root
    with monkeypatch.context() as patch:
        fail_on(patch, ('png',))
        with pytest.raises(IndexError, match='Kernel size'):
            run(teacher_world, images, tmp_path / 's')
    store = PseudoLabelStore.open(tmp_path / 's')
    assert store.missing(names) == names

    # The teacher has worked before the last task, which has these two images alone.
    last = sorted(names)[-2:]
    fail_on(monkeypatch, tuple(last))
    assert run(teacher_world, images, tmp_path / 's').labeled_now == len(names)
    assert [len(store.read(name).scores) for name in last] == [0, 0]
