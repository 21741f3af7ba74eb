"""Kill the stages of CAST on SynthScapes at random times; compare with a straight run.

    python tools/benchmarks/crash_test.py --kills 100

It trains all stages in short twice, below ``--out``: in ``straight`` without a stop, in
``killed`` with SIGKILL to the whole process group again and again, then ``--resume``.
Every other kill waits for the first step, so that not all of them meet the start.
Both must leave the same files, bit by bit. It writes ``crash_test.md`` there, and ends
with exit status 1 if anything differs.
"""

import argparse
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from runs import hardware, make_synthscapes

from mmcast._requirements import mim_name
from mmcast.checkpoints import read_checkpoint
from mmcast.files import write_atomic

REPO = Path(__file__).resolve().parents[2]
CONFIGS = REPO / 'configs' / 'mmcast'
# Stages in order, the file that each leaves, and their iterations.
STAGES = {
    'adapt': ('teacher.pth', 16),
    'selftrain': ('teacher.pth', 12),
    'supervised': ('student.pth', 40),
    'distill': ('student.pth', 40),
    'finetune': ('student.pth', 20),
    'guided_distillation/teacher': ('teacher.pth', 20),
    'guided_distillation/distill': ('student.pth', 30),
}
INTERVAL = 4  # iterations between checkpoints


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument('--stages', nargs='+', choices=STAGES, default=[*STAGES])
    parser.add_argument('--images', type=int, default=60, help='training images')
    parser.add_argument(
        '--longest',
        type=float,
        default=20.0,
        help='longest time from the start to a kill, in seconds',
    )
    parser.add_argument(
        '--longest-training',
        type=float,
        default=5.0,
        help='longest time from the first step to a kill, in seconds',
    )
    parser.add_argument('--seed', type=int, default=0, help='of the times')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/crash_test'))
    return parser.parse_args()


def command(stage: str, resume: bool) -> list[str]:
    """Return the command that trains a stage, or continues it."""
    iterations = STAGES[stage][1]
    options = {
        'randomness.seed': 0,
        'train_cfg.max_iters': iterations,
        'default_hooks.checkpoint.interval': INTERVAL,
        'default_hooks.checkpoint.max_keep_ckpts': 1,
        'default_hooks.logger.interval': 1,
    }
    if stage == 'guided_distillation/distill':
        options['default_hooks.teacher_update.burn_in_iters'] = iterations // 2
    mim = Path(sys.executable).with_name('mim')
    words = [str(mim), 'train', mim_name(), str(CONFIGS / f'{stage}_synthscapes.py')]
    words += ['--resume'] if resume else []
    return [*words, '--cfg-options', *(f'{k}={v}' for k, v in options.items())]


def train(
    stage: str, root: Path, seconds: float | None, after: str = ''
) -> tuple[bool, str]:
    """Train a stage for some seconds at most, then kill it.

    Args:
        stage: Name of the stage.
        root: Folder to run in.
        seconds: Time to the kill; None for a run to its end.
        after: The time starts when the output has this text.

    Returns:
        Whether it ended by itself, and what it was doing when it was killed.

    Raises:
        RuntimeError: It failed.
    """
    folder = root / 'work_dirs' / f'{stage}_synthscapes'
    resume = (folder / 'last_checkpoint').is_file()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / 'crash_test.log'
    with log.open('w') as file:
        process = subprocess.Popen(
            command(stage, resume),
            cwd=root,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1'},
            start_new_session=True,
        )
        while after not in log.read_text() and process.poll() is None:
            time.sleep(0.02)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False, _phase(log.read_text())
    if process.returncode:
        tail = '\n'.join(log.read_text().splitlines()[-15:])
        raise RuntimeError(f'{tail}\n{stage} failed; the whole output is in {log}')
    return True, ''


def _phase(output: str) -> str:
    """Say what a run was doing when its output ended."""
    marks = {
        'labelling': 'Labelling',
        'training': r'Iter\(train\)',
        'saving': 'Saving checkpoint',
        'exporting': 'Exported the plain',
    }
    places = {
        name: max((m.start() for m in re.finditer(mark, output)), default=-1)
        for name, mark in marks.items()
    }
    last = max(places, key=lambda name: places[name])
    return last if places[last] >= 0 else 'starting'


def differences(one: Path, other: Path) -> int:
    """Count the weights in which two checkpoints differ."""
    left, right = (read_checkpoint(path)['state_dict'] for path in (one, other))
    if left.keys() != right.keys():
        return len(left.keys() ^ right.keys())
    return sum(not torch.equal(left[name], right[name]) for name in left)


def main() -> None:
    args = parse_args()
    straight, killed = args.out.resolve() / 'straight', args.out.resolve() / 'killed'
    chance = random.Random(args.seed)
    phases: Counter[str] = Counter()
    kills: Counter[str] = Counter()
    for folder in (straight, killed):
        if folder.exists():
            sys.exit(f'error: {folder} exists: remove it, or give another --out')
    start = time.monotonic()
    bar = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    try:
        images = dict(train=args.images, val=8, labeled=args.images // 3)
        make_synthscapes(straight / 'data/synthscapes/target', **images)
        killed.mkdir()
        (killed / 'data').symlink_to(straight / 'data')
        with bar:
            task = bar.add_task('straight', total=len(args.stages))
            for stage in args.stages:
                train(stage, straight, None)
                bar.advance(task)
            task = bar.add_task('kills', total=args.kills)
            for done, stage in enumerate(args.stages):
                # Share the kills that are left among the stages that are left.
                share = -(-(args.kills - kills.total()) // (len(args.stages) - done))
                ended = False
                while not ended:
                    limit, after = None, ''
                    if kills[stage] < share:
                        limit = chance.uniform(0, args.longest)
                        if kills[stage] % 2:
                            limit = chance.uniform(0, args.longest_training)
                            after = 'Iter(train)'
                    ended, phase = train(stage, killed, limit, after)
                    if not ended:
                        kills[stage] += 1
                        phases[phase] += 1
                        bar.advance(task)
    except RuntimeError as error:
        sys.exit(f'error: {error}')
    rows = ['| stage | kills | weights that differ |', '|---|---|---|']
    total = 0
    for stage in args.stages:
        path = Path('work_dirs', f'{stage}_synthscapes', STAGES[stage][0])
        count = differences(straight / path, killed / path)
        total += count
        rows.append(f'| {stage} | {kills[stage]} | {count} |')
    rows += ['', '| killed while | times |', '|---|---|']
    rows += [f'| {phase} | {count} |' for phase, count in phases.most_common()]
    minutes = (time.monotonic() - start) / 60
    head = (
        f'`python tools/benchmarks/crash_test.py {shlex.join(sys.argv[1:])}` on '
        f'{hardware("cpu")}, {minutes:.0f} minutes.\n'
    )
    text = '\n'.join([head, *rows, ''])
    write_atomic(args.out / 'crash_test.md', text)
    print(text)
    if total:
        sys.exit(f'error: {total} weights differ')


if __name__ == '__main__':
    main()
