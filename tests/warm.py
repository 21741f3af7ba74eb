"""Run the project's commands without the seconds that importing the stack takes.

A server imports the stack once. A stand-in for `python`, and one for `mim`, send it the
command line, the folder, the environment and the open files. The server forks, and the
child runs the script as `python SCRIPT` would. Whatever the script starts runs the same
way, since the child's `sys.executable` is the stand-in, and so does `python -m mmcast`.
Other calls (`python -c ...`) go to the real interpreter. A killed stand-in does not end
its script.

Some tests start commands without it: those of imports, of errors in an import, of kills
and of plain `mim`.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

STAND_IN = """#!{python} -IS
import json, os, signal, socket, sys
words = sys.argv
if os.path.basename(words[0]) == 'mim':
    words = [words[0], {mim!r}, *words[1:]]
while words[1:2] == ['-u']:
    words = [words[0], *words[2:]]
if len(words) < 2 or words[1].startswith('-') and words[1:3] != ['-m', 'mmcast']:
    os.execv({python!r}, [{python!r}, *words[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
message = dict(words=words[1:], cwd=os.getcwd(), environment=dict(os.environ))
socket.send_fds(server, [b'.'], [0, 1, 2])
with server.makefile('rw') as file:
    file.write(json.dumps(message) + '\\n')
    file.flush()
    status = int(file.readline() or 3)
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


# Where a runner finds the function that formats its config. It does so four times, and
# a full-size config takes two to three seconds each time. mmengine imports the function
# when it is imported; the fork, when it formats.
FORMATTERS = ('mmengine.config.config', 'yapf.yapflib.yapf_api')


def unformatted(text: str, **_: Any) -> tuple[str, int]:
    """Return a config's text as it is, as yapf's ``FormatCode`` would if it is fine."""
    return text, 0


class Warm:
    """Run scripts in children of a server that has imported the stack.

    Args:
        folder: Where the stand-ins and the server's socket go.
    """

    def __init__(self, folder: Path) -> None:
        self.bin = folder
        address = str(folder / 'socket')
        mim = str(Path(sys.executable).with_name('mim'))
        text = STAND_IN.format(python=sys.executable, mim=mim, address=address)
        for name in 'python', 'mim':
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.server = subprocess.Popen(
            [sys.executable, __file__, address, str(folder / 'python')],
            stdin=subprocess.PIPE,
        )
        while not Path(address).exists():
            assert self.server.poll() is None
            time.sleep(0.05)

    def __call__(
        self,
        script: Path | str,
        *words: Any,
        cwd: Path | None = None,
        check: bool = False,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a script, or ``mim``; return its status and output.

        Args:
            script: A Python file, or 'mim'.
            *words: Its arguments.
            cwd: The folder; None for the current one.
            check: Raise an error if it fails.
            **environment: Further environment variables.
        """
        start = ['mim'] if script == 'mim' else ['python', str(script)]
        start[0] = str(self.bin / start[0])
        path = f'{self.bin}{os.pathsep}{os.environ["PATH"]}'
        done = subprocess.run(
            [*start, *map(str, words)],
            cwd=cwd,
            env={**os.environ, 'PATH': path, **environment},
            capture_output=True,
            text=True,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def close(self) -> None:
        """End the server."""
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait()


def serve(address: str, python: str) -> None:
    """Import the stack, then fork for each command line, until the input ends."""
    import mmcast  # noqa: F401, isort: skip  (before mmdet.models)
    import matplotlib.pyplot  # noqa: F401
    import mmdet.apis  # noqa: F401
    import pandas  # noqa: F401

    for name in FORMATTERS:
        importlib.import_module(name).FormatCode = unformatted  # type: ignore[attr-defined]
    gc.collect()
    gc.freeze()  # mmengine collects garbage for each data set
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # handlers are not waited for
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f'{address}.new')
    listener.listen(64)
    os.rename(f'{address}.new', address)
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        client, _ = listener.accept()
        if not os.fork():
            listener.close()
            _handle(client, python)
        client.close()


def _handle(client: socket.socket, python: str) -> None:
    """Fork once more; tell the stand-in how the child ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    with client.makefile('rw') as stream:
        message = json.loads(stream.readline())
        child = os.fork()
        if not child:
            for number, file in enumerate(files):
                os.dup2(file, number)
            client.close()
            os._exit(_run(message['words'], message, python))
        for file in files:
            os.close(file)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(BrokenPipeError):
            stream.write(f'{os.waitstatus_to_exitcode(status)}\n')
            stream.flush()
    os._exit(0)


def _run(words: list[str], message: Mapping[str, Any], python: str) -> int:
    """Run a script as a new interpreter would; return its exit status."""
    import numpy as np
    import torch

    from mmcast import errors

    os.chdir(message['cwd'])
    os.environ.clear()
    os.environ.update(message['environment'])
    if 'OMP_NUM_THREADS' in os.environ:
        torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    np.random.seed()
    sys.executable = python
    sys.orig_argv = [python, *words]
    sys.path[0] = str(Path(words[0]).resolve().parent)
    if words[0] == '-m':
        sys.path[0] = message['cwd']
        words = [str(Path(errors.__file__).with_name('__main__.py')), *words[2:]]
    sys.argv = words
    buffered = not os.environ.get('PYTHONUNBUFFERED')
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, 'w', closefd=False, buffering=-1 if buffered else 1)
    sys.stderr = os.fdopen(2, 'w', closefd=False, buffering=1)
    main = ModuleType('__main__')
    main.__file__ = words[0]
    sys.modules['__main__'] = main
    errors.install()  # the stack was imported by no tool
    try:
        runpy.run_path(words[0], run_name='__main__')
        status = 0
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    try:
        _leave()
    except Exception:
        traceback.print_exc()
    return status


def _leave() -> None:
    """Do what an interpreter does at its end."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()


@contextlib.contextmanager
def warm_server(folder: Path) -> Iterator[Warm]:
    """Start a server; end it afterwards."""
    warm = Warm(folder)
    try:
        yield warm
    finally:
        warm.close()


if __name__ == '__main__':
    serve(*sys.argv[1:])
