"""Write a SynthScapes data set: its manifest, then all missing images."""

import json
import multiprocessing
import os
import re
import signal
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from ...files import remove_killed, write_atomic
from ..workers import end_with_parent
from .domains import DOMAINS
from .files import image_files, write_image

MANIFEST = 'synthscapes.json'
# Raise it with every change that alters a pixel: a root never mixes versions.
GENERATOR_VERSION = 3
SMALLEST_SIDE = 32
CHUNK = 8  # images handed to a process at a time


def generate(
    root: str | os.PathLike[str],
    splits: Mapping[str, int],
    domain: str,
    size: tuple[int, int] = (512, 1024),
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Write a data set in Cityscapes' layout, or complete an unfinished one.

    Image ``i`` of a split depends only on domain, seed, split, ``i`` and size, not
    on the number of images or processes. The manifest is written first. A root whose
    manifest agrees is completed; splits may grow, and new ones may be added.

    Args:
        root: Folder of the data set: missing, empty, or a SynthScapes data set.
        splits: Number of images by split, as ``{'train': 600, 'val': 100}``.
        domain: ``'source'``, ``'target'`` or ``'world'``.
        size: Image height and width in pixels.
        seed: Seed of the data set, not negative.
        workers: Number of processes; by default, one for each core.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If an argument is invalid, or if ``root`` was made with other
            arguments.
        FileExistsError: If ``root`` is a file, or holds anything but SynthScapes.
        RuntimeError: If a process is killed; files already written stay.
    """
    root = Path(root)
    _check(splits, domain, size, seed, workers)
    wanted: dict[str, Any] = {
        'format': 'SynthScapes',
        'generator_version': GENERATOR_VERSION,
        'domain': domain,
        'seed': int(seed),
        'size': [int(side) for side in size],
        'splits': {name: int(count) for name, count in splits.items()},
    }
    found = _read_manifest(root)
    if found is not None:
        _compare(root, found, wanted)
        wanted['splits'] = {**found['splits'], **wanted['splits']}
    if found != wanted:
        write_atomic(root / MANIFEST, json.dumps(wanted, indent=2) + '\n')

    missing = [
        (split, index)
        for split, count in splits.items()
        for index in range(count)
        if not all(
            path.exists() for path in image_files(root, domain, split, index).values()
        )
    ]
    if not missing:
        return
    # Temporary files of a killed run; `write_atomic` starts their names with a dot.
    for folder in ('camera', 'disparity', 'gtFine', 'leftImg8bit'):
        for split in splits:
            remove_killed((root / folder / split).glob('*/.*'))
    chunks = [missing[i : i + CHUNK] for i in range(0, len(missing), CHUNK)]
    work = partial(_write_chunk, root, domain, seed, (int(size[0]), int(size[1])))
    if workers is None:
        workers = len(os.sched_getaffinity(0))
    # Forked, so that a process starts at once, without importing torch again.
    pool = ProcessPoolExecutor(
        min(workers, len(chunks)), multiprocessing.get_context('fork'), _start_worker
    )
    bar = Progress(
        TextColumn('SynthScapes {task.description}', markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        disable=not progress,
    )
    try:
        # Submit first: processes must be forked before the bar starts its thread.
        written = pool.map(work, chunks)
        with bar:
            task = bar.add_task(f'{domain}: {root}', total=len(missing))
            for count in written:
                bar.advance(task, count)
    except BrokenProcessPool:
        raise RuntimeError(
            f'a process that wrote {root} was killed, most likely out of memory: '
            f'run the same again to continue, with fewer than {workers} workers'
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _check(
    splits: Mapping[str, int],
    domain: str,
    size: tuple[int, int],
    seed: int,
    workers: int | None,
) -> None:
    if domain not in DOMAINS:
        raise ValueError(f'no domain {domain!r}: choose one of {sorted(DOMAINS)}')
    for name, count in splits.items():
        if not re.fullmatch('[A-Za-z0-9][A-Za-z0-9_-]*', name):
            raise ValueError(
                f'split name {name!r}: use letters, digits, hyphen and underscore only'
            )
        if count < 0:
            raise ValueError(f'split {name!r} of {count} images: ask for 0 or more')
    if not sum(splits.values()):
        raise ValueError('no image asked for: give at least one split a positive size')
    if len(size) != 2 or min(size) < SMALLEST_SIDE:
        raise ValueError(
            f'image size {tuple(size)}: give (height, width), each at least '
            f'{SMALLEST_SIDE}'
        )
    if seed < 0:
        raise ValueError(f'seed {seed}: give 0 or more')
    if workers is not None and workers < 1:
        raise ValueError(f'{workers} workers: give at least 1')


def _read_manifest(root: Path) -> dict[str, Any] | None:
    """Read the manifest of a root; return None if root is missing or empty."""
    if root.exists() and not root.is_dir():
        raise FileExistsError(f'{root} is a file: give a folder')
    path = root / MANIFEST
    if not path.exists():
        # A run killed during its first write leaves a temporary manifest.
        rest = [entry.name for entry in root.glob('*') if MANIFEST not in entry.name]
        if rest:
            raise FileExistsError(
                f'{root} is not empty (it holds {min(rest)!r}) and has no {MANIFEST}, '
                f'so it is not a SynthScapes folder: give a new or an empty folder'
            )
        return None
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get('format') != 'SynthScapes':
        raise FileExistsError(
            f'{path} is not a SynthScapes manifest: give a new or an empty folder'
        )
    return found


def _compare(root: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to mix two data sets in one root."""
    keys = ('generator_version', 'domain', 'seed', 'size')
    differing = [key for key in keys if found.get(key) != wanted[key]]
    if differing:
        theirs = ', '.join(f'{key} {found.get(key)}' for key in differing)
        ours = ', '.join(f'{key} {wanted[key]}' for key in differing)
        raise ValueError(
            f'{root} was made with {theirs}, not {ours}: give another folder, or '
            f'delete this one'
        )
    for split, count in wanted['splits'].items():
        held = found['splits'].get(split, 0)
        if held > count:
            raise ValueError(
                f'{root} has {held} images in {split!r}, not {count}: ask for at least '
                f'{held}, or give another folder'
            )


def _start_worker() -> None:
    end_with_parent()
    # Not 1: a fork would wait for ever for OpenCV threads that only the parent has.
    cv2.setNumThreads(0)
    # The parent handles Ctrl-C: a worker finishes its chunk, then the parent stops it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_chunk(
    root: Path,
    domain: str,
    seed: int,
    size: tuple[int, int],
    chunk: list[tuple[str, int]],
) -> int:
    for split, index in chunk:
        write_image(root, domain, seed, split, index, size)
    return len(chunk)
