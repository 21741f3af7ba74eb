"""Helpers for scripts that run many trainings, and for benchmarks."""

import contextlib
import ctypes
import gc
import hashlib
import io
import json
import math
import os
import platform
import re
import runpy
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mmcast.files import write_atomic

TOOLS = Path(__file__).resolve().parents[1]
# The COCO file of a split of SynthScapes, below its folder.
ANNOTATIONS = 'annotations/instancesonly_filtered_gtFine_{}.json'


def once(path: Path, key: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what ``action()`` returns, from a file if an earlier call made it.

    Args:
        path: JSON file for the result and its key.
        key: What the result depends on; with another key the action runs again.
        action: Called without arguments; its result must fit into JSON.
    """
    if path.is_file():
        found = json.loads(path.read_text())
        if found['key'] == key:
            return found['result']
    result = action()
    write_atomic(path, json.dumps(dict(key=key, result=result), indent=1) + '\n')
    return result


def digest(*parts: Path | str) -> str:
    """Return the SHA-256 of files, folders and texts as hexadecimal text.

    Args:
        *parts: Texts, files, and folders. In a folder, all ``.py`` and ``.pth`` files
            count, with their names.
    """
    total = hashlib.sha256()
    for root in parts:
        if isinstance(root, str):
            total.update(root.encode())
            continue
        inside = (p for p in root.rglob('*') if p.suffix in ('.py', '.pth'))
        for path in sorted(inside) if root.is_dir() else [root]:
            total.update(path.relative_to(root).as_posix().encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def mim(
    *words: Any,
    log: Path,
    on_line: Callable[[str], None] = lambda line: None,
    switches: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run ``mim`` with one thread and its output in a file.

    Args:
        *words: Its arguments.
        log: The file.
        on_line: Called with each line of output.
        switches: Environment variables that the config reads.
        cwd: Folder to run it in; None for the current one.

    Raises:
        RuntimeError: The command failed; the message has its last lines.
    """
    command = [str(word) for word in words]
    log.parent.mkdir(parents=True, exist_ok=True)
    # mim makes this folder when it is imported. Two at once would fail.
    (Path.home() / '.cache' / 'mim').mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name('mim')), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        close_fds=False,  # a caller may make a lock inheritable
        cwd=cwd,
        env={
            **os.environ,
            **(switches or {}),
            'OMP_NUM_THREADS': '1',
            'PYTHONUNBUFFERED': '1',
        },
    )

    def follow() -> None:
        with log.open('w', buffering=1) as file:
            for line in process.stdout or ():
                file.write(line)
                on_line(line)

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    process.wait()
    # A process that outlives mim would keep the pipe open for ever.
    reader.join(timeout=5)
    if process.returncode != 0:
        tail = '\n'.join(log.read_text().splitlines()[-15:])
        reason = 'failed'
        if process.returncode == -signal.SIGKILL or 'Signals.SIGKILL' in tail:
            reason = 'was killed by the system, most likely for lack of memory,'
        raise RuntimeError(
            f'{tail}\n"mim {" ".join(command)}" {reason}; the whole output is in {log}'
        )


def synthscapes_scripts(
    data: Path,
    *,
    train: int,
    val: int,
    labeled: int,
    test: int = 0,
    more_labels: Sequence[int] = (),
    seed: int = 0,
) -> list[list[str]]:
    """Return the command lines, without ``python``, that make a target domain.

    Args:
        data: Folder for the images, COCO files and lists.
        train: Training images.
        val: Validation images.
        labeled: How many of the training images count as labelled.
        test: Images of a further split.
        more_labels: Two or more numbers of labelled images, for further lists in
            ``splits/20img`` and so on.
        seed: Of the images and of the draw of labelled ones.
    """
    split = ['-m', 'mmcast', 'split']
    split += ['--coco', data / ANNOTATIONS.format('train'), '--per-class', 1]
    split += ['--seed', seed, '--out', data / 'splits', '--count']
    scripts = [
        [
            TOOLS / 'dataset_converters' / 'synthscapes.py',
            *(data, '--domain', 'target', '--train', train, '--val', val),
            *(('--test', test) if test else ()),
            *('--size', 128, 256, '--seed', seed),
        ],
        [TOOLS / 'dataset_converters' / 'cityscapes.py', data],
        [*split, labeled],
    ]
    if more_labels:
        scripts.append([*split, *more_labels, '--nested'])
    return [[str(word) for word in script] for script in scripts]


def make_synthscapes(data: Path, **settings: Any) -> None:
    """Make a target domain; see :func:`synthscapes_scripts`.

    Raises:
        RuntimeError: A script failed; it has said why.
    """
    for script in synthscapes_scripts(data, **settings):
        if subprocess.run([sys.executable, *script], check=False).returncode:
            raise RuntimeError(f'making the data failed: {" ".join(script[:3])}')


def count_parameters(config: Path) -> int:
    """Count the parameters of prediction, without those of contrast and critic."""
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    cfg = Config.fromfile(config)
    init_default_scope('mmdet')
    for unused in ('pixel_contrast', 'critic'):
        if unused in cfg.model:
            cfg.model[unused] = None
    return sum(p.numel() for p in MODELS.build(cfg.model).parameters())


def count_gflops(config: Path, size: tuple[int, int]) -> float:
    """Count the operations of predicting an image of noise, in 1e9.

    As in mmdet's tools, a multiplication with its addition is one.

    Args:
        config: Config of the detector; it starts from random weights.
        size: Height and width of the image.
    """
    from mmcv.transforms import Compose
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope
    from torch.utils.flop_counter import FlopCounterMode

    cfg = Config.fromfile(config)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval().requires_grad_(False)
    noise = torch.randint(0, 256, (*size, 3), dtype=torch.uint8).numpy()
    skipped = ('LoadImageFromFile', 'LoadAnnotations')
    steps = cfg.test_dataloader.dataset.pipeline
    pipeline = Compose([step for step in steps if step['type'] not in skipped])
    item = pipeline(
        dict(img=noise, img_shape=size, ori_shape=size, img_id=0, img_path='')
    )
    data = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        model.test_step(data)
    return counted.get_total_flops() / 2e9


def label_ap(store: Path, annotations: Path, rules: str = 'stock') -> dict[str, float]:
    """Return ``mask_ap`` and ``mask_ap50`` (0 to 100) of a store's labels.

    Args:
        store: Labels of all images of the COCO file.
        annotations: The COCO file with the truth.
        rules: ``'stock'``, or ``'teacher'`` as CAST's research code evaluates its
            teacher: instances with a class score above 0.3 alone, ranked by mask
            quality; images without any of them do not count.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from mmcast.datasets.pseudo_label_store import PseudoLabelStore

    opened = PseudoLabelStore.open(store)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        images = {each['file_name']: each['id'] for each in truth.dataset['images']}
        names = {each['name']: each['id'] for each in truth.dataset['categories']}
        found = []
        for name, entry in opened.entries():
            scores, kept = entry.scores, np.ones(len(entry.scores), bool)
            if rules == 'teacher':
                if entry.class_scores is None or entry.mask_qualities is None:
                    raise ValueError(
                        f'{store} has one score for each label: these rules need '
                        'class score and mask quality'
                    )
                scores, kept = entry.mask_qualities, entry.class_scores > 0.3
            found += [
                dict(
                    image_id=images[name],
                    category_id=names[opened.classes[entry.labels[i]]],
                    score=float(scores[i]),
                    segmentation=entry.masks[i],
                )
                for i in np.flatnonzero(kept)
            ]
        if not found:
            return dict(mask_ap=0.0, mask_ap50=0.0)
        measured = COCOeval(truth, truth.loadRes(found), 'segm')
        if rules == 'teacher':
            measured.params.imgIds = sorted({each['image_id'] for each in found})
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    return dict(
        mask_ap=round(100 * float(measured.stats[0]), 2),
        mask_ap50=round(100 * float(measured.stats[1]), 2),
    )


def run_all(
    title: str,
    todo: Sequence[tuple],
    work: Callable[..., None],
    jobs: int,
    needs: Callable[..., Sequence[tuple]] = lambda *run: (),
) -> None:
    """Run many trainings, some at a time, with a progress bar.

    The first run whose needs are met is the next to start, so none waits in a place
    that another could have.

    Args:
        title: Shown next to the bar.
        todo: What to run; each is the arguments of ``work`` for one run.
        work: Called with them.
        jobs: Runs at a time.
        needs: Called with them, too; returns what must have ended before, as far as it
            is in ``todo``.

    Raises:
        ValueError: Runs need each other.
    """
    unfinished = dict.fromkeys(todo)
    waiting = list(unfinished)
    running: dict[Future, tuple] = {}
    bar = Progress(
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('to go:'),
        TimeRemainingColumn(),
    )
    # Leaving the pool waits for what runs, and nothing new starts.
    with bar, ThreadPoolExecutor(jobs) as pool:
        task = bar.add_task('', total=len(waiting))
        while unfinished:
            ready = [
                run for run in waiting if unfinished.keys().isdisjoint(needs(*run))
            ]
            for run in ready[: jobs - len(running)]:
                waiting.remove(run)
                running[pool.submit(work, *run)] = run
            if not running:
                raise ValueError(f'these runs need each other: {waiting}')
            for job in wait(running, return_when=FIRST_COMPLETED).done:
                try:
                    job.result()
                except RuntimeError as error:
                    sys.exit(f'error: {error}')
                del unfinished[running.pop(job)]
                bar.advance(task)


def predict_onnx() -> SimpleNamespace:
    """Return what tools/deployment/predict_onnx.py defines."""
    names = runpy.run_path(str(TOOLS / 'deployment/predict_onnx.py'))
    return SimpleNamespace(**names)


def hardware(device: str) -> str:
    """Return the name of a GPU (``'cuda...'``), or of the processor with its cores."""
    if device.startswith('cuda'):
        return torch.cuda.get_device_name(device)
    listing = Path('/proc/cpuinfo')
    text = listing.read_text() if listing.is_file() else ''
    found = re.search(r'^model name\s*: (.+)', text, re.MULTILINE)
    name = found[1].strip() if found else platform.machine()
    return f'{name}, {os.cpu_count()} cores'


def start_peak(device: str) -> float:
    """Start to measure peak memory.

    Returns:
        What is in use now, in MB (1e6 bytes): on the GPU, or by this process.
    """
    if device.startswith('cuda'):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e6
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):  # Linux only
        Path('/proc/self/clear_refs').write_text('5')
    return _status_mb('VmRSS')


def peak_mb(device: str) -> float:
    """Return the peak in MB since :func:`start_peak`; NaN where it is not known."""
    if device.startswith('cuda'):
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 1e6
    return _status_mb('VmHWM')


def _status_mb(name: str) -> float:
    listing = Path('/proc/self/status')
    text = listing.read_text() if listing.is_file() else ''
    found = re.search(rf'^{name}:\s+(\d+) kB', text, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else math.nan


def compare(
    actions: dict[str, Callable[[], Any]], repeats: int, device: str
) -> dict[str, dict[str, Any]]:
    """Run actions in turn and return the time and memory of each.

    It prints a line for each time to the standard error.

    Args:
        actions: Name to what is measured.
        repeats: How often to measure the time, after a first time for the memory.
        device: Where they run.

    Returns:
        Name to ``times``, the seconds of each repeat, ``s``, their median, and ``mb``,
        the peak memory beyond what was in use before, in MB (1e6 bytes).
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    memory: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, action in actions.items():
            if not repeat:  # giving memory back costs time afterwards
                before = start_peak(device)
                action()
                memory[name] = peak_mb(device) - before
                continue
            start = time.perf_counter()
            action()
            if device.startswith('cuda'):
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
            done = f'{name}, {repeat} of {repeats}: {times[name][-1]:.2f} s'
            print(done, file=sys.stderr, flush=True)
    return {
        name: dict(times=taken, s=statistics.median(taken), mb=memory[name])
        for name, taken in times.items()
    }
