"""Show an error that mmcast foresees in one line, without a traceback.

An error is foreseen if a ``raise`` of this package raised it, also in a data loader's
worker. So are a worker that the system killed, and a file that cannot be written. Any
other error is a bug and keeps its traceback. ``MMCAST_TRACEBACK=1`` shows every one.

This module imports the standard library only, so that it is there first.
"""

import dis
import errno
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from multiprocessing import parent_process
from pathlib import Path
from types import TracebackType

_PACKAGE = Path(__file__).resolve().parent
_KINDS = (ValueError, OSError, RuntimeError, ArithmeticError, ImportError)
_WRITING = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT}
# What torch makes of an error in a worker: its traceback, as text.
_IN_WORKER = re.compile(
    r'Caught \w+ in .*\nOriginal Traceback(?:.*\n)*'
    r'  File "(?P<file>.*)", line \d+, in .*\n    (?P<code>.*)\n(?:    .*\n)*'
    r'(?:[\w.]+: )?(?P<message>(?:.*\n?)*)'
)
_KILLED = re.compile(r'DataLoader worker \(pid (\d+)\) is killed by signal: ([^.]+)')


def install() -> None:
    """Show foreseen errors in one line if a tool of mmdet or mmcast is running.

    Any other program keeps its own way to show errors, and so does one that has a
    ``sys.excepthook`` already.
    """
    if sys.excepthook is sys.__excepthook__ and (is_command() or _is_tool()):
        sys.excepthook = show


def is_command() -> bool:
    """Say whether the running program is the command ``mmcast``, and its first process.

    Its console script has this name, and ``python -m mmcast`` runs this package.
    """
    if parent_process() is not None:
        return False
    words = sys.orig_argv
    place = words.index('-m') if '-m' in words else 0
    if place and all(word.startswith('-') for word in words[1:place]):
        return words[place + 1] in ('mmcast', 'mmcast.cli')
    return Path(sys.argv[0]).stem == 'mmcast' and Path(sys.argv[0]).is_file()


def one_line(error: BaseException) -> str | None:
    """Return the message of a foreseen error; None for any other.

    Args:
        error: An exception that was raised.
    """
    for each in _with_causes(error):
        message = None
        if isinstance(each, _KINDS) and not isinstance(each, NotImplementedError):
            text = str(each)
            if _IN_WORKER.search(text):
                message = _of_worker(text)
            elif _is_ours(each):
                message = text
        message = message or _of_killed_worker(each) or _of_file_system(each)
        if message:
            return ' '.join(message.split())
    return None


def show(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print a foreseen error in one line, any other with its traceback.

    Args:
        kind: As in ``sys.excepthook``, like the others.
        error: The exception.
        trace: Its traceback.
    """
    wanted = os.environ.get('MMCAST_TRACEBACK', '0') in ('', '0')
    message = one_line(error) if wanted else None
    if message is None:
        sys.__excepthook__(kind, error, trace)
        return
    sys.stdout.flush()
    print(f'error: {message}', file=sys.stderr, flush=True)


def tool(name: str) -> str:
    """Return the command that runs a tool, wherever the package is installed.

    Args:
        name: Path of the script below ``tools``. A wheel has those of setup.py's
            ``COPIED``.
    """
    path = (_PACKAGE / '.mim' / 'tools' / name).resolve()
    here = Path.cwd()
    return f'python {path.relative_to(here) if path.is_relative_to(here) else path}'


def _is_tool() -> bool:
    """Say whether the running program is a script of mmdet or mmcast."""
    file = getattr(sys.modules.get('__main__'), '__file__', None)
    spec = importlib.util.find_spec('mmdet')
    if file is None or spec is None or spec.origin is None:
        return False
    script = Path(file).resolve()
    for root in (_PACKAGE, Path(spec.origin).resolve().parent):
        for folder in (root / '.mim', root, root.parent):
            if script.is_relative_to((folder / 'tools').resolve()):
                return True
    return False


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and what an import or a loader has replaced."""
    yield error
    text = str(error)
    if isinstance(error, ImportError) or 'exited unexpectedly' in text:
        cause = error.__cause__ or error.__context__
        if cause is not None:
            yield from _with_causes(cause)


def _is_ours(error: BaseException) -> bool:
    """Say whether a ``raise`` in this package, or in a tool of it, raised an error."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get('__name__', '')
    opcode = trace.tb_frame.f_code.co_code[trace.tb_lasti]
    ours = module.split('.')[0] == __package__ or (
        module == '__main__' and _is_below_tools(trace.tb_frame.f_code.co_filename)
    )
    return ours and dis.opname[opcode] == 'RAISE_VARARGS'


def _is_below_tools(file: str) -> bool:
    """Say whether a file is one of this package's tools."""
    path = Path(file).resolve()
    folders = (_PACKAGE / '.mim', _PACKAGE.parent)
    return any(path.is_relative_to((each / 'tools').resolve()) for each in folders)


def _of_worker(text: str) -> str | None:
    found = _IN_WORKER.search(text)
    if found is None or not found['code'].startswith('raise '):
        return None
    if not Path(found['file']).resolve().is_relative_to(_PACKAGE):
        return None
    return text[: found.start()] + found['message']


def _of_killed_worker(error: BaseException) -> str | None:
    found = _KILLED.search(str(error)) if isinstance(error, RuntimeError) else None
    if found is None:
        return None
    pid, signal = found.groups()
    what = f'a process that reads images (pid {pid}) was killed by the system'
    workers, images = 'num_workers of the dataloader', 'its batch_size'
    if is_command():
        workers, images = '--num-workers', '--batch-size'
    if signal == 'Killed':
        return (
            f'{what}, which most likely ran out of memory: lower {workers} or '
            f'{images}, then {_again()}'
        )
    if signal == 'Bus error':
        return (
            f'{what}, which most likely ran out of shared memory: enlarge /dev/shm '
            f'(docker run --shm-size 8g) or lower {workers}, then {_again()}'
        )
    return None


def _again() -> str:
    return 'run the command again' if is_command() else 'continue with --resume'


def _of_file_system(error: BaseException) -> str | None:
    if not isinstance(error, OSError) or error.errno not in _WRITING:
        return None
    where = f'{error.filename}: ' if error.filename else ''
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = f'free space, then {_again()}'
    else:
        place = 'place' if is_command() else 'folder with --work-dir'
        remedy = f'change its permissions, or give another {place}'
    return f'{where}{error.strerror}: {remedy}'
