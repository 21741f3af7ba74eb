"""Checkpoint files: reading them cheaply, whether they are whole and fit a model."""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn


def read_checkpoint(path: str | Path, *, shapes_only: bool = False) -> dict[str, Any]:
    """Read a checkpoint file of mmengine's layout, running no code in it.

    Args:
        path: File name.
        shapes_only: Whether tensors come without their data, on the meta device.

    Returns:
        A dict with ``state_dict`` (keys without ``module.``) and maybe ``meta``.

    Raises:
        ValueError: The file is no checkpoint.
    """
    try:
        content = torch.load(
            path,
            map_location='meta' if shapes_only else 'cpu',
            weights_only=True,
            # Checkpoints from before torch 1.6 are no zip files.
            mmap=zipfile.is_zipfile(path),
        )
        state = content.get('state_dict', content)
        state = {key.removeprefix('module.'): value for key, value in state.items()}
    except FileNotFoundError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[:1]
        raise ValueError(
            f'{path} cannot be read as a checkpoint ({" ".join(reason)}): make or '
            'download it again.'
        ) from error
    return (
        {**content, 'state_dict': state}
        if 'state_dict' in content
        else {'state_dict': state}
    )


def check_fits(
    model: nn.Module, path: str | Path, *, ignore: Sequence[str] = ()
) -> None:
    """Check that a checkpoint file has every weight of a model, in its shape.

    mmengine only warns of missing and misshapen weights and trains on.

    Args:
        model: The model that shall be loaded, not wrapped for distribution.
        path: Checkpoint file.
        ignore: Prefixes of model keys that may be missing or of another shape.

    Raises:
        ValueError: Weights are missing or of another shape.
    """
    found = read_checkpoint(path, shapes_only=True)['state_dict']
    wrong = []
    for key, value in model.state_dict().items():
        if key.startswith(tuple(ignore)):
            continue
        if key not in found:
            wrong.append(f'{key} is missing')
        elif found[key].shape != value.shape:
            wrong.append(
                f'{key} is {tuple(found[key].shape)}, not {tuple(value.shape)}'
            )
    if wrong:
        raise ValueError(
            f'{path} does not fit the model: {len(wrong)} of its '
            f'{len(model.state_dict())} weights differ ({"; ".join(wrong[:3])}'
            f'{"; ..." if len(wrong) > 3 else ""}): give a checkpoint of the same '
            'architecture and classes.'
        )


def check_resumable(path: str, work_dir: str) -> None:
    """Check that a file to resume training from is whole.

    mmengine writes a checkpoint in place and then names it in ``last_checkpoint``, so
    what a kill tears is not named yet, and the one before is. Not so where
    ``save_best`` has the last one written again, or ``max_keep_ckpts=1`` has the one
    before removed first.

    Args:
        path: What ``last_checkpoint`` or ``--resume`` names, '' if a kill left
            ``last_checkpoint`` empty; URLs are not checked.
        work_dir: Where to look for the one before.

    Raises:
        ValueError: The file is missing or torn.
    """
    if '://' in path or zipfile.is_zipfile(path):
        return
    whole = [
        other
        for other in Path(work_dir).glob('*.pth')
        if re.fullmatch(r'(iter|epoch)_\d+', other.stem) and zipfile.is_zipfile(other)
    ]
    if whole:
        remedy = f'--resume {max(whole, key=lambda other: other.stat().st_mtime)}'
    else:
        remedy = f'there is none in {work_dir}, so start without --resume'
    raise ValueError(
        f'{path or Path(work_dir, "last_checkpoint")} to resume from is missing or '
        'torn, as by a kill while it was written; go on from the last whole '
        f'checkpoint: {remedy}'
    )
