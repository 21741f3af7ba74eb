"""Label on a Ray cluster of two nodes, where Ray is installed."""

import shutil
import tarfile
import threading
import time

import pytest

from mmcast.apis import label, label_with_ray, merge_stores

pytest.importorskip('ray.data', reason='Ray Data is not installed')

import pyarrow
import pyarrow.parquet
from ray import init, shutdown
from ray.cluster_utils import Cluster

COPIES = 20


@pytest.fixture
def cluster():
    nodes = Cluster(initialize_head=True, head_node_args={'num_cpus': 1})
    second = nodes.add_node(num_cpus=1)
    init(address=nodes.address)
    yield nodes, second
    shutdown()
    nodes.shutdown()


def merged(store):
    """Return the names of the shards, which are named after their bytes."""
    out = store.with_name(f'merged_{store.name}')
    merge_stores([store], out)
    return sorted(file.name for file in (out / 'shards').glob('*.tar'))


def rows_of(images):
    paths = [path for path in images.rglob('*') if path.is_file()]
    return [
        dict(path=str(path.relative_to(images)), bytes=path.read_bytes())
        for path in paths
    ]


def as_tars(images, place):
    place.mkdir()
    for folder in images.iterdir():
        with tarfile.open(place / f'{folder.name}.tar', 'w') as tar:
            tar.add(folder, folder.name)
            tar.add(__file__, f'{folder.name}.txt')
    return f'tar://file://{place}'


def as_parquet(images, place):
    place.mkdir()
    table = pyarrow.Table.from_pylist([*rows_of(images), dict(path='../x.png')])
    pyarrow.parquet.write_table(table.slice(0, 2), place / '0.parquet')
    pyarrow.parquet.write_table(table.slice(2), place / '1.parquet')
    return f'parquet://{place}'


def as_hugging_face(images, place):
    table = pyarrow.Table.from_pylist([dict(image=row) for row in rows_of(images)])
    pyarrow.parquet.write_table(table, place)
    return f'parquet://file://{place}'


def as_folder(images, place):
    shutil.copytree(images, place)
    return f'file://{place}'


@pytest.fixture
def one_node():
    init('local', num_cpus=1)  # it has room for an actor and a reader
    yield
    shutdown()


@pytest.mark.parametrize('move', [as_folder, as_tars, as_parquet, as_hugging_face])
def test_images_of_any_file_system(move, one_node, teacher_world, tmp_path, caplog):
    images = tmp_path / 'images'
    shutil.copytree(teacher_world.img_root, images)
    count = len(teacher_world.names)
    (images / 'torn.png').write_bytes(b'no image')
    place = move(images, tmp_path / 'moved')
    teacher = teacher_world.config, teacher_world.checkpoint
    summary = label_with_ray(
        *teacher, place, tmp_path / 'ray', num_workers=0, concurrency=1
    )
    assert summary.labeled_now == summary.images == count
    label(*teacher, images, tmp_path / 'plain', layout='shards', num_workers=0)
    assert merged(tmp_path / 'ray') == merged(tmp_path / 'plain')

    again = label_with_ray(
        *teacher, place, tmp_path / 'ray', num_workers=0, concurrency=1
    )
    assert (again.labeled_now, again.images) == (0, count)


def test_images_that_cannot_be_read_as_rows(one_node, teacher_world, tmp_path):
    teacher = teacher_world.config, teacher_world.checkpoint
    pyarrow.parquet.write_table(pyarrow.table({'jpg': [b'']}), tmp_path / 'x.parquet')
    for place, message in {
        f'parquet://{tmp_path}/x.parquet': 'has the columns jpg .binary.: give it',
        f'tar://file://{tmp_path}': 'there is no .tar file in .file://',
    }.items():
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            label_with_ray(*teacher, place, tmp_path / 'store')
    (tmp_path / 'x.tar').write_bytes(b'')
    with pytest.raises(ValueError, match='a list is for a folder of images'):
        label_with_ray(
            *teacher, f'tar://file://{tmp_path}', tmp_path / 'store', list='x.txt'
        )


def test_the_error_of_an_actor(one_node, teacher_world, tmp_path):
    """It is the error that was raised there, not one of Ray's."""
    config = tmp_path / 'teacher.py'
    config.write_text(
        f'_base_ = {str(teacher_world.config)!r}\n'
        'model = dict(data_preprocessor=dict(pad_size_divisor=0))\n'
    )
    with pytest.raises(ZeroDivisionError) as found:
        label_with_ray(
            *(config, teacher_world.checkpoint, teacher_world.img_root),
            tmp_path / 'store',
            num_workers=0,
            concurrency=1,
        )
    assert str(found.value).startswith('division by zero')


def test_a_killed_node_changes_no_label(cluster, teacher_world, tmp_path):
    """Kill one of two nodes after the third shard; compare with the plain labeller."""
    nodes, second = cluster
    images = tmp_path / 'images'
    for copy in range(COPIES):
        shutil.copytree(teacher_world.img_root, images / str(copy))
    (images / 'torn.png').write_bytes(b'no image')
    teacher = teacher_world.config, teacher_world.checkpoint
    shards = tmp_path / 'ray/shards'

    def kill():
        while len(list(shards.glob('*.tar'))) < 3:
            time.sleep(0.02)
        nodes.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    summary = label_with_ray(*teacher, images, tmp_path / 'ray', num_workers=0)
    killer.join()
    assert summary.labeled_now == summary.images == COPIES * len(teacher_world.names)
    assert not list(shards.glob('.open.*'))

    label(*teacher, images, tmp_path / 'plain', layout='shards', num_workers=0)
    assert merged(tmp_path / 'ray') == merged(tmp_path / 'plain')

    next(shards.glob('*.tar')).unlink()
    again = label_with_ray(*teacher, images, tmp_path / 'ray', num_workers=0)
    assert 0 < again.labeled_now < COPIES * len(teacher_world.names) / 2
