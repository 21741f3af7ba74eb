"""Run the scripts of tools/slurm where processes stand in for Slurm's nodes."""

import os
import re
import shutil
import socket
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch
from gloo_ranks import two_ranks
from mmengine.config import Config
from mmengine.runner import Runner
from resuming import assert_same_end

import mmcast
from mmcast._requirements import mim_name
from mmcast.checkpoints import read_checkpoint
from mmcast.cli import main
from mmcast.testing import reduced

SLURM = Path(mmcast.__file__).resolve().parents[1] / 'tools/slurm'
SRUN = """#!/bin/sh
test "$1" = --kill-on-bad-exit=1 && shift
for node in $(seq "$SLURM_JOB_NUM_NODES"); do "$@" & nodes="$nodes $!"; done
for node in $nodes; do wait "$node"; done
"""
SCONTROL = '#!/bin/sh\necho localhost\necho another'
# For a config: mmengine's launcher wants a GPU.
WITHOUT_GPU = "__import__('torch').cuda.set_device = lambda device: None\n"


class Slurm:
    """Stand in for a cluster: each task of an array, and each node, is a process."""

    def __init__(self, folder, warm):
        scripts = Path(sysconfig.get_path('scripts'))
        programs = {
            'srun': SRUN,
            'scontrol': SCONTROL,
            'mmcast': f'#!/bin/sh\nexec python {scripts / "mmcast"} "$@"',
            'torchrun': f'#!/bin/sh\nexec {scripts / "torchrun"} "$@"',
        }
        for name, text in programs.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        path = f'{folder}:{warm.bin}:{os.environ["PATH"]}'
        self.environment = {**os.environ, 'PATH': path}

    def sbatch(self, script, *words, **given):
        """Run a script of tools/slurm; return its output."""
        text = (SLURM / f'{script}.sbatch').read_text()
        text = text.replace('mim run mmdet', f'mim run {mim_name()}')
        options = dict(re.findall(r'^#SBATCH --([\w-]+)=(\S+)', text, re.MULTILINE))
        options |= {key.replace('_', '-'): str(value) for key, value in given.items()}
        job = {'SLURM_JOB_ID': '7'}
        if 'nodes' in options:
            with socket.create_server(('localhost', 0)) as free:
                job['MASTER_PORT'] = str(free.getsockname()[1])
            job['SLURM_JOB_NUM_NODES'] = options['nodes']
            job['SLURM_JOB_NODELIST'] = 'node[1-2]'
            job['SLURM_GPUS_PER_NODE'] = options['gpus-per-node']
        tasks = [job]
        if 'array' in options:
            first, last = map(int, options['array'].split('-'))
            for name, number in (
                ('MIN', first),
                ('MAX', last),
                ('COUNT', last - first + 1),
            ):
                job[f'SLURM_ARRAY_TASK_{name}'] = str(number)
            tasks = [
                {**job, 'SLURM_ARRAY_TASK_ID': str(task)}
                for task in range(first, last + 1)
            ]
        running = [
            subprocess.Popen(
                ['sh', '-c', text, script, *map(str, words)],
                env={**self.environment, **task},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for task in tasks
        ]
        outputs = [each.communicate(timeout=600)[0] for each in running]
        for each, output in zip(running, outputs, strict=True):
            assert each.returncode == 0, output
        return ''.join(outputs)


@pytest.fixture
def slurm(tmp_path, warm, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'bin').mkdir()
    return Slurm(tmp_path / 'bin', warm)


def test_an_array_labels_and_its_store_is_merged(slurm, teacher_world):
    """Compare with what one process labels."""
    teacher = [teacher_world.config, teacher_world.checkpoint]
    images = ['--images', teacher_world.img_root]
    with pytest.raises(AssertionError, match='give --array=1-N'):
        slurm.sbatch('label', *teacher, *images, '--store', 'parts', array='2-3')
    slurm.sbatch('label', *teacher, *images, '--store', 'parts', array='1-2')
    assert len(list(Path('parts/shards').glob('*.tar'))) == 2
    output = slurm.sbatch('merge', 'parts', 'whole')
    assert '1 shards are whole: 10 images' in output
    alone = [*teacher, *images, '--store', 'alone', '--layout', 'shards']
    main(['label', *map(str, alone)])
    main(['store', 'merge', 'alone', '--out', 'expected'])
    one, other = (Path(name, 'shards').glob('*.tar') for name in ('whole', 'expected'))
    # A shard is named after its bytes.
    assert [path.name for path in one] == [path.name for path in other]


def test_two_nodes_train_as_one_node_with_two_ranks(
    slurm, synthscapes, work_of_adapt, monkeypatch
):
    """Distill by torchrun on both nodes; compare with two ranks of one node."""
    if torch.cuda.is_initialized():
        pytest.skip('a forked child cannot use the GPU')
    shutil.copytree(work_of_adapt / 'work_dirs', 'work_dirs')
    config = reduced('distill_synthscapes', synthscapes, {})
    config.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
    config.env_cfg.dist_cfg.backend = 'gloo'
    config.randomness = dict(seed=3)
    config.default_hooks.logger.interval = 1
    config.default_hooks.checkpoint.update(interval=2)
    store = Path('work_dirs/adapt_synthscapes/pseudo_labels')
    Path('distill.py').write_text(WITHOUT_GPU + config.pretty_text)
    output = slurm.sbatch('train', 'distill.py', nodes=2, gpus_per_node=1)
    end = read_checkpoint(f'{config.work_dir}/iter_2.pth')
    assert len(list(store.rglob('*_*.json'))) == 8
    messages = ('Labelling 8 of 8 images', 'Pseudo-labels of 8', 'Exported the plain')
    for text in (*messages, 'Saving checkpoint at 2', r'\(train\) *\[2/2\]'):
        assert len(re.findall(text, output)) == 1, text
    assert len(list(Path(config.work_dir).glob('*/*.log'))) == 1

    config = Config.fromstring(config.pretty_text, '.py')
    config.work_dir = 'work_dirs/one_node'
    config.launcher = 'pytorch'

    def work(rank):
        monkeypatch.setenv('LOCAL_RANK', str(rank))
        Runner.from_cfg(config).train()

    assert two_ranks(work, Path.cwd()) == [0, 0]
    assert_same_end(read_checkpoint('work_dirs/one_node/iter_2.pth'), end)
