"""Generate SynthScapes: street scenes in Cityscapes' layout.

Example:
    python tools/dataset_converters/synthscapes.py data/synthscapes \
        --domain target --train 660 --val 100 --size 128 256
"""

import argparse
from pathlib import Path

from mmcast.datasets.synthscapes import DOMAINS, generate


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Generate SynthScapes')
    parser.add_argument('root', type=Path, help='new, empty or unfinished folder')
    parser.add_argument('--domain', choices=sorted(DOMAINS), required=True)
    for split in ('train', 'val', 'test'):
        parser.add_argument(f'--{split}', type=int, default=0, metavar='IMAGES')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(512, 1024), metavar=('HEIGHT', 'WIDTH')
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, help='processes (default: one per core)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    splits = {
        split: getattr(args, split)
        for split in ('train', 'val', 'test')
        if getattr(args, split)
    }
    generate(args.root, splits, args.domain, tuple(args.size), args.seed, args.workers)


if __name__ == '__main__':
    main()
