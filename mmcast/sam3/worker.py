"""Label one process's share of the images, and say how far it is."""

import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

from mmcast.datasets.image_bits import check_bits
from mmcast.datasets.mask_encoding import encode
from mmcast.datasets.pseudo_label_store import PseudoLabelStore
from mmcast.sam3.job import Job

# Images that are read ahead while the model runs.
_AHEAD = 4

# A labeller takes RGB uint8 (H, W, 3), and returns a model.Found of at most so many
# instances (max_instances) with at least so high scores (min_score).
Labeller = Callable[[np.ndarray, float, int], Any]


def run(job: Job, out: TextIO, load: Callable[[Job], Labeller] | None = None) -> None:
    """Label the images of a job.

    Lines on ``out``: ``{"name": ...}`` for an image that is done, with ``unreadable``
    if it cannot be read or the labeller fails on it, and at the end
    ``{"error": ...}`` if labelling cannot go on. If nobody reads them any more, the
    process ends.

    Args:
        job: What to do.
        out: Where the lines go.
        load: Makes the labeller; None for SAM 3.
    """

    def say(**line: str) -> None:
        print(json.dumps(line), file=out, flush=True)

    try:
        if load is None:
            from mmcast.sam3.model import load_labeller

            load = load_labeller
        store = PseudoLabelStore.open(job.store)
        labeller = load(job)
        for name, reading in _read_ahead(job):
            path = str(Path(job.images, name))
            try:
                image = reading.result()
            except (OSError, ValueError, cv2.error) as error:
                reason = ' '.join(str(error).split())
                say(
                    name=name,
                    unreadable=reason if path in reason else f'{path} ({reason})',
                )
                continue
            try:
                found = labeller(image, store.min_score, store.max_instances)
            except Exception as error:  # whatever it is, the image has a name
                reason = f'{type(error).__name__}: {" ".join(str(error).split())}'
                size = f'{image.shape[0]}x{image.shape[1]} pixels'
                if _is_of_memory(error):
                    raise RuntimeError(
                        f'SAM 3 ran out of memory at {path} ({size}) with {job.chunk} '
                        'prompts: lower --chunk, or leave this image out'
                    ) from error
                if 'CUDA' in reason:  # the process can use the GPU no more
                    raise RuntimeError(
                        f'SAM 3 failed at {path} ({size}): {reason}'
                    ) from error
                say(name=name, unreadable=f'{path} (SAM 3 failed, {reason})')
                continue
            store.write(
                name,
                image.shape[:2],
                found.labels.tolist(),
                found.scores.tolist(),
                found.boxes.tolist(),
                [encode(mask) for mask in found.masks],
                found.scores.tolist(),
                found.qualities.tolist(),
            )
            say(name=name)
        store.flush()
    except BrokenPipeError:  # the command that started this process was killed
        # Python would complain again when it closes the file.
        out = open(out.fileno(), 'w', closefd=False)  # noqa: SIM115
        sys.exit(1)
    except (OSError, ValueError, MemoryError, RuntimeError) as error:
        say(error=f'{error}' or type(error).__name__)
        sys.exit(1)


def _is_of_memory(error: Exception) -> bool:
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or 'out of memory' in text
        or "can't allocate" in text
    )


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as the student's data loader does, as RGB uint8 (H, W, 3).

    Raises:
        OSError: It is missing.
        ValueError: It is damaged, or has more than 8 bits a channel.
    """
    content = Path(path).read_bytes()
    check_bits(content)
    if not content:
        raise ValueError(f'{path} (no image)')
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f'{path} (no image)')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read_ahead(job: Job) -> Iterator[tuple[str, Future]]:
    """Yield each name with its image, which a thread reads."""
    waiting: deque[tuple[str, Future]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for name in job.names:
            waiting.append((name, pool.submit(read_image, Path(job.images, name))))
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
        yield from waiting
