"""Paths of the stages' files, and the commands that make them.

A stage's name is the file name of its config. It leaves its files in a folder of that
name: ``configs/mmcast/adapt_x.py`` leaves ``work_dirs/adapt_x/teacher.pth``, and
labels made with that teacher go next to it.
"""

import json
import os
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from mmengine.config import Config

from mmcast._requirements import mim_name
from mmcast.errors import tool

# CocoMetric's name of the mask AP, from 0 to 1.
MASK_AP = 'coco/segm_mAP'


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
        teacher: The teacher's checkpoint file; or the folder itself.
    """
    return str(Path(teacher).parent / 'pseudo_labels') if is_file(teacher) else teacher


def is_file(teacher: str) -> bool:
    """Say whether a teacher is a file, which has a suffix, or a folder of labels."""
    return bool(Path(teacher).suffix) and not Path(teacher).is_dir()


def sam3_command(
    images: str,
    image_list: str,
    classes: Sequence[str],
    store: str,
    phrases: Sequence[str] = (),
    *,
    link_root: str | Path | None = None,
    max_instances: int = 100,
) -> str:
    """Return the command that fills a folder of labels with SAM 3.

    Args:
        images: Folder of the images.
        image_list: List of images; '' for the whole folder.
        classes: Class names.
        store: Folder of the labels.
        phrases: The noun phrase of each class; () if they are called by name.
        link_root: Links in the image folder may lead to places below this one.
        max_instances: Most instances that are kept of an image.
    """
    words = ['mmcast', 'label', '--teacher', 'sam3', '--images', images]
    words += ['--list', image_list] if image_list else []
    words += ['--classes', *classes]
    pairs = zip(classes, phrases or classes, strict=True)
    prompts = [f'{name}={phrase}' for name, phrase in pairs if phrase != name]
    words += ['--prompts', *prompts] if prompts else []
    words += ['--link-root', str(link_root)] if link_root else []
    words += ['--max-instances', str(max_instances)] if max_instances != 100 else []
    return shlex.join([*words, '--store', store])


def metrics_file(checkpoint: str | os.PathLike[str]) -> Path:
    """Return the file in which a stage writes the metrics of what it leaves.

    Args:
        checkpoint: The file that the stage leaves, as ``.../teacher.pth``.
    """
    return Path(checkpoint).with_suffix('.json')


def mask_ap(checkpoint: str | os.PathLike[str]) -> float | None:
    """Return the mask AP (0 to 100) of what a stage left, on the validation images.

    Args:
        checkpoint: The file that the stage left.

    Returns:
        The AP; None if it was not measured.

    Raises:
        ValueError: The file with the metrics is damaged.
    """
    path = metrics_file(checkpoint)
    # A COCO file of labels may be the teacher, and is no file of metrics.
    if path == Path(checkpoint) or not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())['metrics'].get(MASK_AP)
        return None if found is None else percent(float(found))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is not what a stage writes ({error!r}): remove it'
        ) from None


def percent(mask_ap: float) -> float | None:
    """Return CocoMetric's mask AP from 0 to 100; None if there was nothing to find."""
    return 100 * mask_ap if mask_ap >= 0 else None


def plain_config(running: Config) -> Path | None:
    """Return the config of the plain detector that a wrapper's stage trains.

    It is in the same folder, has the same words after the stage (``supervised_x.py``
    for ``distill_x.py``), and its model is the wrapper's student, maybe without
    contrast.

    Args:
        running: The wrapper's config.

    Returns:
        The config; None if there is none.
    """
    path = Path(running.filename or '')
    student = _network(path, 'student') if path.is_file() else None
    if student is None:
        return None
    for other in sorted(path.parent.glob('*.py')):
        same_data = other.stem.partition('_')[2] == path.stem.partition('_')[2]
        # Other Python files are not run.
        if same_data and '_base_' in other.read_text() and _network(other) == student:
            return other
    return None


def _network(config: Path, part: str | None = None) -> dict | None:
    """Return the config of a stage's model, or of a part of it, without contrast."""
    model = Config.fromfile(config, import_custom_modules=False).get('model') or {}
    network = model if part is None else model.get(part)
    return network and {k: v for k, v in network.items() if k != 'pixel_contrast'}


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
    return ' '.join([*switches, f'mim train {mim_name()} {config}'])


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


def refuse_wrapper(
    found: Collection[str],
    wanted: Collection[str],
    path: str,
    ignore: Sequence[str] = (),
) -> None:
    """Refuse the checkpoint of a wrapper for the plain detector inside it.

    Args:
        found: The file's names of weights.
        wanted: The detector's.
        path: The file.
        ignore: Prefixes of names that do not count.

    Raises:
        ValueError: The file has all wanted weights below ``student.``, and none under
            its own name. The message tells how to get a file that has.
    """
    names = [name.removeprefix('module.') for name in wanted]
    names = [name for name in names if not name.startswith(tuple(ignore))]
    if not names or any(
        name in found or f'student.{name}' not in found for name in names
    ):
        return
    exported = Path(path).with_name('student.pth')
    if exported.is_file():
        remedy = f'give {exported}, which was exported when training ended'
    else:
        command = f'{tool("misc/export_part.py")} {path} {exported}'
        remedy = f'take the student out with: {command}'
    raise ValueError(
        f'{path} has the weights of a training with a teacher, and the config is that '
        f'of the detector alone, which is the student there: {remedy}'
    )
