"""Test images that cannot be read, that have too many bits, and a lost folder."""

import struct

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS, TRANSFORMS

from mmcast.datasets.image_bits import bits_per_channel
from mmcast.datasets.transforms.images import UnreadableImageError
from mmcast.testing import THINGS

TWELVE_BITS = np.arange(0, 4096, dtype=np.uint16).reshape(64, 64)


def encoded(suffix, dtype, channels):
    image = TWELVE_BITS.astype(dtype)
    if channels == 3:
        image = np.stack([image] * 3, -1)
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.jp2'])
@pytest.mark.parametrize(('dtype', 'bits'), [(np.uint8, 8), (np.uint16, 16)])
@pytest.mark.parametrize('channels', [1, 3])
def test_bits_are_read_from_the_header(suffix, dtype, bits, channels):
    assert bits_per_channel(encoded(suffix, dtype, channels)) == bits


@pytest.mark.parametrize('bits', [8, 10, 12])
def test_bits_of_an_avif(bits):
    image = TWELVE_BITS >> (12 - bits)
    image = image.astype(np.uint8) if bits == 8 else image
    content = cv2.imencode('.avif', image, [cv2.IMWRITE_AVIF_DEPTH, bits])[1].tobytes()
    assert bits_per_channel(content) == bits


def test_bits_of_a_big_endian_tiff():
    entry = struct.pack('>HHIHH', 258, 3, 1, 16, 0)
    assert bits_per_channel(b'MM\0*' + struct.pack('>IH', 8, 1) + entry) == 16
    other = struct.pack('>HHIHH', 257, 3, 1, 16, 0)
    assert bits_per_channel(b'MM\0*' + struct.pack('>IH', 8, 1) + other) == 1


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.jp2'])
def test_damaged_header_is_left_to_the_decoder(suffix):
    whole = encoded(suffix, np.uint16, 3)
    for end in range(24):
        assert bits_per_channel(whole[:end]) == 8
    assert bits_per_channel(encoded('.jpg', np.uint8, 3)) == 8


def loader(kind='LoadImage', **settings):
    return TRANSFORMS.build(dict(type=kind, **settings))


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.jp2'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_12_bits_in_16_are_refused(suffix, backend, tmp_path):
    path = tmp_path / f'a{suffix}'
    path.write_bytes(encoded(suffix, np.uint16, 1))
    results = dict(img_path=str(path), img_name=path.name)
    with pytest.raises(UnreadableImageError) as error:
        loader(imdecode_backend=backend).transform(results)
    assert str(error.value) == (
        f'{path} cannot be read (it has 16 bits a channel, and loading keeps the upper '
        "8: convert it to 8 bits, or load it with color_type='unchanged'): repair it, "
        'or take it off the list'
    )
    unlabeled = loader('LoadUnlabeledImage', imdecode_backend=backend)
    assert unlabeled.transform(results) is None
    assert unlabeled.skipped[0].startswith(f'{path} (it has 16 bits')
    assert loader(ignore_empty=True).transform(results) is None


def test_8_bits_are_loaded_as_mmcv_does(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(encoded('.png', np.uint8, 3))
    for settings in (
        {},
        dict(to_float32=True),
        dict(imdecode_backend='pillow', color_type='grayscale'),
        dict(file_client_args=dict(backend='disk')),
    ):
        ours, theirs = (
            loader(kind, **settings).transform(dict(img_path=str(path)))
            for kind in ('LoadImage', 'mmcv.LoadImageFromFile')
        )
        assert ours.keys() == theirs.keys()
        np.testing.assert_array_equal(ours['img'], theirs['img'])
        assert ours['img'].dtype == theirs['img'].dtype
        assert ours['ori_shape'] == theirs['ori_shape'] == ours['img_shape']


def dataset(folder, names, **settings):
    (folder.parent / 'list.txt').write_text(''.join(f'{name}\n' for name in names))
    unlabeled = dict(
        type='ImageListDataset',
        ann_file=str(folder.parent / 'list.txt'),
        data_prefix=dict(img=str(folder)),
        metainfo=THINGS,
    )
    whole = DATASETS.build(
        dict(
            type='SemiSupervisedDataset',
            labeled_dataset=unlabeled,
            unlabeled_dataset=unlabeled,
            weak_view=[],
            **settings,
        )
    )
    # Labels are not the matter here.
    pipelines = [part.pipeline.transforms for part in whole.datasets]
    for transforms in pipelines:
        del transforms[1]
    return whole


def test_a_config_can_ask_for_16_bits(tmp_path):
    folder = tmp_path / 'img'
    folder.mkdir()
    (folder / 'a.png').write_bytes(encoded('.png', np.uint16, 3))
    with pytest.raises(UnreadableImageError, match='16 bits a channel'):
        dataset(folder, ['a.png'])[0]
    whole = dataset(folder, ['a.png'], load_image=dict(color_type='unchanged'))
    for index, branch in enumerate(('sup', 'unsup')):
        assert int(whole[index]['inputs'][branch].float().max()) == 4095


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'disk' / 'img'
    (folder / 'town').mkdir(parents=True)
    for name in ('town/a.png', 'town/b.png'):
        (folder / name).write_bytes(encoded('.png', np.uint8, 3))
    return folder


def unmount(folder):
    for path in sorted(folder.rglob('*'), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize('index', [0, 2])
@pytest.mark.parametrize(
    'lose', [lambda folder: folder.parent.rename(folder.parents[1] / 'x'), unmount]
)
def test_lost_folder_is_one_error(index, lose, images):
    """Lose the folder, or what is in it; index 2 is an unlabelled image."""
    whole = dataset(images, ['town/a.png', 'town/b.png'])
    whole[index]
    lose(images)
    with pytest.raises(FileNotFoundError) as error:
        whole[index]
    assert str(error.value) == (
        f"image folder '{images}/' is gone, or empty: bring it back (is its disk "
        'mounted?), then continue: a training with --resume'
    )


def test_one_lost_image_is_not_a_lost_folder(images):
    whole = dataset(images, ['town/a.png', 'town/b.png'])
    (images / 'town/a.png').unlink()
    with pytest.raises(UnreadableImageError, match=r'town/a\.png cannot be read \(\['):
        whole[0]
    skipped = whole[2]['data_samples']['unsup'].unreadable
    # Another image is drawn at random, maybe the same one again.
    assert skipped
    assert all(each.startswith(f'{images}/town/a.png (') for each in skipped)
