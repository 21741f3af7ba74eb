"""Test what is around Ray's tasks, with a stand-in that runs them in this process."""

import io
import logging
import sys
import tarfile

import fsspec
import pytest
import ray_stand_in
from mmengine.logging import MMLogger

from mmcast.apis import label_with_ray, labeler
from mmcast.datasets.pseudo_label_store import PseudoLabelStore


@pytest.fixture(autouse=True)
def one_cpu(monkeypatch):
    ray_stand_in.install(monkeypatch, {'CPU': 1.0})


@pytest.fixture
def log(caplog):
    """Return pytest's record of mmengine's log."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


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


@pytest.fixture
def put_tars(teacher_world):
    """Return what makes tars of some names, each name with an image of its own."""
    files = fsspec.filesystem('memory')
    contents = iter(teacher_world.names)

    def put(*tars):
        for number, names in enumerate(tars):
            with (
                files.open(f'/tars/{number}.tar', 'wb') as file,
                tarfile.open(fileobj=file, mode='w') as tar,
            ):
                for name in names:
                    content = (teacher_world.img_root / next(contents)).read_bytes()
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        return 'tar://memory://tars'

    yield put
    files.rm('/', recursive=True)


@pytest.mark.parametrize(
    ('tars', 'owner'),
    [
        ((['x.png', 'x.jpg', 'y.png'],), 'x.jpg'),
        ((['x.png'], ['x.jpg', 'y.png']), 'x.png'),
        ((['x.jpg'], ['x.png', 'y.png']), 'x.jpg'),
    ],
)
def test_images_that_share_an_entry(
    tars, owner, put_tars, teacher_world, tmp_path, log
):
    """The store decides in the end, and once more if the command is started again."""
    images = put_tars(*tars)
    for now in (2, 0):
        log.clear()
        summary = run(teacher_world, images, tmp_path / 's')
        assert (summary.images, summary.labeled_now) == (2, now)
        (left_out,) = {'x.png', 'x.jpg'} - {owner}
        assert '1 images are named as another one but for the suffix' in log.text
        assert f'no labels: {left_out}. Rename' in log.text
        store = PseudoLabelStore.open(tmp_path / 's')
        assert sorted(name for name, _ in store.entries()) == [owner, 'y.png']


@pytest.mark.parametrize('tars', [(['x.png', 'x.png'],), (['x.png'], ['x.png'])])
def test_images_of_the_same_name(tars, put_tars, teacher_world, tmp_path, log):
    """The first one is labelled, and the warning says that there is another one."""
    summary = run(teacher_world, put_tars(*tars), tmp_path / 's')
    assert (summary.images, summary.labeled_now) == (1, 1)
    warnings = [r.getMessage() for r in log.records if r.levelno == logging.WARNING]
    assert warnings == [
        '1 images have the same name as another one, and have no labels: x.png. '
        'Rename them'
    ]
    first = PseudoLabelStore.open(tmp_path / 's').read('x.png')
    run(teacher_world, teacher_world.img_root, tmp_path / 'plain')
    expected = PseudoLabelStore.open(tmp_path / 'plain').read(teacher_world.names[0])
    assert (first.bboxes == expected.bboxes).all()


@pytest.mark.parametrize(
    ('resources', 'num_gpus', 'kind'), [({}, None, 'CPU'), ({'CPU': 1.0}, 0.5, 'GPU')]
)
def test_a_cluster_that_has_no_node_yet(
    resources, num_gpus, kind, teacher_world, tmp_path, monkeypatch
):
    ray_stand_in.install(monkeypatch, resources)
    images = teacher_world.img_root
    options = dict(num_gpus=num_gpus)
    with pytest.raises(ValueError, match=f'lists no {kind}, .* give --concurrency'):
        run(teacher_world, images, tmp_path / 's', **options)
    summary = run(teacher_world, images, tmp_path / 's', concurrency=1, **options)
    assert summary.labeled_now == len(teacher_world.names)


def test_tars_without_images(put_tars, teacher_world, tmp_path):
    images = put_tars(['a.txt'], [])
    with pytest.raises(ValueError, match="no image in the files of 'tar://memory://ta"):
        run(teacher_world, images, tmp_path / 's')


def test_images_without_a_good_name(put_tars, teacher_world, tmp_path, log):
    """They count as images, too."""
    run(teacher_world, put_tars(['../x.png', 'y.png']), tmp_path / 's')
    assert '1 of 2 images cannot be read and have no labels' in log.text
    with pytest.raises(ValueError, match='1 of 1 images cannot be read'):
        run(teacher_world, put_tars(['../x.png']), tmp_path / 'other')


def test_a_damaged_tar_is_named(put_tars, teacher_world, tmp_path):
    images = put_tars(['x.png'], ['y.png'])
    fsspec.filesystem('memory').pipe('/tars/1.tar', b'torn' * 400)
    with pytest.raises(
        ValueError, match=r"'/tars/1\.tar' cannot be read \(.*: if it is da"
    ):
        run(teacher_world, images, tmp_path / 's')


@pytest.mark.parametrize('images', ['memory://images', 'tar://images'])
def test_links_are_for_a_folder(images, teacher_world, tmp_path):
    fsspec.filesystem('memory').pipe('/images/x.png', b'')
    with pytest.raises(ValueError, match=r'link_root. is for links in a folder of thi'):
        run(teacher_world, images, tmp_path / 's', link_root=tmp_path)


def test_classes_that_cannot_be_mirrored(teacher_world, tmp_path, monkeypatch):
    """The error comes before the store is made and the cluster is started."""
    module = sys.modules[label_with_ray.__module__]
    load = module.load_model

    def load_model(*arguments):
        model = load(*arguments)
        model.dataset_meta['classes'] = ('left_eye', 'nose')
        return model

    monkeypatch.setattr(module, 'load_model', load_model)
    with pytest.raises(ValueError, match='label without mirrored views'):
        run(teacher_world, teacher_world.img_root, tmp_path / 's', flip=True)
    assert not (tmp_path / 's').exists()
