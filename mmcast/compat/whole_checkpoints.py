"""Write checkpoints whole or not at all, and keep the old one until then.

What breaks: mmengine (up to 0.10.7 at least) writes a checkpoint in place, and its
`CheckpointHook` deletes the older one before. With `max_keep_ckpts=1` a crash in
between, or a full disk, leaves none. `last_checkpoint` is written in place, too.

The cure: local files get a temporary name first and are renamed when they are on the
disk. The hook's deletions wait until its files are written.

Remove it when mmengine does both.
"""

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio.backends import LocalBackend
from mmengine.hooks import CheckpointHook, checkpoint_hook

from mmcast.files import write_atomic


class _Later:
    """A file backend whose deletions wait."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.waiting: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.waiting.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.waiting.append((self.backend.rmtree, path))


def _delete_last(save: Callable[..., None]) -> Callable[..., None]:
    """Let a hook's method delete files at its end, none that it has written."""

    @functools.wraps(save)
    def call(self: CheckpointHook, runner: Any, *args: Any, **kwargs: Any) -> None:
        # `runner.val()` has none; of two files, the best is saved, then the last.
        backend = getattr(self, 'file_backend', None)
        if backend is None or isinstance(backend, _Later):
            save(self, runner, *args, **kwargs)
            return
        later = self.file_backend = _Later(backend)
        try:
            save(self, runner, *args, **kwargs)
        except OSError as error:
            raise OSError(
                f'cannot write a checkpoint in {self.out_dir}: {error}; older ones are '
                'whole: remedy it, then continue with --resume'
            ) from error
        finally:
            self.file_backend = backend
        best = getattr(self, 'best_ckpt_path_dict', {})
        written = {
            self.last_ckpt,
            getattr(self, 'best_ckpt_path', None),
            *best.values(),
        }
        for delete, path in later.waiting:
            if path not in written:
                delete(path)

    call.deletes_last = True  # type: ignore[attr-defined]
    return call


def _delete_unfinished(before_train: Callable[..., None]) -> Callable[..., None]:
    """Let a hook delete what a killed run left under temporary names."""

    @functools.wraps(before_train)
    def call(self: CheckpointHook, runner: Any) -> None:
        before_train(self, runner)
        if is_main_process() and isinstance(self.file_backend, LocalBackend):
            for path in Path(self.out_dir).glob('.*.pth.????????'):
                path.unlink()

    return call


def _put(self: LocalBackend, obj: bytes, filepath: str | Path) -> None:
    write_atomic(filepath, obj)


def _put_text(
    self: LocalBackend, obj: str, filepath: str | Path, encoding: str = 'utf-8'
) -> None:
    write_atomic(filepath, obj.encode(encoding))


@contextmanager
def _open_whole(path: str, mode: str) -> Iterator[io.StringIO]:
    """Stand in for ``open(path, 'w')``."""
    if mode != 'w':
        raise ValueError(f'mode {mode!r}: mmengine only writes here')
    file = io.StringIO()
    yield file
    write_atomic(path, file.getvalue())


def apply() -> None:
    """Change mmengine's local file backend and its `CheckpointHook`."""
    if hasattr(CheckpointHook._save_checkpoint_with_step, 'deletes_last'):
        return
    LocalBackend.put = _put
    LocalBackend.put_text = _put_text
    checkpoint_hook.open = _open_whole
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        setattr(CheckpointHook, name, _delete_last(getattr(CheckpointHook, name)))
    CheckpointHook.before_train = _delete_unfinished(CheckpointHook.before_train)
