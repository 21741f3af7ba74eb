"""A run that starts anew in a used work folder.

``--resume`` continues from what ``last_checkpoint`` names. If a new run ended before
its first checkpoint, that would be an older run's.
"""

import json
from pathlib import Path

from mmengine.runner import Runner, find_latest_checkpoint

from mmcast.checkpoints import not_finite, read_checkpoint, saved_checkpoints
from mmcast.files import write_atomic

RECORD = 'started_anew.json'


def start_anew(runner: Runner) -> None:
    """Let ``last_checkpoint`` no longer name an older run's checkpoint.

    What it named goes to a record, for :func:`explain_missing`.
    """
    last = Path(runner.work_dir, 'last_checkpoint')
    if last.is_file():
        record = dict(run=runner.experiment_name, older=last.read_text().strip())
        write_atomic(last.with_name(RECORD), json.dumps(record, indent=1) + '\n')
        last.unlink()


def explain_missing(work_dir: str) -> str:
    """Say why a folder has no checkpoint to resume from, and what to do.

    Args:
        work_dir: A folder without ``last_checkpoint``.
    """
    try:
        record = json.loads(Path(work_dir, RECORD).read_text())
        older, run = record['older'], record['run']
        meta = read_checkpoint(older, shapes_only=True).get('meta', {})
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return (
            f'There is no checkpoint in {work_dir} to resume from: start without '
            '--resume.'
        )
    name = meta.get('experiment_name', 'an older run')
    return (
        f'{run} ended before its first checkpoint, and {older} is of {name}, which ran '
        f'before it in {work_dir}: start without --resume, or continue the older run '
        f'with --resume {older}'
    )


def last_finite(work_dir: str) -> str | None:
    """Return the newest checkpoint of this run without a NaN or infinite weight.

    Args:
        work_dir: The run's folder. A checkpoint in remote storage is returned unread.
    """
    last = find_latest_checkpoint(work_dir)
    if last is None or '://' in last:
        return last
    record = Path(work_dir, RECORD)
    began = record.stat().st_mtime_ns if record.is_file() else 0
    for path in dict.fromkeys([Path(last), *saved_checkpoints(Path(last).parent)]):
        try:
            if path.stat().st_mtime_ns < began:
                break  # an older run's
            if not_finite(read_checkpoint(path)['state_dict']) is None:
                return str(path)
        except (OSError, ValueError):
            continue  # missing or incomplete
    return None
