"""Measure a store of generated labels: files, bytes, time to write, open and read.

    python tools/benchmarks/label_store.py --layout shards --count 1000000

All entries share one small mask. Times are wall-clock seconds, and seconds of the
processor in brackets, as other work may share it. `open` is the first read of a fresh
process: with shards it makes the index the first time, and maps it later. Memory is
what the reads add: in the parent, and in each of 4 forked workers the pages that it
shares with no other process. Each part runs in a process of its own.
"""

import argparse
import itertools
import json
import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from mmcast.datasets.pseudo_label_entry import format_entry
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher

WORKERS = 4
READS = 10_000
IN_ORDER = 20_000
FORK = multiprocessing.get_context('fork')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--layout', choices=('folder', 'shards'), default='shards')
    parser.add_argument('--count', type=int, default=1_000_000)
    parser.add_argument('--root', type=Path, default=Path('work_dirs/label_store'))
    return parser.parse_args()


def name_of(i: int) -> str:
    """Return the name of an image."""
    return f'{i // 1000:05d}/image_{i:08d}_leftImg8bit.png'


def write(root: Path, layout: str, count: int) -> dict[str, Any]:
    """Write all entries."""
    store = PseudoLabelStore.create(
        root, classes=['a'], teacher=Teacher('', '', ''), layout=layout
    )
    rle = mask_utils.encode(np.asfortranarray(np.eye(32, 64, dtype=np.uint8)))
    entry = format_entry('NAME', (32, 64), [0], [0.5], [[4, 4, 20, 20]], [rle])
    content = json.dumps(entry, separators=(',', ':')) + '\n'
    clock = Clock()
    for i in range(count):
        name = name_of(i)
        data = content.replace('NAME', name).encode()
        store.files.put(f'{name[:-4]}.json', data)
    store.flush()
    return dict(write=clock.text())


def size(root: Path) -> dict[str, Any]:
    """Count files and the bytes that they take on the disk."""
    files = [path.stat() for path in root.rglob('*') if path.is_file()]
    return dict(files=len(files), disk_mb=sum(each.st_blocks for each in files) / 2048)


def read(root: Path, count: int) -> dict[str, Any]:
    """Open the store and read at random, then in order."""
    store = PseudoLabelStore.open(root)
    before = memory_mb('Rss')
    clock = Clock()
    store.read(name_of(count // 2))
    report: dict[str, Any] = dict(open=clock.text())
    names = [name_of(random.randrange(count)) for _ in range(READS)]
    clock = Clock()
    slowest = 0.0
    for name in names:
        begin = time.perf_counter()
        store.read(name)
        slowest = max(slowest, time.perf_counter() - begin)
    report[f'{READS} at random'] = clock.text()
    report['slowest_ms'] = 1000 * slowest
    report['parent_mb'] = memory_mb('Rss') - before
    queue: Any = FORK.Queue()
    workers = [FORK.Process(target=work, args=(store, i, queue)) for i in range(4)]
    for worker in workers:
        worker.start()
    report['worker_private_mb'] = max(queue.get() for _ in workers)
    for worker in workers:
        worker.join()
    clock = Clock()
    for _ in itertools.islice(store.entries(), IN_ORDER):
        pass
    report[f'{min(count, IN_ORDER)} in order'] = clock.text()
    return report


def work(store: PseudoLabelStore, number: int, queue: Any) -> None:
    """Read a worker's share of the entries, and send the memory that it took."""
    before = memory_mb('Private_Dirty')
    for i in range(number, READS, WORKERS):
        store.read(name_of(i))
    queue.put(memory_mb('Private_Dirty') - before)


def ask(root: Path, count: int) -> dict[str, Any]:
    """Ask which of all images have no labels."""
    names = [name_of(i) for i in range(count)]
    before = memory_mb('Rss')
    clock = Clock()
    assert PseudoLabelStore.open(root).missing(names) == []
    return dict(missing=clock.text(), missing_mb=memory_mb('VmHWM') - before)


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def text(self) -> str:
        """Return seconds, and those of the processor."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return f'{wall:.3f} s ({cpu:.3f})'


def memory_mb(kind: str) -> float:
    """Return this process's memory: the peak is ``'VmHWM'``."""
    file = 'status' if kind == 'VmHWM' else 'smaps_rollup'
    lines = Path(f'/proc/self/{file}').read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(f'{kind}:')) / 1024


def in_process(function: Callable, *arguments: Any) -> None:
    """Run a part in a process of its own and print what it returns."""
    process = FORK.Process(target=lambda: print(function(*arguments), flush=True))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f'{function.__name__} failed')


def main() -> None:
    """Measure each part."""
    args = parse_args()
    shutil.rmtree(args.root, ignore_errors=True)
    in_process(write, args.root, args.layout, args.count)
    in_process(read, args.root, args.count)
    in_process(read, args.root, args.count)
    in_process(ask, args.root, args.count)
    in_process(size, args.root)
    shutil.rmtree(args.root)


if __name__ == '__main__':
    main()
