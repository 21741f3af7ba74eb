"""Compare labelling by Ray with the plain labeller: processor time, images a second.

    python tools/benchmarks/ray_labelling.py --images 40 240

A tiny teacher with random weights, or `--teacher CONFIG CHECKPOINT`, labels generated
images: in two jobs `--shard I/2`, and in two actors of Ray. The sides take turns.
Processor time is that of all processes, those of Ray's cluster too; the second number
of images less the first is without the start.
"""

import argparse
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from labelling import make_images, save_tiny_teacher

PR_SET_CHILD_SUBREAPER = 36


def run(*commands: list[str]) -> tuple[float, float]:
    """Run commands at once; return seconds, and those of the processor."""
    before, begin = _used(), time.perf_counter()
    running = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for words in commands]
    if any(each.wait() for each in running):
        raise RuntimeError('a command failed')
    seconds = time.perf_counter() - begin
    while True:  # Ray's daemons, which are children of this process now
        try:
            os.wait()
        except ChildProcessError:
            return seconds, _used() - before


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure each side, for each number of images."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=int, nargs=2, default=(40, 240))
    parser.add_argument('--repeats', type=int, default=1)
    parser.add_argument('--teacher', nargs=2, metavar=('CONFIG', 'CHECKPOINT'))
    parser.add_argument(
        '--size', type=int, nargs=2, default=(64, 128), metavar=('HEIGHT', 'WIDTH')
    )
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = tuple(args.size)
        teacher = args.teacher or [*map(str, save_tiny_teacher(folder, size))]
        for count in args.images:
            make_images(folder / str(count), count, size)
        for repeat in range(args.repeats):
            for count in args.images:
                words = [sys.executable, '-m', 'mmcast', 'label', *teacher]
                words += ['--images', str(folder / str(count)), '--num-workers', '0']
                store = str(folder / f'{count}_{repeat}')
                ray = ['--engine', 'ray', '--concurrency', '2']
                plain = [*words, '--store', f'{store}_plain', '--layout', 'shards']
                for side, commands in {
                    'plain': [[*plain, '--shard', f'{i}/2'] for i in (1, 2)],
                    'ray': [[*words, *ray, '--store', f'{store}_ray']],
                }.items():
                    wall, used = run(*commands)
                    print(
                        f'{side}: {count} images in {wall:.1f} s, processor '
                        f'{used:.1f} s',
                        flush=True,
                    )


if __name__ == '__main__':
    main()
