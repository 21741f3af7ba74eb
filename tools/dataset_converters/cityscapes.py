"""Convert a Cityscapes layout to COCO JSON.

    python tools/dataset_converters/cityscapes.py data/cityscapes --num-workers 8

It reads ``leftImg8bit/{split}`` and ``gtFine/{split}``, and writes
``annotations/instancesonly_filtered_gtFine_{split}.json``.
"""

import argparse

from mmcast.datasets.cityscapes_to_coco import convert_split, find_splits


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Convert a Cityscapes layout to COCO JSON (annotations/ in ROOT).'
    )
    parser.add_argument('root', help='folder with leftImg8bit/ and gtFine/')
    parser.add_argument(
        '--splits', nargs='+', help='default: all with images and annotations'
    )
    parser.add_argument('--num-workers', type=int, default=2, help='default: 2')
    args = parser.parse_args()
    for split in args.splits or find_splits(args.root):
        print(convert_split(args.root, split, args.num_workers))


if __name__ == '__main__':
    main()
