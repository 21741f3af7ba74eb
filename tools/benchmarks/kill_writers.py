"""Kill processes that fill a store of shards; compare it with that of one process.

    python tools/benchmarks/kill_writers.py --kills 50

8 processes write a share each. Each time that a random number of images is written,
SIGKILL hits one that is running, and it starts again: it saves what is left open and
writes what is missing. An entry counts as written as soon as `write` returned. In the
end the store, merged, must have the bytes of the merged store of a single process.
"""

import argparse
import multiprocessing
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from mmcast.datasets import shard_file
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.store_copy import merge_stores, verify_store

WRITERS = 8
FORK = multiprocessing.get_context('fork')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--count', type=int, default=20_000, help='images')
    parser.add_argument('--members', type=int, default=256, help='images of a shard')
    return parser.parse_args()


def names_of(count: int) -> list[str]:
    """Name the images."""
    return [f'{i // 1000:03d}/{i:06d}.png' for i in range(count)]


def fill(root: Path, part: int, of: int, count: int, written: Any) -> None:
    """Write what is missing of a share; note each image that is written."""
    store = PseudoLabelStore.create(
        root, classes=['a'], teacher=Teacher('', '', ''), layout='shards'
    )
    store.remove_leftovers()
    mask = np.asfortranarray(np.eye(32, 64, dtype=np.uint8))
    rle = mask_utils.encode(mask)
    for name in store.missing(names_of(count)[part::of]):
        i = int(name[4:-4])
        store.write(name, (32, 64), [0], [i % 997 / 997], [[0, 0, 9, i % 30]], [rle])
        written[i] = 1
    store.flush()


def main() -> None:
    """Run the campaign."""
    args = parse_args()
    shard_file.MOST_MEMBERS = args.members
    with tempfile.TemporaryDirectory() as name:
        one, many = Path(name, 'one'), Path(name, 'many')
        fill(one, 0, 1, args.count, bytearray(args.count))
        written = FORK.RawArray('b', args.count)

        def start(part: int) -> Any:
            arguments = (many, part, WRITERS, args.count, written)
            process = FORK.Process(target=fill, args=arguments)
            process.start()
            return process

        running = {part: start(part) for part in range(WRITERS)}
        done = np.frombuffer(written, np.int8)
        kills, idle = 0, 0
        for target in sorted(random.choices(range(args.count), k=args.kills)):
            while done.sum() < target:
                time.sleep(0.001)
            alive = [part for part, each in running.items() if each.is_alive()]
            part = random.choice(alive or [*running])
            running[part].kill()
            running[part].join()
            kills += running[part].exitcode < 0
            idle += running[part].exitcode == 0
            running[part] = start(part)
        for process in running.values():
            process.join()
            assert process.exitcode == 0
        store = PseudoLabelStore.open(many)
        store.remove_leftovers()
        missing = store.missing(names_of(args.count))
        lost = [each for each in missing if done[int(each[4:-4])]]
        merge_stores([one], Path(name, 'a'))
        merge_stores([many], Path(name, 'b'))
        files = [
            {
                path.name: path.read_bytes()
                for path in Path(name, each, 'shards').iterdir()
            }
            for each in 'ab'
        ]
        print(f'{kills} writers killed, {idle} had ended; many: {verify_store(many)}')
        print(f'written, but lost: {len(lost)}; missing: {len(missing)}')
        print(f'merged stores are equal: {files[0] == files[1]}')


if __name__ == '__main__':
    main()
