"""What can be wrong with each kind of file, and with settings, by name."""

import pickle
import struct
from typing import Any

import numpy as np
import torch
from mmdet.registry import HOOKS, MODELS, TRANSFORMS
from spoilt_files import (
    GONE,
    SIZE,
    Hostile,
    change_weight,
    cut,
    folder_instead,
    image,
    link,
    png_of_size,
    remove,
    rle,
    save,
    write,
)

NESTED = '[' * 100_000 + ']' * 100_000
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
