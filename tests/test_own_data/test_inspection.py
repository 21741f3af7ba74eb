"""Look at files that are wrong in every way the table knows."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin
from pycocotools import mask as mask_utils

import mmcast  # noqa: F401
from mmcast.datasets import image_sizes
from mmcast.datasets.coco_file import CocoFile, read_coco
from mmcast.datasets.image_sizes import loaded_size, read_sizes
from mmcast.own_data import image_files
from mmcast.own_data.image_files import find_copies
from mmcast.own_data.inspection import Inspection, inspect

SQUARE = [[2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]]


class World:
    """A folder of images, and the COCO content that belongs to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.coco: dict[str, Any] = dict(
            images=[],
            annotations=[],
            categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
        )

    def image(self, name: str, size: tuple[int, int] = (30, 20), **exif: int) -> str:
        """Write an image (width, height) and add it to the JSON."""
        rng = np.random.default_rng(len(self.coco['images']))
        pixels = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
        tags = Image.Exif()
        for key, value in exif.items():
            tags[ExifTags.Base[key]] = value
        Image.fromarray(pixels).save(self.folder / name, exif=tags)
        self.add(name, size)
        return name

    def add(self, name: str, size: tuple[int, int] = (30, 20)) -> None:
        images = self.coco['images']
        images.append(
            dict(id=len(images), file_name=name, width=size[0], height=size[1])
        )

    def annotate(self, mask: Any = SQUARE, image: int = -1, **more: Any) -> None:
        """Add an object of the class cat to an image."""
        found = self.coco['annotations']
        each = dict(id=len(found), category_id=1, bbox=[2, 2, 10, 10], area=100)
        each |= dict(segmentation=mask, iscrowd=0, **more)
        found.append(dict(each, image_id=self.coco['images'][image]['id']))

    def inspect(self) -> Inspection:
        return inspect(self.read(), self.folder)

    def read(self) -> CocoFile:
        path = self.folder / 'coco.json'
        path.write_text(json.dumps(self.coco))
        return read_coco(path, self.folder)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.image('good.png')
    world.annotate()
    return world


def line(found: Inspection, what: str) -> tuple[str, bool]:
    """Return count and whether it stops, of the one line of that name."""
    (each,) = [each for each in found.findings if each.what == what]
    assert bool(each.remedy) or not each.stops
    return each.count, each.stops


def stops(found: Inspection) -> set[str]:
    return {each.what for each in found.findings if each.stops}


def test_a_good_file_has_nothing_to_repair(world: World) -> None:
    found = world.inspect()
    assert stops(found) == set()
    assert found.classes == ('cat',)
    assert found.annotated == {'good.png': {'cat'}}
    assert found.others == []
    assert found.sizes == {(30, 20): 1}
    assert line(found, 'classes without an instance')[0] == '1: dog'
    assert line(found, 'images with') == ('cat: 1', False)


def test_missing_and_additional_images(world: World) -> None:
    world.add('lost.png')
    cv2.imwrite(str(world.folder / 'new.png'), np.zeros((5, 5, 3), np.uint8))
    found = world.inspect()
    assert line(found, 'images that are missing') == ('1: lost.png', True)
    assert line(found, 'images in the folder that the JSON lacks')[0] == '1'
    assert found.others == ['new.png']


@pytest.mark.parametrize(
    ('stated', 'there'),
    [
        ('photo.jpg', 'PHOTO.JPG'),
        ('caf\u00e9.png', 'cafe\u0301.png'),
        ('a%20cat.png', 'a cat.png'),
        ('train/one.png', 'day/one.png'),
        ('one.jpg', 'one.png'),
        ('0a1b2c3d-one.png', 'one.png'),
    ],
)
def test_a_missing_image_of_another_name_is_named(
    world: World, stated: str, there: str
) -> None:
    world.image('other.png')
    (world.folder / there).parent.mkdir(exist_ok=True)
    (world.folder / 'other.png').rename(world.folder / there)
    world.coco['images'][-1]['file_name'] = stated
    (each,) = [e for e in world.inspect().findings if e.stops]
    assert each.count == f'1: {stated}, but {there} is there'
    assert '1 are there by another name: rename them' in each.remedy


def test_several_images_may_be_meant(world: World) -> None:
    for folder in 'a', 'b':
        (world.folder / folder).mkdir()
        world.image(f'{folder}/one.png')
    world.add('one.png')
    (each,) = [e for e in world.inspect().findings if e.stops]
    assert each.count == '1: one.png'
    assert each.remedy.endswith('the path below it')


def test_images_without_an_object_are_unlabelled(world: World) -> None:
    world.image('empty.png')
    world.image('crowd.png')
    world.annotate()
    world.coco['annotations'][-1]['iscrowd'] = 1
    found = world.inspect()
    assert sorted(found.others) == ['crowd.png', 'empty.png']
    assert line(found, 'images of the JSON without an object')[0].startswith('2: ')
    assert line(found, 'crowds') == ('1', False)


def test_objects_of_the_fullest_image(world: World) -> None:
    world.image('full.png')
    for x in range(101):
        world.annotate([[x / 10, 2.0, 12.0, 2.0, 12.0, 12.0]])
    world.annotate()
    world.coco['annotations'][-1]['iscrowd'] = 1
    found = world.inspect()
    assert found.most == 101
    (line,) = [each for each in found.findings if 'fullest' in each.what]
    assert line.count == '101: full.png'
    assert line.remedy.startswith('AP counts the 100 best')
    for each in world.coco['annotations'][::2]:
        each['category_id'] = world.coco['categories'][-1]['id']
    (line,) = [each for each in world.inspect().findings if 'fullest' in each.what]
    assert (line.count, line.remedy) == ('101: full.png', '')  # AP counts by class
    world.coco['annotations'] = world.coco['annotations'][:100]
    (line,) = [each for each in world.inspect().findings if 'fullest' in each.what]
    assert (line.count, line.remedy) == ('99: full.png', '')


@pytest.mark.parametrize(
    ('names', 'pairs', 'remedy'),
    [
        (('left_eye', 'right_eye'), [('left_eye', 'right_eye')], 'left_eye and right'),
        (('left_eye', 'mouth'), None, 'images are not flipped'),
        (('eye', 'mouth'), [], ''),
    ],
)
def test_left_and_right(world: World, names: tuple, pairs: Any, remedy: str) -> None:
    for category, name in zip(world.coco['categories'], names, strict=True):
        category['name'] = name
    world.annotate()
    world.coco['annotations'][-1]['category_id'] = 2
    found = world.inspect()
    assert found.mirrored == pairs
    (line,) = [each for each in found.findings if 'left or right' in each.what]
    assert line.count[0] == str(sum('_' in name for name in names))
    assert (remedy in line.remedy) == bool(remedy or not line.remedy)


def test_sizes_that_disagree(world: World) -> None:
    world.image('wrong.png')
    world.coco['images'][-1].update(width=20, height=20)
    what = 'images of another size than the JSON says'
    assert line(world.inspect(), what) == ('1: wrong.png is 30x20, not 20x20', True)


@pytest.mark.parametrize('kind', ['jpg', 'png', 'webp', 'tif'])
@pytest.mark.parametrize('orientation', [3, 6])
def test_turned_images(world: World, orientation: int, kind: str) -> None:
    """A turn by 90 degrees must be in the JSON's size; by 180 it cannot be seen."""
    name = f'turned.{kind}'
    world.image(name, Orientation=orientation)
    found = world.inspect()
    assert line(found, 'images that EXIF turns')[0] == '1'
    what = 'of these with the size from before the turn in the JSON'
    assert stops(found) == ({what} if orientation == 6 else set())
    # As mmcv loads it.
    content = np.fromfile(world.folder / name, np.uint8)
    shown = cv2.imdecode(content, cv2.IMREAD_COLOR).shape[1::-1]
    world.coco['images'][-1].update(width=shown[0], height=shown[1])
    found = world.inspect()
    assert stops(found) == set()
    assert found.sizes[shown] >= 1


@pytest.mark.parametrize('writer', ['pillow', 'opencv'])
def test_an_avif_is_turned_as_opencv_turns_it(world: World, writer: str) -> None:
    """OpenCV obeys EXIF; Pillow writes and reads AVIF's own turn, too."""
    name = world.image('turned.avif', Orientation=6)
    if writer == 'opencv':
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        tags = np.frombuffer(exif.tobytes()[6:], np.uint8)
        image = np.zeros((20, 30, 3), np.uint8)
        kinds = [cv2.IMAGE_METADATA_EXIF]
        encoded = cv2.imencodeWithMetadata('.avif', image, kinds, [tags])[1]
        encoded.tofile(world.folder / name)
    content = np.fromfile(world.folder / name, np.uint8)
    shown = cv2.imdecode(content, cv2.IMREAD_COLOR).shape[1::-1]
    assert shown == ((30, 20) if writer == 'pillow' else (20, 30))
    world.coco['images'][-1].update(width=shown[0], height=shown[1])
    found = world.inspect()
    assert stops(found) == set()
    assert line(found, 'images that EXIF turns')[0] == str(int(writer == 'opencv'))


@pytest.mark.parametrize('kind', ['jpg', 'png', 'webp'])
@pytest.mark.parametrize('exif', [b'garbage!', b'MM\0*\0\0', b'MM\0*\0\0\0\x08\0\1'])
def test_damaged_exif_turns_nothing(world: World, kind: str, exif: bytes) -> None:
    name = f'photo.{kind}'
    pixels = np.full((20, 30, 3), 99, np.uint8)
    Image.fromarray(pixels).save(world.folder / name, exif=b'Exif\0\0' + exif)
    world.add(name)
    world.annotate()
    found = world.inspect()
    assert stops(found) == set()
    assert line(found, 'images that EXIF turns')[0] == '0'
    assert name in found.annotated


def test_deep_gray_and_damaged_images(world: World) -> None:
    deep = np.full((40, 40, 3), 4000, np.uint16)
    assert cv2.imwrite(str(world.folder / 'deep.png'), deep)
    assert cv2.imwrite(str(world.folder / 'deep.jp2'), deep)
    assert cv2.imwrite(str(world.folder / 'gray.png'), np.zeros((20, 30), np.uint8))
    (world.folder / 'torn.jpg').write_bytes(b'\xff\xd8nothing')
    found = world.inspect()
    deep_ones = '2: deep.jp2, deep.png'
    assert line(found, 'images with over 8 bits a channel') == (deep_ones, True)
    assert line(found, 'grayscale images') == ('1', False)
    assert line(found, 'images that cannot be read') == ('1: torn.jpg', False)
    assert 'torn.jpg' not in found.others


def test_copies_of_annotated_images_are_left_out(world: World) -> None:
    """The annotated one stays, although its name comes later."""
    content = (world.folder / 'good.png').read_bytes()
    (world.folder / 'a_copy.png').write_bytes(content)
    (world.folder / 'as_long.png').write_bytes(content[:-1] + b'\0')
    found = world.inspect()
    what = 'images with the content of another one'
    assert line(found, what) == ('1: a_copy.png', False)
    assert set(found.annotated) == {'good.png'}
    assert found.others == ['as_long.png']


def test_objects_of_a_further_copy_are_counted(world: World) -> None:
    """Two annotators had the same image: only one of them is learnt."""
    world.image('same.png')
    for label in 1, 2:
        world.annotate()
        world.coco['annotations'][-1]['category_id'] = label
    content = (world.folder / 'good.png').read_bytes()
    (world.folder / 'same.png').write_bytes(content)
    found = world.inspect()
    assert line(found, 'objects of images that are left out of the lists') == (
        '2',
        False,
    )
    assert line(found, 'images with')[0] == 'cat: 1, dog: 0'
    assert found.classes == ('cat', 'dog')


def test_masks(world: World) -> None:
    full = np.ones((20, 30), np.uint8, order='F')
    encoded = mask_utils.encode(full)
    good = dict(size=[20, 30], counts=encoded['counts'].decode())
    world.image('more.png')
    world.annotate(good)
    world.annotate(good)
    world.annotate([])
    world.annotate(dict(good, size=[30, 20]))
    world.annotate([[float('nan')] * 6])
    found = world.inspect()
    assert line(found, 'objects')[0] == '6'
    assert line(found, 'masks as RLE')[0] == '2'
    assert line(found, 'masks as polygons')[0] == '1'
    assert line(found, 'objects without a mask') == ('1: 3 of more.png', False)
    assert line(found, 'objects annotated twice, or for two classes') == ('1', False)
    count, stop = line(found, 'masks that cannot be read')
    assert not stop
    assert count.startswith('2: 4 of more.png is 30x20, 5 of more.png has a polygon')


def test_a_mask_of_two_classes_is_told(world: World) -> None:
    world.annotate()
    world.coco['annotations'][-1]['category_id'] = 2
    what = 'objects annotated twice, or for two classes'
    assert line(world.inspect(), what) == ('1', False)


def test_each_image_is_counted(world: World) -> None:
    for i in range(20):
        world.image(f'{i}.png')
    seen: list[tuple[int, int]] = []
    inspect(world.read(), world.folder, on_image=lambda *each: seen.append(each))
    assert seen == [(i, 21) for i in range(1, 22)]


def test_missing_files_are_no_copies(tmp_path: Path) -> None:
    (tmp_path / 'a').write_text('x')
    (tmp_path / 'b').write_text('x')
    paths = [tmp_path / name for name in ('none', 'none', 'a', 'b')]
    assert find_copies(paths) == {3}


def test_crowds_alone_stop(world: World) -> None:
    """CVAT writes masks as crowds, of which nothing would be learnt."""
    for each in world.coco['annotations']:
        each['iscrowd'] = 1
    found = world.inspect()
    assert stops(found) == {'crowds, and no other object'}
    (each,) = [each for each in found.findings if each.stops]
    assert "set 'iscrowd' to 0" in each.remedy


@pytest.mark.parametrize(('share', 'most'), [(0.6, True), (0.3, False), (0.1, None)])
def test_many_crowds_have_a_remedy(
    world: World, share: float, most: bool | None
) -> None:
    """One polygon beside CVAT's masks must not hide what they are."""
    (first, *_) = world.coco['annotations']
    world.coco['annotations'] = [
        {**first, 'id': index, 'iscrowd': int(index < 20 * share)}
        for index in range(20)
    ]
    found = world.inspect()
    assert ('crowds, most of the objects' in stops(found)) == bool(most)
    (each,) = [each for each in found.findings if each.what.startswith('crowds')]
    assert ("set 'iscrowd' to 0" in each.remedy) == (most is not None)


def test_polygons_from_0_to_1_have_their_remedy(world: World) -> None:
    """Those that reach into the first pixel's middle would have a pixel."""
    for mask in [[0, 0, 1.0004, 0, 1, 1, 0, 1]], [[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]]:
        world.coco['annotations'][0]['segmentation'] = mask
        found = world.inspect()
        assert stops(found) == {'masks that cannot be read'}
        assert 'multiply x by the width' in line(found, 'masks that cannot be read')[0]


@pytest.mark.parametrize('spoil', ['scaled', 'swapped'])
def test_masks_that_are_not_in_their_boxes_stop(world: World, spoil: str) -> None:
    """They are of a smaller image, or have y before x."""
    corners = [10, 2, 16, 2, 16, 14, 10, 14]
    wrong = [each / 2 for each in corners]
    if spoil == 'swapped':
        wrong = [corners[place ^ 1] for place in range(8)]
    what = 'boxes elsewhere than their masks'
    for mask, stopped in (corners, set()), (wrong, {what}):
        (each,) = world.coco['annotations']
        each |= dict(segmentation=[mask], bbox=[10, 2, 6, 12])
        assert stops(world.inspect()) == stopped
    each['bbox'] = [10, 2, 16, 14]  # corners, not sides
    each['segmentation'] = [corners]
    assert stops(world.inspect()) == set()
    each['segmentation'] = [wrong]
    for unknown in ([0.3, 0.1, 0.2, 0.6], [0, 0, 0, 0], None):
        each['bbox'] = unknown  # no box, or one in parts of the image
        assert stops(world.inspect()) == set()


def test_holes_and_rectangles_are_told(world: World) -> None:
    outer = [2, 2, 18, 2, 18, 12, 2, 12]
    inner = [6, 4, 10, 4, 10, 8, 6, 8]
    (each,) = world.coco['annotations']
    each |= dict(segmentation=[outer, inner], bbox=[2, 2, 16, 10], area=144)
    assert line(world.inspect(), 'holes that are filled')[0] == '1: 0 of good.png'
    each['area'] = 160
    found = world.inspect()
    assert line(found, 'holes that are filled')[0] == '0'
    # Two parts that touch, and the area of a polygon, which is less than its pixels.
    each |= dict(segmentation=[outer, [18, 2, 22, 2, 22, 12, 18, 12]], area=199)
    assert line(world.inspect(), 'holes that are filled')[0] == '0'
    each |= dict(segmentation=[outer], area=160)
    rectangles = 'masks that are rectangles, most of the objects'
    assert line(found, rectangles)[0] == '1'
    each['segmentation'] = [[2, 2, 18, 2, 10, 12]]
    assert rectangles not in {each.what for each in world.inspect().findings}


def test_folders_of_additional_images_are_named(world: World) -> None:
    pixels = np.zeros((5, 5, 3), np.uint8)
    for name in 'masks/1.png', 'masks/2.png', '#recycle/3.png':
        (world.folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(world.folder / name), pixels + len(name))
    found = world.inspect()
    lacks = line(found, 'images in the folder that the JSON lacks')[0]
    assert lacks == '2: 2 in masks'
    assert line(found, 'folders of other programs, and hidden ones')[0] == '1: #recycle'


@pytest.mark.parametrize('kind', ['jpg', 'png', 'webp', 'tif'])
def test_xmp_turns_nothing(world: World, kind: str) -> None:
    """Pillow takes its orientation where EXIF has none; OpenCV does not."""
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/'
        '1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/'
        'tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    path = world.folder / f'photo.{kind}'
    info = PngImagePlugin.PngInfo()
    info.add_itxt('XML:com.adobe.xmp', xmp)
    how: dict[str, Any] = dict(
        png=dict(pnginfo=info), tif=dict(tiffinfo={700: xmp.encode()})
    ).get(kind, dict(xmp=xmp.encode()))
    Image.new('RGB', (60, 40)).save(path, **how)
    with Image.open(path) as image:
        assert image.getexif()[ExifTags.Base.Orientation] == 6
    assert cv2.imread(str(path)).shape == (40, 60, 3)
    assert loaded_size(path) == (60, 40)
    world.add(path.name, (60, 40))
    world.annotate()
    assert stops(world.inspect()) == set()


@pytest.mark.parametrize('mask', [[], [[2, 2, 9, 9]], 'x'])
def test_no_mask_at_all_stops(world: World, mask: Any) -> None:
    world.coco['annotations'][0]['segmentation'] = mask
    what = 'masks that cannot be read' if mask else 'objects without a mask'
    assert stops(world.inspect()) == {what}


def test_an_error_of_the_decoder_names_the_image(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow raises a RuntimeError for a damaged AVIF."""
    world.image('spoilt.png', (60, 40))

    def read(image: Image.Image, whole: bool = False) -> Any:
        if str(getattr(image, 'filename', '')).endswith('spoilt.png'):
            raise RuntimeError('Failed to decode image: Missing or empty image item')
        return read_sizes(image, whole)

    monkeypatch.setattr(image_files, 'read_sizes', read)
    monkeypatch.setattr(image_sizes, 'read_sizes', read)
    counts = [each.count for each in world.inspect().findings]
    assert any('spoilt.png' in str(count) for count in counts)
    assert image_sizes.loaded_size(world.folder / 'spoilt.png') is None


def test_odd_images_are_named_and_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.image('strip.png', (3000, 6))
    world.annotate()
    rng = np.random.default_rng(9)
    for name in ('good.jpg', 'large.png'):
        pixels = rng.integers(0, 255, (40, 60, 3), np.uint8)
        assert cv2.imwrite(str(world.folder / name), pixels)
    whole = (world.folder / 'good.jpg').read_bytes()
    (world.folder / 'torn.jpg').write_bytes(whole[: len(whole) * 3 // 5])
    (world.folder / 'photo.heic').write_bytes(b'x')
    (world.folder / '@eaDir').mkdir()
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1100)  # it refuses twice as many
    found = world.inspect()
    assert stops(found) == set()
    lines = {each.what: each.count for each in found.findings}
    assert lines['images over 100 times as long as wide'] == '0'  # too large before
    assert lines['images of over 178 megapixels'].startswith('4: ')
    monkeypatch.undo()
    found = world.inspect()
    assert stops(found) == set()
    lines = {each.what: each.count for each in found.findings}
    assert lines['images over 100 times as long as wide'] == '1: strip.png'
    assert lines['images that cannot be read'] == '1: torn.jpg'
    assert lines['images of a kind that cannot be read'] == '1: photo.heic'
    assert lines['folders of other programs, and hidden ones'] == '1: @eaDir'
    same = 'images named as another one, but for the suffix'
    assert lines[same] == '1: good.jpg'
    assert found.annotated == {'good.png': {'cat'}}
    assert found.others == ['large.png']
    assert found.readable == ['good.png']


def test_what_is_mended_has_a_line(world: World) -> None:
    world.coco['annotations'][0] |= dict(bbox=[0, 0, 0, 0], area=0, iscrowd='0')
    world.coco['annotations'][0]['id'] = 'a'
    world.coco['images'][0]['file_name'] = 'C:\\images\\good.png'
    found = world.inspect()
    lines = {each.what: each.count for each in found.findings if each.remedy}
    assert {
        'boxes unlike their masks': '1',
        'areas unlike their masks': '1',
        'iscrowd': '1',
        'annotation ids': '1',
        'names with backslashes or ./': '1',
        'names with other folders in front': '1',
    }.items() <= lines.items()
    assert found.annotated == {'good.png': {'cat'}}
