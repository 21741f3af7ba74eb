"""Test that data workers end when their trainer is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAINER = """
import os, sys, time
from torch.utils.data import DataLoader
from mmengine.registry import FUNCTIONS
import mmcast.datasets

class Big:
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        return b'x' * 1_000_000  # more than a pipe holds, so that a worker blocks

loader = DataLoader(
    Big(), num_workers=2, collate_fn=list,
    worker_init_fn=FUNCTIONS.get('end_with_parent'),
)
iterator = iter(loader)
next(iterator)
print(*(worker.pid for worker in iterator._workers), flush=True)
time.sleep(600)
"""


CONVERTER = """
import multiprocessing, time
from mmcast.datasets import cityscapes_to_coco as module

def read_image(root, split, name):
    return time.sleep(name > 8 and 600)

module.find_images = lambda *_: range(100)
module.read_image = read_image
images = module.read_images('', '', 2)
next(images)
print(*(each.pid for each in multiprocessing.active_children()), flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != 'Z'


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs prctl')
@pytest.mark.parametrize('script', [TRAINER, CONVERTER], ids=['trainer', 'converter'])
def test_workers_end_with_what_they_work_for(script):
    process = subprocess.Popen(
        [sys.executable, '-c', script], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = next(line for line in process.stdout if line[0].isdigit())
    workers = [int(pid) for pid in line.split()]
    assert len(workers) == 2
    assert all(alive(pid) for pid in workers)
    os.kill(process.pid, signal.SIGKILL)
    # The pipe ends only when the last of them has gone.
    assert process.communicate(timeout=60)[0] == ''
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(alive(pid) for pid in workers)
