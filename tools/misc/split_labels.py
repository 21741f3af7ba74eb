"""Draw a labelled/unlabelled split, or check and convert existing lists.

    # 10 % labelled, the rest unlabelled
    split_labels.py --coco data/my/train.json --fraction 0.1 --out data/my/splits
    # 5 % inside 10 % inside 30 %, each with at least 10 images of every class
    split_labels.py --coco ANN.json --fraction 0.05 0.1 0.3 --nested --per-class 10 ...
    # the unlabelled list for a labelled list of Guided Distillation
    split_labels.py --cityscapes data/cityscapes --labeled perc_10.txt --out ...

One split is written to OUT/labeled.txt and OUT/unlabeled.txt. Several splits are
written to OUT/10pct/... (from fractions) or OUT/100img/... (from counts).
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from mmcast.datasets.cityscapes_to_coco import THINGS, read_images
from mmcast.datasets.splits import (
    check_known,
    check_lists,
    coco_image_classes,
    draw_order,
    format_list,
    load_coco,
    read_list,
)
from mmcast.files import write_atomic

Classes = tuple[tuple[str, ...], Mapping[str, set[str]]]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--coco', help='COCO JSON with the images to split')
    source.add_argument('--list', help='list of images (without classes)')
    source.add_argument('--cityscapes', help='Cityscapes layout; needs no JSON')
    parser.add_argument(
        '--split', default='train', help='split of --cityscapes (default: train)'
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument('--fraction', type=float, nargs='+', help='labelled, 0 to 1')
    size.add_argument('--count', type=int, nargs='+', help='labelled images')
    size.add_argument('--labeled', help='existing labelled list')
    parser.add_argument('--unlabeled', help='existing list, checked against --labeled')
    parser.add_argument(
        '--per-class', type=int, default=0, help='minimum of labelled images per class'
    )
    parser.add_argument(
        '--nested', action='store_true', help='put smaller splits inside larger ones'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--pool',
        choices=['rest', 'all'],
        default='rest',
        help='unlabelled images: the rest, or all, including the labelled ones',
    )
    parser.add_argument(
        '--format',
        choices=['names', 'instance-ids'],
        default='names',
        help='image names, or *_gtFine_instanceIds.png as in Guided Distillation',
    )
    parser.add_argument('--allow-missing-classes', action='store_true')
    parser.add_argument('--out', required=True, type=Path, help='folder for the lists')
    args = parser.parse_args()
    if not (args.fraction or args.count or args.labeled or args.per_class):
        parser.error('give --fraction, --count, --per-class or --labeled')
    if args.labeled and (args.per_class or args.nested):
        parser.error('--labeled gives the split: leave out --per-class and --nested')
    if args.unlabeled and not args.labeled:
        parser.error('--unlabeled is checked against --labeled: give both')
    if args.list and args.per_class:
        parser.error('--per-class needs classes: give --coco or --cityscapes')
    return args


def read_source(args: argparse.Namespace) -> tuple[list[str], Classes | None]:
    """Return the images and their classes (None if the source is a plain list)."""
    if args.list:
        return read_list(args.list), None
    if args.coco:
        classes, classes_of = coco_image_classes(load_coco(args.coco))
        return list(classes_of), (classes, classes_of)
    name_of = {label.id: label.name for label in THINGS}
    classes_of = {
        image['file_name']: {
            name_of[a['category_id']] for a in image['annotations'] if not a['iscrowd']
        }
        for image in read_images(args.cityscapes, args.split, num_workers=2)
    }
    return list(classes_of), (tuple(name_of.values()), classes_of)


def sizes(args: argparse.Namespace, total: int) -> dict[str, int | None]:
    """Return the number of labelled images per folder (None: as few as allowed)."""
    if args.fraction:
        wanted = {f'{100 * f:g}pct': int(f * total + 1e-9) for f in args.fraction}
    else:
        wanted = {f'{n}img': n for n in args.count or []}
    for key, count in wanted.items():
        if not 1 <= count <= total:
            raise ValueError(
                f'{key} of {total} images is {count} labelled images: ask for 1 to '
                f'{total}'
            )
    return wanted or {'': None}


def draw(
    args: argparse.Namespace, names: list[str], classes: Classes | None
) -> dict[str, tuple[list[str], list[str]]]:
    """Return the labelled and the unlabelled list per folder."""
    splits = {}
    for key, count in sizes(args, len(names)).items():
        seed = args.seed if args.nested or count is None else f'{args.seed}:{count}'
        order, at_least = draw_order(
            names, seed, args.per_class, classes[1] if classes else None
        )
        if count is not None and count < at_least:
            raise ValueError(
                f'{args.per_class} images per class need {at_least} images, more than '
                f'the {count} asked for: lower --per-class or label more'
            )
        labeled = sorted(order[: count or at_least])
        splits[key] = labeled, pool(args, names, labeled)
    return splits if len(splits) > 1 else {'': next(iter(splits.values()))}


def pool(args: argparse.Namespace, names: list[str], labeled: list[str]) -> list[str]:
    """Return the unlabelled images: those not labelled, or all."""
    taken = set(labeled) if args.pool == 'rest' else set()
    return sorted(name for name in names if name not in taken)


def report(
    labeled: list[str], unlabeled: list[str], classes: Classes | None, allow: bool
) -> str:
    """Return the counts as text; raise if a class has no labelled image."""
    text = f'{len(labeled)} labelled, {len(unlabeled)} unlabelled images'
    if classes is None:
        return text
    names, classes_of = classes
    counts = {c: sum(c in classes_of[name] for name in labeled) for c in names}
    missing = [c for c in names if not counts[c]]
    if missing and not allow:
        raise ValueError(
            f'no labelled image shows: {", ".join(missing)}: give --per-class 1 or '
            'more, another --seed or a larger split, or --allow-missing-classes'
        )
    return f'{text}; labelled images with ' + ', '.join(
        f'{c}: {counts[c]}' for c in names
    )


def write(files: Mapping[Path, str]) -> None:
    """Write all lists; raise if a file holds another split."""
    for path, text in files.items():
        if path.exists() and path.read_text() != text:
            raise FileExistsError(
                f"'{path}' holds another split: remove it or give another --out"
            )
    for path, text in files.items():
        write_atomic(path, text)


def run(args: argparse.Namespace) -> None:
    names, classes = read_source(args)
    if args.labeled:
        labeled = read_list(args.labeled)
        check_known(labeled, set(names), args.labeled)
        if args.unlabeled:
            unlabeled = read_list(args.unlabeled)
            if args.pool == 'rest':
                paths = (args.labeled, args.unlabeled)
                check_lists(labeled, unlabeled, set(names), paths)
            else:
                check_known(unlabeled, set(names), args.unlabeled)
        else:
            unlabeled = pool(args, names, labeled)
        splits = {'': (labeled, unlabeled)}
    else:
        splits = draw(args, names, classes)
    files = {}
    for key, (labeled, unlabeled) in splits.items():
        if not unlabeled:
            raise ValueError(
                'no image is left for the unlabelled list: label fewer images or give '
                '--pool all'
            )
        print(args.out / key, end=': ')
        print(report(labeled, unlabeled, classes, args.allow_missing_classes))
        files[args.out / key / 'labeled.txt'] = format_list(labeled, args.format)
        files[args.out / key / 'unlabeled.txt'] = format_list(unlabeled, args.format)
    write(files)


def main() -> None:
    args = parse_args()
    try:
        run(args)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
