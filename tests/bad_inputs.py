"""Make over 200 bad inputs, and see what the program says to each.

    python tests/bad_inputs.py      # prints a table by kind

Each input is one spoilt file in a small, good folder, or one wrong setting. A process
of its own reads it, as a tool of mmdet would: it must end with one line that names the
file and the remedy, with an exit status that is not 0, and must leave the folder as it
was.
"""

import argparse
import contextlib
import copy
import functools
import json
import os
import pickle
import re
import shutil
import struct
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import DATASETS, HOOKS, MODELS, TRANSFORMS
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils
from safetensors.torch import save_file
from torch import nn

from mmcast import errors
from mmcast.checkpoints import check_fits, check_resumable, load_strict, read_checkpoint
from mmcast.datasets.coco_file import read_coco
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher

SIZE = (16, 24)
IMAGES = ('a.png', 'b.png', 'c.jpg')
CLASSES = ('cat', 'dog')
NESTED = '[' * 100_000 + ']' * 100_000
# What a message tells to do.
REMEDY = re.compile(
    r'\b(correct|delete|remove|give|put|train|download|convert|set|use|make|repair|'
    r'choose|label|raise|lower|point|do not load|take|rename|start|unpack|check|export|'
    r'resume|add|draw|write|leave|copy|must be)\b',
    re.IGNORECASE,
)

Route = Callable[[Path], Any]


@dataclass(frozen=True)
class BadInput:
    """One bad input.

    Attributes:
        kind: Kind of file, for the table.
        name: What is wrong.
        spoil: Called with the folder; makes the input bad.
        read: Called with the folder; reads it.
        told: What the message must name: a regular expression.
    """

    kind: str
    name: str
    spoil: Callable[[Path], None]
    read: Route
    told: str


# -- a good folder -------------------------------------------------------------------


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


# -- ways to read it -----------------------------------------------------------------


def unlabeled(root: Path) -> None:
    DATASETS.build(
        dict(
            type='ImageListDataset',
            data_root=str(root),
            ann_file='list.txt',
            data_prefix=dict(img='images/'),
        )
    )


def labeled(root: Path, image_list: str | None = None) -> None:
    pipeline = [dict(type='LoadImage'), dict(type='LoadInstances')]
    data = DATASETS.build(
        dict(
            type='ListedCocoDataset',
            data_root=str(root),
            ann_file='coco.json',
            image_list=image_list,
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=CLASSES),
            filter_cfg=dict(filter_empty_gt=True),
            pipeline=pipeline,
        )
    )
    for index in range(len(data)):
        data[index]


def labeled_by_list(root: Path) -> None:
    labeled(root, 'list.txt')


def split_tool(root: Path) -> None:
    read_coco(root / 'coco.json')


def depth(root: Path) -> None:
    load = Compose(
        [
            TRANSFORMS.build(each)
            for each in (
                dict(type='LoadImage'),
                dict(type='LoadLabelMap'),
                dict(type='LoadDepth', disparity=True, invalid_labels=[1]),
            )
        ]
    )
    load(
        dict(
            img_path=str(root / 'images/a.png'),
            seg_map_path=str(root / 'labels/a.png'),
            depth_path=str(root / 'depth/a.png'),
            camera_path=str(root / 'camera/a.json'),
            seg_fields=[],
            reduce_zero_label=False,
            label_map=None,
        )
    )


def entry(root: Path) -> None:
    load = TRANSFORMS.build(
        dict(type='LoadPseudoAnnotations', store=str(root / 'store'), classes=CLASSES)
    )
    load(dict(img_name='a.png', img_shape=SIZE))


def whole_store(root: Path) -> None:
    list(PseudoLabelStore.open(root / 'store').entries())


def checkpoint(root: Path) -> None:
    read_checkpoint(root / 'model.pth')


def test_checkpoint(root: Path) -> None:
    check_fits(nn.Linear(2, 3), str(root / 'model.pth'))


def resumed(root: Path) -> None:
    check_resumable(str(root / 'model.pth'), str(root))


def initial(root: Path) -> None:
    load_strict(nn.Linear(2, 3), str(root / 'model.pth'))


def safetensors(root: Path) -> None:
    load_strict(nn.Linear(2, 3), str(root / 'model.safetensors'))


def build(registry: Any, config: dict, root: Path) -> None:
    registry.build(dict(config))


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


# -- the inputs ----------------------------------------------------------------------

LINES = {
    'empty': '',
    'blank lines only': '\n\n',
    'a blank line inside': 'a.png\n\nb.png\n',
    'the same image twice': 'a.png\nb.png\na.png\n',
    'an image that is missing': 'a.png\nz.png\n',
    'a folder that is missing': 'a.png\nnowhere/b.png\n',
    'an absolute path': '/etc/passwd\n',
    'a path out of the folder': '../coco.json\n',
    'a path out and back': '../images/a.png\n',
    'a path with //': 'x//a.png\n',
    'a backslash': 'x\\a.png\n',
    'a NUL': 'a\0.png\n',
    'an escape character': 'a\x1b[31m.png\n',
    'a tab': 'a\t.png\n',
    'a blank at the start': ' a.png\n',
    'a blank at the end': 'a.png \n',
    'a separator of lines': 'a\u2028.png\n',
    'a name of 5,000 characters': 'a' * 5000 + '.png\n',
    'no text': b'\xff\xfe\x00a\x00.\x00p',
    'an image file': b'\x89PNG\r\n\x1a\n\x00\x00\xff',
    'a URL': 'https://example.org/a.png\n',
    'columns': 'a.png,1\n',
}
PICTURES = {
    'missing': remove('images/a.png'),
    'empty': write('images/a.png', b''),
    'text': write('images/a.png', 'no image'),
    'a web page': write('images/a.png', '<!DOCTYPE html><html>404</html>'),
    'cut to a tenth': cut('images/a.png', 0.1),
    'header alone': cut('images/a.png', 0.3),
    'a folder': folder_instead('images/a.png'),
    'another size': image('images/a.png', np.zeros((20, 24, 3), np.uint8)),
    'turned': image('images/a.png', np.zeros((24, 16, 3), np.uint8)),
    '16 bits, grey': image('images/a.png', np.full(SIZE, 4095, np.uint16)),
    '16 bits, colour': image('images/a.png', np.full((*SIZE, 3), 4095, np.uint16)),
    'told 60,000 x 60,000': write('images/a.png', png_of_size(60_000, 60_000)),
    'told 0 x 0': write('images/a.png', png_of_size(0, 0)),
    'a pickle': write('images/a.png', pickle.dumps([1, 2])),
    'a JPEG of two bytes': write('images/c.jpg', b'\xff\xd8'),
    'a link out of the folder': link('images/a.png', '/etc/passwd'),
    'a link to nowhere': link('images/a.png', 'nowhere.png'),
    'a link to itself': link('images/a.png', 'a.png'),
}
COCO_TEXTS = {
    'empty': '',
    'no JSON': '{"images": [',
    'a list': '[]',
    'null': 'null',
    'a number': '7',
    'deeply nested': NESTED,
    'no text': b'\xff\xfe\x00\x00',
    'a web page': '<html></html>',
}
COCO_EDITS = {
    'no images': (('images',), GONE),
    'no categories': (('categories',), GONE),
    'no annotations': (('annotations',), GONE),
    'images are null': (('images',), None),
    'images are text': (('images',), 'a.png'),
    'no image at all': (('images',), []),
    'an image is null': (('images', 0), None),
    'an image is a list': (('images', 0), []),
    'an image without file_name': (('images', 0, 'file_name'), GONE),
    'an image without id': (('images', 0, 'id'), GONE),
    'an image without height': (('images', 0, 'height'), GONE),
    'an image id that is a list': (('images', 0, 'id'), [0]),
    'a file_name that is a number': (('images', 0, 'file_name'), 7),
    'a file_name that is null': (('images', 0, 'file_name'), None),
    'an absolute file_name': (('images', 0, 'file_name'), '/etc/passwd'),
    'a file_name out of the folder': (('images', 0, 'file_name'), '../coco.json'),
    'a file_name with a line break': (('images', 0, 'file_name'), 'a\n.png'),
    'a file_name that is missing': (('images', 0, 'file_name'), 'z.png'),
    'the same file_name twice': (('images', 1, 'file_name'), 'a.png'),
    'a height that is text': (('images', 0, 'height'), '16'),
    'a height of 0': (('images', 0, 'height'), 0),
    'a negative height': (('images', 0, 'height'), -16),
    'a height of 1e400': (('images', 0, 'height'), 10**400),
    'a width with a fraction': (('images', 0, 'width'), 24.5),
    'height and width swapped': (('images', 0, 'height'), 24),
    'a size of 40,000': (('images', 0, 'width'), 40_000),
    'a category is null': (('categories', 0), None),
    'a category without name': (('categories', 0, 'name'), GONE),
    'a category without id': (('categories', 0, 'id'), GONE),
    'a category name that is a number': (('categories', 0, 'name'), 3),
    'the same category twice': (('categories', 1, 'name'), 'cat'),
    'a class that is missing': (('categories', 0, 'name'), 'horse'),
    'an annotation is null': (('annotations', 0), None),
    'an annotation is text': (('annotations', 0), 'cat'),
    'an annotation without image_id': (('annotations', 0, 'image_id'), GONE),
    'an annotation without category_id': (('annotations', 0, 'category_id'), GONE),
    'an annotation without bbox': (('annotations', 0, 'bbox'), GONE),
    'an annotation without segmentation': (('annotations', 0, 'segmentation'), GONE),
    'an annotation without id': (('annotations', 0, 'id'), GONE),
    'an unknown image_id': (('annotations', 0, 'image_id'), 99),
    'an unknown category_id': (('annotations', 0, 'category_id'), 99),
    'an id twice': (('annotations', 1, 'id'), 0),
    'a mask that is a number': (('annotations', 0, 'segmentation'), 7),
    'a mask that is text': (('annotations', 0, 'segmentation'), 'PPYo1'),
    'a polygon of text': (('annotations', 0, 'segmentation'), [['1', '2']]),
    'a polygon at 1e9': (('annotations', 0, 'segmentation'), [[2, 2, 7, 2, 7, 1e9]]),
    'a polygon with NaN': (
        ('annotations', 0, 'segmentation'),
        [[2, 2, 7, float('nan'), 7, 7]],
    ),
    'a polygon of endless length': (
        ('annotations', 0, 'segmentation'),
        [[0, 0, 23, 15] * 30_000],
    ),
    'an RLE without size': (('annotations', 0, 'segmentation'), {'counts': 'PPYo1'}),
    'an RLE without counts': (('annotations', 0, 'segmentation'), {'size': [16, 24]}),
    'an RLE of another size': (
        ('annotations', 0, 'segmentation'),
        {**rle(), 'size': [24, 16]},
    ),
    'an RLE of 40,000 x 40,000': (
        ('annotations', 0, 'segmentation'),
        {'size': [40_000, 40_000], 'counts': 'PPYo1'},
    ),
    'run lengths that are too long': (
        ('annotations', 0, 'segmentation'),
        {'size': [16, 24], 'counts': [300, 100]},
    ),
    'run lengths below 0': (
        ('annotations', 0, 'segmentation'),
        {'size': [16, 24], 'counts': [400, -16]},
    ),
    'run lengths cut off': (
        ('annotations', 0, 'segmentation'),
        {'size': [16, 24], 'counts': rle()['counts'][:-2]},
    ),
}
# Read all the same: mended, or the object is left out with a warning.
MENDED = {
    'a height that is text',
    *(
        name
        for name in COCO_EDITS
        if name.startswith(('a mask', 'a polygon', 'an RLE'))
    ),
    *(name for name in COCO_EDITS if name.startswith('run lengths')),
    *(f'an annotation without {field}' for field in ('bbox', 'segmentation', 'id')),
    'an id twice',
}
ENTRIES = {
    'an image of another name': (('image',), 'b.png'),
    'no image': (('image',), GONE),
    'no size': (('size',), GONE),
    'a size that is null': (('size',), None),
    'a size of three': (('size',), [16, 24, 3]),
    'a size that is text': (('size',), ['16', '24']),
    'a negative size': (('size',), [-16, -24]),
    'a size of 1e400': (('size',), [10**400, 1]),
    'a size of 40,000': (('size',), [40_000, 40_000]),
    'another size than the image': (('size',), [24, 16]),
    'no instances': (('instances',), GONE),
    'instances that are an object': (('instances',), {'0': {}}),
    'an instance that is a number': (('instances',), [7]),
    'an unknown label': (('instances', 0, 'label'), 2),
    'a negative label': (('instances', 0, 'label'), -1),
    'a label of 1e400': (('instances', 0, 'label'), 10**400),
    'a label with a fraction': (('instances', 0, 'label'), 0.5),
    'a label that is text': (('instances', 0, 'label'), '0'),
    'a score that is text': (('instances', 0, 'score'), '0.9'),
    'a score of 2': (('instances', 0, 'score'), 2),
    'a score that is NaN': (('instances', 0, 'score'), float('nan')),
    'scores out of order': (('instances', 0, 'score'), 0.1),
    'no box': (('instances', 0, 'bbox'), GONE),
    'a box of three': (('instances', 0, 'bbox'), [1, 2, 3]),
    'a box of text': (('instances', 0, 'bbox'), ['a'] * 4),
    'a mask of polygons': (('instances', 0, 'segmentation'), [[0, 0, 5, 0, 5, 5]]),
    'an RLE of another size': (
        ('instances', 0, 'segmentation'),
        {'size': [40_000, 40_000], 'counts': 'PPYo1'},
    ),
    'run lengths that are no text': (('instances', 0, 'segmentation', 'counts'), 7),
    'run lengths cut off': (
        ('instances', 0, 'segmentation', 'counts'),
        rle()['counts'][:-2],
    ),
    'run lengths that are empty': (('instances', 0, 'segmentation', 'counts'), ''),
}
MANIFESTS = {
    'another format': (('format',), 'other'),
    'another version': (('version',), 99),
    'a version that is text': (('version',), '1'),
    'no classes': (('classes',), GONE),
    'classes that are text': (('classes',), 'cat'),
    'classes that are numbers': (('classes',), [1, 2]),
    'other classes': (('classes',), ['dog', 'cat']),
    'no teacher': (('teacher',), GONE),
    'a teacher that is text': (('teacher',), 't.pth'),
    'a teacher with more': (('teacher', 'x'), '1'),
    'a digest that is a number': (('teacher', 'digest'), 7),
    'a min_score of 2': (('min_score',), 2),
    'a min_score that is text': (('min_score',), '0.1'),
    'max_instances below 0': (('max_instances',), -1),
    'max_instances with a fraction': (('max_instances',), 1.5),
}
JSON_TEXTS = {
    'empty': '',
    'cut': '{"image": "a.png", "si',
    'a list': '[]',
    'null': 'null',
    'deeply nested': NESTED,
    'no text': b'\xff\xfe\x00\x00',
}
CAMERAS = {
    'no baseline': (('extrinsic', 'baseline'), GONE),
    'no extrinsic': (('extrinsic',), GONE),
    'extrinsic is a list': (('extrinsic',), []),
    'a baseline of 0': (('extrinsic', 'baseline'), 0),
    'a negative baseline': (('extrinsic', 'baseline'), -0.2),
    'a baseline that is text': (('extrinsic', 'baseline'), '0.2'),
    'no fx': (('intrinsic', 'fx'), GONE),
    'an fx without end': (('intrinsic', 'fx'), float('inf')),
    'an fx that is NaN': (('intrinsic', 'fx'), float('nan')),
    'a u0 that is null': (('intrinsic', 'u0'), None),
}
DEPTHS = {
    'missing': remove('depth/a.png'),
    'empty': write('depth/a.png', b''),
    'text': write('depth/a.png', 'depth'),
    'cut to a tenth': cut('depth/a.png', 0.1),
    'a folder': folder_instead('depth/a.png'),
    'another size': image('depth/a.png', np.ones((8, 24), np.uint16)),
    'in colour': image('depth/a.png', np.ones((*SIZE, 3), np.uint8)),
    'without any measurement': image('depth/a.png', np.zeros(SIZE, np.uint16)),
}
LABEL_MAPS = {
    'missing': remove('labels/a.png'),
    'empty': write('labels/a.png', b''),
    'text': write('labels/a.png', 'labels'),
    'cut to a tenth': cut('labels/a.png', 0.1),
    'a folder': folder_instead('labels/a.png'),
    'another size': image('labels/a.png', np.ones((8, 24), np.uint8)),
    'in colour': image('labels/a.png', np.ones((*SIZE, 3), np.uint8)),
}
CHECKPOINTS = {
    'missing': remove('model.pth'),
    'empty': write('model.pth', b''),
    'text': write('model.pth', 'weights'),
    'a web page': write('model.pth', '<html>404</html>'),
    'a pointer of git-lfs': write('model.pth', 'version https://git-lfs.github.com'),
    'cut in half': cut('model.pth', 0.5),
    'cut at its end': cut('model.pth', 0.98),
    'a changed byte': change_weight,
    'a plain pickle': write('model.pth', pickle.dumps({'a': 1})),
    'a hostile pickle': write('model.pth', pickle.dumps(Hostile(), protocol=2)),
    'a hostile object': save({'state_dict': {'weight': Hostile()}}),
    'a hostile object, old format': save({'state_dict': Hostile()}, legacy=True),
}
WEIGHTS = {
    'a list': save([1, 2]),
    'a tensor': save(torch.zeros(2)),
    'no weights': save({'state_dict': {}}),
    'text in place of a weight': save({'state_dict': {'weight': 'x', 'bias': 'y'}}),
    'other names': save({'state_dict': {'x': torch.zeros(3, 2)}}),
    'another shape': save(
        {'state_dict': {'weight': torch.zeros(9, 9), 'bias': torch.zeros(3)}}
    ),
}
SAFETENSORS = {
    'missing': remove('model.safetensors'),
    'empty': write('model.safetensors', b''),
    'text': write('model.safetensors', 'weights'),
    'cut in half': cut('model.safetensors', 0.5),
    'a huge header': write('model.safetensors', struct.pack('<Q', 1 << 60) + b'{}'),
    'a header that is no JSON': write(
        'model.safetensors', struct.pack('<Q', 4) + b'{{{{'
    ),
}
CONTRAST = dict(type='PixelContrastLoss')
PSEUDO = dict(type='LoadPseudoAnnotations')
HEAD = dict(
    type='PixelContrastHead', in_channels=8, mean=[0] * 3, std=[1] * 3, loss=CONTRAST
)
UPDATE = dict(type='TeacherUpdateHook', burn_in_iters=1, momentum=0.9)
SETTINGS: dict[str, tuple[Any, dict]] = {
    'score_thr': (TRANSFORMS, dict(PSEUDO, score_thr=2)),
    'min_area': (TRANSFORMS, dict(PSEUDO, min_area=0)),
    'min_left': (TRANSFORMS, dict(PSEUDO, min_left=2)),
    'boxes': (TRANSFORMS, dict(PSEUDO, boxes='x')),
    'scale': (TRANSFORMS, dict(type='LoadDepth', scale=-1)),
    'preset': (TRANSFORMS, dict(type='LoadDepth', preset='x')),
    'preset of': (MODELS, dict(HEAD, preset='x')),
    'score': (MODELS, dict(CONTRAST, score='x')),
    'negatives': (MODELS, dict(CONTRAST, negatives='x')),
    'temperature': (MODELS, dict(CONTRAST, temperature=0)),
    'num_negatives': (MODELS, dict(CONTRAST, num_negatives=0)),
    'patience': (HOOKS, dict(type='SkipInvalidLossHook', patience=0)),
    'burn_in_iters': (HOOKS, dict(UPDATE, burn_in_iters=-1)),
    'momentum': (HOOKS, dict(UPDATE, momentum=2.0)),
}


def bad_inputs() -> Iterator[BadInput]:
    """Yield all of them."""
    for name, content in LINES.items():
        spoil = write('list.txt', content)
        yield BadInput('list of unlabelled images', name, spoil, unlabeled, 'list.txt')
        yield BadInput(
            'list of labelled images', name, spoil, labeled_by_list, 'list.txt'
        )
    for name, spoil in PICTURES.items():
        file = 'c.jpg' if 'JPEG' in name else 'a.png'
        yield BadInput('labelled image', name, spoil, labeled, file)
    for name, text in COCO_TEXTS.items():
        for route in (labeled, split_tool):
            title = f'{name}, {route.__name__}'
            yield BadInput(
                'COCO file', title, write('coco.json', text), route, 'coco.json'
            )
    for name, (keys, value) in COCO_EDITS.items():
        spoil = edit('coco.json', *keys, value=value)
        yield BadInput('COCO file', name, spoil, labeled, r'coco\.json|a\.png')
    for name, text in JSON_TEXTS.items():
        spoil = write('store/a.json', text)
        yield BadInput('pseudo-labels', name, spoil, entry, 'a.json')
        yield BadInput('pseudo-labels, all', name, spoil, whole_store, 'a.json')
        spoil = write('store/manifest.json', text)
        yield BadInput('manifest', name, spoil, entry, 'manifest.json')
        spoil = write('camera/a.json', text)
        yield BadInput('camera file', name, spoil, depth, 'camera/a.json')
    for name, (keys, value) in ENTRIES.items():
        spoil = edit('store/a.json', *keys, value=value)
        yield BadInput('pseudo-labels', name, spoil, entry, r'a\.json|a\.png')
    for name, (keys, value) in MANIFESTS.items():
        spoil = edit('store/manifest.json', *keys, value=value)
        yield BadInput('manifest', name, spoil, entry, 'store')
    for name, (keys, value) in CAMERAS.items():
        spoil = edit('camera/a.json', *keys, value=value)
        yield BadInput('camera file', name, spoil, depth, 'camera/a.json')
    for name, spoil in DEPTHS.items():
        yield BadInput('depth file', name, spoil, depth, 'depth/a.png')
    for name, spoil in LABEL_MAPS.items():
        yield BadInput('label map', name, spoil, depth, 'labels/a.png')
    for name, spoil in CHECKPOINTS.items():
        for kind, route in (
            ('checkpoint to read', checkpoint),
            ('checkpoint to test', test_checkpoint),
            ('checkpoint to resume', resumed),
            ('initial weights', initial),
        ):
            yield BadInput(kind, name, spoil, route, 'model.pth')
    for name, spoil in WEIGHTS.items():
        yield BadInput('checkpoint to test', name, spoil, test_checkpoint, 'model.pth')
        yield BadInput('initial weights', name, spoil, initial, 'model.pth')
    for name, spoil in SAFETENSORS.items():
        yield BadInput(
            'initial weights, safetensors', name, spoil, safetensors, 'model.safet'
        )
    for name, (registry, config) in SETTINGS.items():
        yield BadInput(
            'setting',
            name,
            lambda root: None,
            functools.partial(build, registry, config),
            name.split()[0],
        )


# -- what the program says -----------------------------------------------------------


def problem(bad: BadInput, root: Path) -> str | None:
    """Read a bad input in a process of its own.

    Args:
        bad: The input.
        root: A new folder, which is filled.

    Returns:
        What is wrong with the answer; None if all is as promised.
    """
    init_default_scope('mmdet')
    make_good(root)
    bad.spoil(root)
    before = snapshot(root)
    output = root.with_name(f'{root.name}.log')
    child = os.fork()
    if not child:
        _read(bad, root, output)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = output.read_text(errors='replace')
    lines = [line for line in text.splitlines() if line.startswith('error: ')]
    if status != 1:
        return f'exit status {status}: {text[-300:]}'
    if 'Traceback' in text or len(lines) != 1 or not text.rstrip().endswith(lines[0]):
        return f'not one line: {text[-300:]}'
    if not re.search(bad.told, lines[0]):
        return f'does not name {bad.told}: {lines[0]}'
    if not REMEDY.search(lines[0]):
        return f'has no remedy: {lines[0]}'
    if len(lines[0]) > 1000:
        return f'is long: {lines[0][:300]}'
    if snapshot(root) != before:
        return 'files were left or changed'
    return None


def snapshot(root: Path) -> dict[str, Any]:
    """Return all files below a folder with their content."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob('*'))
    }


def _read(bad: BadInput, root: Path, output: Path) -> None:
    """Read the input and end this process as a tool would."""
    status = 3
    try:
        with output.open('w') as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, 'w'), os.fdopen(2, 'w')
        os.chdir(root)
        try:
            bad.read(root)
            status = 0
        except BaseException as error:
            errors.show(type(error), error, error.__traceback__)
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.parse_args()
    made: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, bad in enumerate(bad_inputs()):
            root = Path(folder) / str(number)
            why = problem(bad, root)
            made[bad.kind] += 1
            if why:
                failed[bad.kind] += 1
                print(f'{bad.kind}, {bad.name}: {why}', file=sys.stderr)
            shutil.rmtree(root)
    print('| kind | inputs | one line with file and remedy |\n|---|---|---|')
    for kind, count in made.items():
        print(f'| {kind} | {count} | {count - failed[kind]} |')
    print(f'| all | {made.total()} | {made.total() - failed.total()} |')
    sys.exit(bool(failed))


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        main()
