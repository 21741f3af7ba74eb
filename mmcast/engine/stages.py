"""Paths of the stages' files, and the commands that make them.

A stage's name is the file name of its config. It leaves its files in a folder of that
name: ``configs/mmcast/adapt_x.py`` leaves ``work_dirs/adapt_x/teacher.pth``, and
labels made with that teacher go next to it.
"""

import os
from pathlib import Path

from mmengine.config import Config


def config_of(path: str, running: Config) -> Path:
    """Return the config of the stage that leaves a file; it may not exist.

    Args:
        path: The file, ``.../STAGE/FILE``.
        running: The running stage's config; the other one is in the same folder.
    """
    return Path(running.filename or '').parent / f'{Path(path).parent.name}.py'


def labels_of(teacher: str) -> str:
    """Return the folder of a teacher's pseudo-labels.

    Args:
        teacher: The teacher's checkpoint file.
    """
    return str(Path(teacher).parent / 'pseudo_labels')


def command_of(path: str, running: Config) -> str | None:
    """Return the command that makes a file; None if none is known.

    Args:
        path: The file.
        running: The running stage's config. Its ``made_by`` maps further files to
            commands, as downloads. Switches that it was run with (environment
            variables) go before a stage's command.
    """
    made_by = running.get('made_by') or {}
    if path in made_by:
        return made_by[path]
    config = config_of(path, running)
    if not config.is_file():
        return None
    if config.is_absolute() and config.is_relative_to(os.getcwd()):
        config = config.relative_to(os.getcwd())
    switches = [f'{name}={value}' for name, value in running.env_variables.items()]
    return ' '.join([*switches, f'mim train mmdet {config}'])


def require(path: str, running: Config) -> None:
    """Check that an input of a stage is there.

    Raises:
        FileNotFoundError: It is not; the message has the command that makes it.
    """
    if not Path(path).exists():
        command = command_of(path, running)
        raise FileNotFoundError(
            f'{path} is missing; '
            + (f'make it with: {command}' if command else 'correct the path')
        )
