"""Convert NYU Depth v2's labelled file to PNG files, lists and a manifest.

    python tools/dataset_converters/nyuv2.py nyu_depth_v2_labeled.mat splits.mat \
        --out data/nyuv2

It needs h5py. An interrupted run continues where it stopped.
"""

import argparse

from mmcast.datasets.nyuv2 import convert


def main() -> None:
    parser = argparse.ArgumentParser(description='Convert NYU Depth v2 to PNG files.')
    parser.add_argument('mat', help='nyu_depth_v2_labeled.mat')
    parser.add_argument('splits', help='splits.mat')
    parser.add_argument('--out', required=True, help='folder of the data set')
    parser.add_argument(
        '--classes', type=int, choices=(40, 13), default=40, help='default: 40'
    )
    parser.add_argument(
        '--raw-depth',
        action='store_true',
        help='depth as measured, with holes; default: with holes filled in',
    )
    parser.add_argument(
        '--any-size',
        action='store_true',
        help='accept files of the same layout with other images and names',
    )
    args = parser.parse_args()
    manifest = convert(
        args.mat,
        args.splits,
        args.out,
        classes=args.classes,
        depth='rawDepths' if args.raw_depth else 'depths',
        strict=not args.any_size,
    )
    print(manifest)


if __name__ == '__main__':
    main()
