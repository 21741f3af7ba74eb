"""Show how many images are done: a bar, or lines where there is no terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from mmengine.logging import print_log
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmcast.console import make_console

_LOG_SECONDS = 10


@contextmanager
def labelling(
    total: int, share: str = '', show: bool = True, verb: str = 'Labell'
) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told of each number of images that are done.

    Args:
        total: Images to label.
        share: Which share of them this is, for people.
        show: False shows nothing.
        verb: What is done to them, without its "ing" or "ed".
    """
    with Progress(
        TextColumn(f'{verb}ing{share}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=make_console(),
        disable=not show,
    ) as bar:
        task = bar.add_task('', total=total)
        # A log shows no bar, so it gets lines.
        to_log = show and not bar.console.is_terminal
        last = time.monotonic()

        def advance(count: int) -> None:
            nonlocal last
            bar.advance(task, count)
            if to_log and time.monotonic() - last > _LOG_SECONDS:
                last = time.monotonic()
                state = bar.tasks[task]
                left = timedelta(seconds=round(state.time_remaining or 0))
                print_log(
                    f'{verb}ed [{state.completed:.0f}/{total}]{share}  eta: {left}',
                    logger='current',
                )

        yield advance
