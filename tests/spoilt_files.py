"""A small folder in which every file is good, and ways to spoil one of them."""

import copy
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as mask_utils
from safetensors.torch import save_file
from torch import nn

from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher

SIZE = (16, 24)
IMAGES = ('a.png', 'b.png', 'c.jpg')
CLASSES = ('cat', 'dog')


def make_good(root: Path) -> None:
    """Write a folder in which every file is good."""
    for folder in ('images', 'labels', 'depth', 'camera'):
        (root / folder).mkdir(parents=True)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    picture = np.stack([rows, columns, rows + columns], -1).astype(np.uint8)
    for name in IMAGES:
        cv2.imwrite(str(root / 'images' / name), picture)
    cv2.imwrite(str(root / 'labels/a.png'), (rows % 3).astype(np.uint8))
    cv2.imwrite(str(root / 'depth/a.png'), (256 * (rows + 1) + 1).astype(np.uint16))
    camera = dict(
        extrinsic=dict(baseline=0.2), intrinsic=dict(fx=100, fy=90, u0=12, v0=8)
    )
    (root / 'camera/a.json').write_text(json.dumps(camera))
    (root / 'list.txt').write_text('\n'.join(IMAGES) + '\n')
    (root / 'coco.json').write_text(json.dumps(coco()))
    store = PseudoLabelStore.create(
        root / 'store', classes=CLASSES, teacher=Teacher('t.py', 't.pth', 'ab' * 32)
    )
    masks = [rle(), rle()]
    boxes = [[3, 2, 11, 9]] * 2
    store.write('a.png', SIZE, [0, 1], [0.9, 0.5], boxes, masks)
    torch.manual_seed(0)
    state = nn.Linear(2, 3).state_dict()
    torch.save({'state_dict': state, 'meta': {}}, root / 'model.pth')
    save_file(state, root / 'model.safetensors')


def rle() -> dict[str, Any]:
    mask = np.zeros(SIZE, np.uint8)
    mask[2:9, 3:11] = 1
    found = mask_utils.encode(np.asfortranarray(mask))
    return {'size': list(SIZE), 'counts': found['counts'].decode()}


def coco() -> dict[str, Any]:
    polygon = [[3, 2, 11, 2, 11, 9, 3, 9]]
    return dict(
        images=[
            dict(id=i, file_name=name, height=SIZE[0], width=SIZE[1])
            for i, name in enumerate(IMAGES)
        ],
        categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES)],
        annotations=[
            dict(
                id=i,
                image_id=i,
                category_id=i % 2,
                bbox=[3, 2, 8, 7],
                area=56,
                iscrowd=0,
                segmentation=polygon,
            )
            for i in range(len(IMAGES))
        ],
    )


# -- ways to spoil it ----------------------------------------------------------------


def write(file: str, content: bytes | str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        data = content if isinstance(content, bytes) else content.encode()
        (root / file).write_bytes(data)

    return spoil


def remove(file: str) -> Callable[[Path], None]:
    return lambda root: (root / file).unlink()


def folder_instead(file: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / file).unlink()
        (root / file).mkdir()

    return spoil


def cut(file: str, share: float) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        data = (root / file).read_bytes()
        (root / file).write_bytes(data[: int(share * len(data))])

    return spoil


def change_weight(root: Path) -> None:
    """Change one byte of a weight."""
    path = root / 'model.pth'
    data = path.read_bytes()
    weight = torch.load(path, weights_only=True)['state_dict']['weight']
    place = data.index(weight.numpy().tobytes())
    path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])


def link(file: str, to: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / file).unlink()
        (root / file).symlink_to(to)

    return spoil


def edit(file: str, *keys: Any, value: Any) -> Callable[[Path], None]:
    """Set a value in a JSON file; the value :data:`GONE` removes it."""

    def spoil(root: Path) -> None:
        content = json.loads((root / file).read_text())
        node = content
        for key in keys[:-1]:
            node = node[key]
        if value is GONE:
            del node[keys[-1]]
        else:
            node[keys[-1]] = copy.deepcopy(value)
        (root / file).write_text(json.dumps(content))

    return spoil


GONE = object()


def image(file: str, pixels: np.ndarray) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        assert cv2.imwrite(str(root / file), pixels)

    return spoil


def png_of_size(height: int, width: int) -> bytes:
    """Return a PNG whose header tells of an image that is not there."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', check)

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    body = chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'\0' * 99))
    return b'\x89PNG\r\n\x1a\n' + body + chunk(b'IEND', b'')


class Hostile:
    """Make a file when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ('executed',)


def save(content: Any, legacy: bool = False) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        torch.save(
            content, root / 'model.pth', _use_new_zipfile_serialization=not legacy
        )

    return spoil
