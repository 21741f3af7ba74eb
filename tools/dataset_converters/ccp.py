"""Make an instance segmentation data set of the photographs of Clothing Co-Parsing.

    git clone https://github.com/bearpaw/clothing-co-parsing
    python tools/dataset_converters/ccp.py clothing-co-parsing --out data/ccp

The repository (Yang, Luo and Lin, CVPR 2014) has 1,004 photographs with a tag for each
pixel and 1,094 without. This writes them with 384 pixels on the long side, a COCO JSON
each of 604 for training, 100 for validation and 300 for testing, and the lists of
labelled and unlabelled images of docs/photographs.md. Photographs 1083 and 1707, nearly
copies of labelled ones, are left out.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_utils
from rich.progress import track
from scipy.io import loadmat

from mmcast.files import open_atomic, write_atomic

SIDE = 384
LISTS = Path(__file__).with_name('ccp_lists.json')
# The tags of each class; the other ones are no objects.
TAGS = {
    'hair': 'hair',
    'footwear': 'shoes boots heels pumps sandals sneakers flats loafers clogs wedges',
    'bag': 'bag purse wallet',
    'eyewear': 'sunglasses glasses',
    'hat': 'hat',
    'dress': 'dress romper bodysuit jumper',
    'top': 'blouse shirt t-shirt top sweater sweatshirt hoodie cardigan vest',
    'outerwear': 'coat blazer jacket cape suit',
    'trousers': 'pants jeans leggings shorts',
    'skirt': 'skirt',
    'hosiery': 'stockings socks tights',
    'scarf': 'scarf',
}
CLASSES = tuple(TAGS)


def objects(tags: np.ndarray, names: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the objects of a photograph.

    A tag is one object, of its connected components of 60 pixels and more, if they
    cover 0.025 % of the photograph together. Of footwear each component is an object,
    from 0.05 % on.

    Args:
        tags: Tag of each pixel (H, W).
        names: Names of the tags.

    Yields:
        Index of the class, and mask, bool (H, W).
    """
    class_of = {tag: i for i, of in enumerate(TAGS.values()) for tag in of.split()}
    for tag in np.unique(tags):
        label = class_of.get(names[tag])
        if label is None:
            continue
        pixels = (tags == tag).astype(np.uint8)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        areas[0] = 0  # the rest of the photograph
        if CLASSES[label] == 'footwear':
            for part in np.flatnonzero(areas >= 0.0005 * tags.size):
                yield label, parts == part
        else:
            found = np.flatnonzero(areas >= 60)
            if areas[found].sum() >= max(1, 0.00025 * tags.size):
                yield label, np.isin(parts, found)


def shrunk(shape: tuple[int, int]) -> tuple[int, int]:
    """Return width and height at 384 pixels on the long side."""
    factor = SIDE / max(shape)
    return round(shape[1] * factor), round(shape[0] * factor)


def annotations(tags: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    """Return a photograph's COCO annotations without ids, at the size written."""
    size = shrunk(tags.shape)
    found = []
    for label, mask in objects(tags, names):
        small = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        rle = mask_utils.encode(np.asfortranarray(small))
        area = int(mask_utils.area(rle))
        if area:
            found.append(
                dict(
                    category_id=label + 1,
                    segmentation=dict(rle, counts=rle['counts'].decode()),
                    area=area,
                    bbox=mask_utils.toBbox(rle).tolist(),
                    iscrowd=0,
                )
            )
    return found


def write_photograph(source: Path, out: Path) -> tuple[int, int]:
    """Write a photograph at its new size; return its width and height.

    Raises:
        ValueError: It cannot be read.
    """
    image = cv2.imread(str(source))
    if image is None:
        raise ValueError(f'{source} cannot be read: fetch the repository again')
    size = shrunk(image.shape[:2])
    if not out.is_file():
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        done, data = cv2.imencode('.jpg', small, [cv2.IMWRITE_JPEG_QUALITY, 95])
        if not done:
            raise ValueError(f'{source} cannot be written as JPEG')
        with open_atomic(out) as file:
            file.write(data.tobytes())
    return size


def convert(source: Path, out: Path) -> None:
    """Write photographs, COCO files and lists; what is there is kept.

    Raises:
        FileNotFoundError: The source lacks a file.
        ValueError: A file cannot be read.
    """
    lists = json.loads(LISTS.read_text())
    photos = sorted((source / 'photos').glob('*.jpg'))
    maps = source / 'annotations' / 'pixel-level'
    named = loadmat(source / 'label_list.mat')['label_list'][0]
    names = [str(name[0]) for name in named]
    split_of = {number: split for split in ('val', 'test') for number in lists[split]}
    cocos: dict[str, dict[str, list]] = {
        split: dict(
            images=[],
            annotations=[],
            categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)],
        )
        for split in ('train', 'val', 'test')
    }
    for photo in track(photos, 'Photographs'):
        number = int(photo.stem)
        if number in lists['left_out']:
            continue
        split = split_of.get(number, 'train')
        width, height = write_photograph(photo, out / 'images' / split / photo.name)
        tags = maps / f'{photo.stem}.mat'
        if not tags.is_file():
            continue
        coco = cocos[split]
        coco['images'].append(
            dict(id=number, file_name=photo.name, width=width, height=height)
        )
        for each in annotations(loadmat(tags)['groundtruth'], names):
            number_of = len(coco['annotations']) + 1
            coco['annotations'].append(dict(id=number_of, image_id=number, **each))
    for split, coco in cocos.items():
        path = out / 'annotations' / f'{split}.json'
        write_atomic(path, json.dumps(coco) + '\n')
        print(f'{path}: {len(coco["images"])} photographs')
    write_lists(lists, out / 'splits')


def write_lists(lists: dict[str, Any], out: Path) -> None:
    """Write the labelled and the unlabelled images of each draw."""
    for seed, draw in enumerate(lists['draws']):
        for count, labeled in draw['labeled'].items():
            for name, numbers in (
                ('labeled', labeled),
                ('unlabeled', draw['unlabeled']),
            ):
                text = ''.join(f'{number:04}.jpg\n' for number in numbers)
                write_atomic(out / f'{count}_{seed}' / f'{name}.txt', text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('source', type=Path, help='the cloned repository')
    parser.add_argument('--out', type=Path, required=True, help='folder of the data')
    args = parser.parse_args()
    for part in ('photos', 'annotations/pixel-level', 'label_list.mat'):
        if not (args.source / part).exists():
            parser.error(
                f'{args.source} has no {part}: clone '
                'github.com/bearpaw/clothing-co-parsing and give its folder'
            )
    convert(args.source, args.out)


if __name__ == '__main__':
    main()
