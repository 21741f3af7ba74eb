"""Label a folder of images with SAM 3, by words, into a store."""

import hashlib
import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import torch
from mmengine.logging import print_log

from mmcast import sam3
from mmcast.apis.label import names_to_label
from mmcast.apis.label_images import finish
from mmcast.apis.label_progress import labelling
from mmcast.apis.label_summary import LabelSummary
from mmcast.datasets.image_tars import in_tars
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.sam3.environment import python_of
from mmcast.sam3.job import Job

# Files of facebook/sam3 that are read here; the tokenizer's are the library's business.
_FILES = ('model.safetensors', 'config.json', 'processor_config.json')
_SCRIPT = Path(sam3.__file__).with_name('__main__.py')


def label_with_sam3(
    img_root: str | Path,
    store: str | Path,
    classes: Sequence[str],
    *,
    prompts: Sequence[str] = (),
    list: str | Path | None = None,
    weights: str | Path = 'checkpoints/sam3',
    env: str | Path = '.venv-sam3',
    processes: int | None = None,
    chunk: int = 8,
    iou_thr: float = 0.7,
    link_root: str | Path | None = None,
    layout: str | None = None,
    max_instances: int = 100,
) -> LabelSummary:
    """Label the images of a folder that the store lacks with SAM 3.

    It can be killed at any time and called again. Images that cannot be read are named
    in a warning and have no labels.

    Args:
        img_root: Folder of the images.
        store: Folder of the labels.
        classes: Class names of the student, in its order.
        prompts: Noun phrases, each as ``CLASS=PHRASE``; other classes are called by
            name.
        list: List of images; None for the whole folder.
        weights: Folder with the files of ``facebook/sam3``.
        env: Environment that SAM 3 runs in; it is made if it does not exist.
        processes: Processes that share the images; None for one on each GPU, or one.
        chunk: Prompts that run together; bounds the memory.
        iou_thr: A mask is suppressed if its intersection over union with a better one,
            of any class, is above this.
        link_root: Links in the image folder may lead to places below this one.
        layout: As for :func:`mmcast.apis.label`.
        max_instances: Most instances that are kept of an image, the best ones.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        RuntimeError: The environment cannot be made, or labelling failed.
        ValueError: A class or prompt cannot be used, the weights are others, the store
            belongs to another teacher, or no image can be read.
    """
    words = phrases(classes, prompts)
    if chunk < 1 or (processes is not None and processes < 1) or not 0 < iou_thr <= 1:
        raise ValueError(
            'chunk and processes are at least 1, and iou_thr is a number above 0, up '
            f'to 1; found {chunk}, {processes} and {iou_thr}'
        )
    weights = Path(weights)
    _check_weights(weights)
    if in_tars(img_root):
        raise ValueError(
            f'{img_root}: SAM 3 is given files, not tars: unpack them into a folder'
        )
    names = names_to_label(img_root, list, link_root)
    teacher = _teacher(weights, words, iou_thr)
    if PseudoLabelStore.exists(store):
        found = PseudoLabelStore.open(store).teacher
        if found.digest != teacher.digest:
            raise ValueError(
                f'{store} has labels of {found.config!r}, and {teacher.config!r} with '
                f'these weights and iou_thr={iou_thr:g} is wanted: give another folder '
                'as --store, or delete this one'
            )
    opened = PseudoLabelStore.create(
        store,
        classes=classes,
        teacher=teacher,
        layout=layout,
        max_instances=max_instances,
    )
    opened.remove_leftovers()
    missing = opened.missing(names)
    gpus = torch.cuda.device_count()
    count = min(processes or max(1, gpus), max(1, len(missing)))
    unreadable: dict[str, str] = {}
    if missing:
        python = python_of(env)
        print_log(
            f'Labelling {len(missing)} of {len(names)} images into {store} with SAM 3',
            logger='current',
        )
        jobs = [
            Job(
                images=str(img_root),
                names=missing[part::count],
                store=str(store),
                weights=str(weights),
                prompts=words,
                device=f'cuda:{part % gpus}' if gpus else 'cpu',
                chunk=chunk,
                iou_thr=iou_thr,
            )
            for part in range(count)
        ]
        unreadable = _run(python, jobs, len(missing))
    return finish(opened, names, len(missing), [*unreadable.values()])


def phrases(classes: Sequence[str], prompts: Sequence[str] = ()) -> Sequence[str]:
    """Return the noun phrase of each class.

    Args:
        classes: Class names.
        prompts: ``CLASS=PHRASE``; other classes are called by name.

    Raises:
        ValueError: A class is there twice, a prompt is none, names no class or is that
            of two classes.
    """
    twice = sorted({name for name in classes if [*classes].count(name) > 1})
    if twice or not classes:
        raise ValueError(
            f'the class {twice[0]!r} is there twice: name each class once'
            if twice
            else 'there is no class: name at least one'
        )
    found = {name: name for name in classes}
    for prompt in prompts:
        name, _, phrase = prompt.partition('=')
        if not phrase.strip():
            raise ValueError(
                f"{prompt!r} is no prompt: write CLASS='the phrase', as in "
                "rider='person on a bicycle'"
            )
        if name not in found:
            raise ValueError(
                f'{prompt!r} is for the class {name!r}, but the classes are '
                f'{", ".join(classes)}'
            )
        found[name] = phrase.strip()
    seen: dict[str, str] = {}
    for name, phrase in found.items():
        words = ' '.join(phrase.lower().split())  # SAM 3 knows no capital letters
        other = seen.setdefault(words, name)
        if other != name:
            raise ValueError(
                f'{other!r} and {name!r} both have the prompt {words!r}: give one of '
                'them another'
            )
    return [*found.values()]


def _check_weights(folder: Path) -> None:
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f'{folder / missing[0]} of SAM 3 is missing. Its weights are gated: accept '
            'their licence at https://huggingface.co/facebook/sam3, log in with `hf '
            "auth login`, then fetch them with: hf download facebook/sam3 --exclude '*."
            f"pt' --local-dir {folder}"
        )


def _teacher(weights: Path, words: Sequence[str], iou_thr: float) -> Teacher:
    """Describe what decides about the labels: weights, prompts and suppression."""
    file = Teacher.from_files('SAM 3', weights / 'model.safetensors')
    settings = json.dumps([file.digest, [*words], iou_thr])
    return Teacher(
        sam3.MADE_BY + '; '.join(words),
        file.checkpoint,
        hashlib.sha256(settings.encode()).hexdigest(),
    )


def _run(python: str, jobs: Sequence[Job], total: int) -> dict[str, str]:
    """Run the processes; return the images that cannot be read, with reasons.

    Raises:
        RuntimeError: One failed; the others have finished their shares.
    """
    unreadable: dict[str, str] = {}
    errors: Any = []
    with labelling(total) as advance, _processes(python, jobs) as (lines, running):
        for line in lines:
            said = json.loads(line)
            if 'error' in said:
                errors.append(said['error'])
                continue
            if 'unreadable' in said:
                unreadable[said['name']] = said['unreadable']
            advance(1)
        codes = [each.wait() for each in running]
    if any(codes):
        code = next(code for code in codes if code)
        why = errors[0] if errors else f'a process ended with code {code}, see above'
        raise RuntimeError(f'SAM 3 failed ({why}); what is labelled is kept')
    return unreadable


@contextmanager
def _processes(python: str, jobs: Sequence[Job]) -> Iterator[tuple[Any, Any]]:
    """Start a process for each job; yield their lines, and the processes."""
    running: Any = []
    try:
        for job in jobs:
            process: Any = subprocess.Popen(
                [python, '-I', str(_SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            running.append(process)
            # One that has ended already reads nothing; its code tells later.
            with suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(json.dumps(asdict(job)).encode())
        yield _lines(running), running
    finally:
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait()


def _lines(running: Sequence[Any]) -> Iterator[bytes]:
    """Yield the lines of all processes as they come.

    Each has a pipe of its own: in a common one long lines could mix.
    """
    said: SimpleQueue[bytes | None] = SimpleQueue()

    def read(process: Any) -> None:
        try:
            for line in process.stdout:
                if line.endswith(b'\n'):  # a killed process may leave a part of one
                    said.put(line)
        finally:
            said.put(None)

    for process in running:
        Thread(target=read, args=(process,), daemon=True).start()
    for _ in running:
        yield from iter(said.get, None)
