"""Label on a Ray cluster of two nodes, where Ray is installed."""

import shutil
import threading
import time

import pytest

from mmcast.apis import label, label_with_ray, merge_stores

pytest.importorskip('ray.data', reason='Ray Data is not installed')

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
    merged = []
    for name in 'ray', 'plain':
        merge_stores([tmp_path / name], tmp_path / f'merged_{name}')
        files = sorted((tmp_path / f'merged_{name}/shards').glob('*.tar'))
        merged.append([file.name for file in files])  # named after their bytes
    assert merged[0] == merged[1]

    next(shards.glob('*.tar')).unlink()
    again = label_with_ray(*teacher, images, tmp_path / 'ray', num_workers=0)
    assert 0 < again.labeled_now < COPIES * len(teacher_world.names) / 2
