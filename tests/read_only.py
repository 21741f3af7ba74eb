"""A stand-in for folders that may only be read, as tests run as root."""

import builtins
import os
import tempfile
from pathlib import Path


def protect(monkeypatch, folder, number):
    """Let writing below a folder fail.

    Args:
        monkeypatch: Pytest's fixture.
        folder: The folder.
        number: Number of the OSError, as ``errno.EROFS``.
    """
    real_open, real_mkstemp = open, tempfile.mkstemp

    def check(path):
        if Path(path).is_relative_to(folder):
            raise OSError(number, os.strerror(number), str(path))

    def open_(file, mode='r', *arguments, **options):
        if mode not in ('r', 'rb') and os.path.exists(file):
            check(file)
        return real_open(file, mode, *arguments, **options)

    def mkstemp(*arguments, dir, **options):
        check(dir)
        return real_mkstemp(*arguments, dir=dir, **options)

    monkeypatch.setattr(builtins, 'open', open_)
    monkeypatch.setattr(tempfile, 'mkstemp', mkstemp)
