"""Look at your own images, and write the configs of all stages for them.

    # look, draw lists, and write configs/pets/{supervised,adapt,...}.py
    own_data.py pets --coco data/pets/train.json --images data/pets/images
    # only look
    own_data.py pets --coco ... --images ... --look
    # your own detector as student, your own trained detector as teacher
    own_data.py pets --coco ... --images ... --student configs/my_mask_rcnn.py
    own_data.py pets ... --teacher configs/my_large_one.py checkpoints/my_large_one.pth

It needs a COCO JSON with masks. Validation images come from ``--val``, another COCO
JSON; without it, every fifth annotated image is one. All other annotated images are
labelled, or the share ``--fraction`` of them. All others of the folder are unlabelled.
``--size`` chooses the models: full (GroundedSam2 teaches DINOv2-S), medium (Mask2Former
with ResNet-50 teaches RTMDet-Ins-s), small (stock detectors with ImageNet weights,
which train on a laptop). The default is medium where a GPU is found, and else small.
"""

import argparse
import json
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import mmcast
from mmcast._requirements import mim_name
from mmcast.datasets.inspection import Inspection, find_copies, inspect
from mmcast.datasets.overlap import examples
from mmcast.datasets.splits import draw_order, format_list, load_coco
from mmcast.files import write_atomic
from mmcast.own_data import (
    STAGES,
    Detector,
    Files,
    Plan,
    config_files,
    find_caps,
    read_detector,
    seen_sizes,
    stage_length,
    trained_classes,
)

sys.path.insert(0, str(Path(__file__).resolve().parent))
from split_labels import write

INSTALLED = Path(mmcast.__file__).resolve().parent / '.mim/configs/mmcast'
MINE = Path('configs/mmcast')
console = Console(highlight=False)


@dataclass(frozen=True)
class Split:
    """Image names by use."""

    labeled: list[str]
    unlabeled: list[str]
    validation: list[str]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', help='name of the data set, as in configs/NAME')
    parser.add_argument('--coco', type=Path, required=True, help='COCO JSON with masks')
    parser.add_argument('--images', type=Path, required=True, help='folder of images')
    parser.add_argument('--val', type=Path, help='COCO JSON of validation images')
    parser.add_argument(
        '--val-images', type=Path, help='their folder (default: that of --images)'
    )
    parser.add_argument('--look', action='store_true', help='look, and write nothing')
    parser.add_argument(
        '--size',
        choices=('small', 'medium', 'full'),
        help='models of the stages (default: medium with a GPU, else small)',
    )
    parser.add_argument(
        '--student', metavar='CONFIG', help='config of your own detector, or mmdet::...'
    )
    parser.add_argument(
        '--teacher',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='your own detector that was trained on the classes',
    )
    parser.add_argument(
        '--fraction', type=float, help='labelled share of the annotated images, 0 to 1'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the drawn lists')
    args = parser.parse_args()
    if not re.fullmatch(r'[A-Za-z]\w*', args.name) or args.name == 'mmcast':
        parser.error(f"'{args.name}' is no name for a folder of configs: use letters")
    if args.fraction is not None and not 0 < args.fraction <= 1:
        parser.error(f'--fraction {args.fraction}: give a number above 0, at most 1')
    if args.val_images and not args.val:
        parser.error('--val-images is the folder of --val: give both')
    return args


def look(coco: Mapping[str, Any], folder: Path, title: str) -> Inspection:
    """Inspect a COCO file and its images; print the table.

    Raises:
        ValueError: Something has to be repaired first.
    """
    if not folder.is_dir():
        raise ValueError(f"image folder '{folder}' does not exist: correct the path")
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f'reading {folder}')

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if done == total:
                bar.update(task, description='comparing images')

        found = inspect(coco, folder, tell)
    table = Table(title=title, title_justify='left', show_lines=True)
    for column in ('', 'found', 'what happens, or what to do'):
        table.add_column(column, overflow='fold')
    for each in found.findings:
        if each.count != '0':
            style = 'bold red' if each.stops else 'yellow' if each.remedy else ''
            table.add_row(each.what, each.count, each.remedy, style=style)
    none = [each.what for each in found.findings if each.count == '0']
    table.add_row('looked for', 'and not found', ', '.join(none))
    console.print(table)
    stops = [each.what for each in found.findings if each.stops]
    if stops:
        raise ValueError(
            f'{title}: correct what the table says about {"; ".join(stops)}. Nothing '
            'was written'
        )
    if not found.annotated:
        raise ValueError(f'{title}: no image has an object with a mask: label some')
    return found


def draw(found: Inspection, args: argparse.Namespace, leave_out: set[str]) -> Split:
    """Draw the lists; an image that validates is on no list."""
    annotated = {n: c for n, c in found.annotated.items() if n not in leave_out}
    validation: list[str] = []
    if not args.val:
        order, _ = draw_order(list(annotated), f'{args.seed}:val')
        validation = sorted(order[: round(len(order) / 5)])
    taken = set(validation)
    rest = {name: shown for name, shown in annotated.items() if name not in taken}
    order, at_least = draw_order(list(rest), args.seed, 1, rest)
    count = len(order)
    if args.fraction is not None:
        count = round(args.fraction * len(order))
        if count < at_least:
            raise ValueError(
                f'--fraction {args.fraction:g} is {count} images, and {at_least} are '
                'needed to show every class: give a larger one'
            )
    others = [name for name in found.others if name not in leave_out]
    split = Split(sorted(order[:count]), sorted(order[count:] + others), validation)
    if not args.val and not validation:
        raise ValueError('too few annotated images for a validation set: give --val')
    if not split.unlabeled:
        raise ValueError(
            'every image is annotated, so none is unlabelled: put images without '
            'annotations into the folder, or give --fraction 0.1 to keep a tenth of '
            'the labels'
        )
    return split


def part_of(coco: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return a COCO file of some images as text."""
    chosen = set(names)
    images = [each for each in coco['images'] if each['file_name'] in chosen]
    ids = {each['id'] for each in images}
    anns = [each for each in coco['annotations'] if each['image_id'] in ids]
    return json.dumps({**coco, 'images': images, 'annotations': anns}) + '\n'


def link_configs() -> None:
    """Make ``configs/mmcast`` lead to the installed configs, unless it is there."""
    if MINE.is_dir():
        return
    MINE.parent.mkdir(exist_ok=True)
    inside = INSTALLED.is_relative_to(Path.cwd())
    MINE.symlink_to(os.path.relpath(INSTALLED, MINE.parent) if inside else INSTALLED)
    console.print(f"'{MINE}' is a link to the installed configs, {INSTALLED}")


def read_detectors(
    args: argparse.Namespace,
) -> tuple[Detector | None, tuple[Detector, str] | None]:
    """Read the configs of the user's own student and teacher."""
    student = read_detector(args.student) if args.student else None
    if not args.teacher:
        return student, None
    config, checkpoint = args.teacher
    return student, (read_detector(config), checkpoint)


def check_teacher(checkpoint: str, classes: Sequence[str], coco: Path) -> None:
    """Check that a teacher knows the classes, in the same order.

    Raises:
        ValueError: It does not.
    """
    trained = trained_classes(checkpoint)
    if trained == tuple(classes):
        return
    if trained is None:
        raise ValueError(
            f"{checkpoint} keeps no class names in its meta['dataset_meta']: give a "
            'checkpoint that MMDetection 3 wrote'
        )
    differ = sorted(set(trained) ^ set(classes))
    raise ValueError(
        f'the teacher {checkpoint} has {len(trained)} classes and {coco} has '
        f'{len(classes)} with objects; '
        + (f'only one has {examples(differ)}' if differ else 'their order differs')
        + ': train it on these classes, or leave --teacher out'
    )


def show_stages(plan: Plan, found: Inspection) -> None:
    """Print the commands with their lengths, and the size that the models see."""
    table = Table(title=f'mim train {mim_name()}', title_justify='left')
    for column in ('', 'iterations', 'images each', 'passes over the labels'):
        table.add_column(
            column, justify='right' if column else 'left', no_wrap=not column
        )
    for stage in plan.stages:
        path = f'configs/{plan.name}/{stage}.py'
        cfg = Config.fromfile(path, import_custom_modules=False)
        length = stage_length(cfg, plan.labeled, plan.unlabeled)
        table.add_row(
            path, f'{length.iterations:,}', str(length.batch), f'{length.passes:.0f}'
        )
    console.print(table)
    console.print(
        f'Train all: for stage in {" ".join(plan.stages)}; do mim train {mim_name()} '
        f'configs/{plan.name}/$stage.py; done',
        soft_wrap=True,
    )
    cfg = Config.fromfile(
        f'configs/{plan.name}/supervised.py', import_custom_modules=False
    )
    size = found.sizes.most_common(1)[0][0]
    test, train = seen_sizes(cfg, size)
    if test:
        own, *shown = ('{:.0f}x{:.0f}'.format(*each) for each in (size, test, *train))
        more = f', and at {" to ".join(dict.fromkeys(shown[1:]))} in training'
        more = more if train else ''
        console.print(
            f'An image of {own} (your commonest size) is seen at {shown[0]} in '
            f'testing{more}.'
        )
    caps = [cap for _, cap in find_caps(cfg.model)]
    if caps:
        console.print(
            f'Your fullest image has {plan.most} objects; the student finds at most '
            f'{min(caps)} in an image.'
        )


def run(args: argparse.Namespace) -> None:
    student, teacher = read_detectors(args)
    coco = load_coco(args.coco)
    val = load_coco(args.val) if args.val else None
    val_images = args.val_images or args.images
    found = look(coco, args.images, str(args.coco))
    leave_out: set[str] = set()
    most = found.most
    if val is not None:
        unknown = set(found.classes) - {each['name'] for each in val['categories']}
        if unknown:
            raise ValueError(
                f'{args.val} lacks the categories {", ".join(sorted(unknown))} of '
                f'{args.coco}: give both files the same categories, in the same order'
            )
        validated = look(val, val_images, str(args.val))
        most = max(most, validated.most)
        absent = [name for name in found.classes if name not in validated.classes]
        if absent:
            console.print(
                f'[yellow]{args.val} has no {", ".join(absent)}: their AP will be '
                'unknown[/yellow]'
            )
        leave_out = _of_validation(found, args.images, val, val_images)
    if teacher:
        check_teacher(teacher[1], found.classes, args.coco)
    if args.look:
        console.print('Nothing was written: the same command without --look writes.')
        return
    split = draw(found, args, leave_out)
    lists = args.coco.parent / 'splits'
    plan = Plan(
        name=args.name,
        size=args.size or default_size(),
        sizes=(MINE if MINE.is_dir() else INSTALLED) / 'own_data',
        files=Files(
            args.coco, args.images, args.val or lists / 'val.json', val_images, lists
        ),
        classes=found.classes,
        labeled=len(split.labeled),
        unlabeled=len(split.unlabeled),
        most=most,
        mirrored=found.mirrored,
        student=student,
        teacher=teacher,
    )
    configs = config_files(plan)
    drawn = {
        lists / 'labeled.txt': format_list(split.labeled),
        lists / 'unlabeled.txt': format_list(split.unlabeled),
    }
    if not args.val:
        drawn[lists / 'val.json'] = part_of(coco, split.validation)
    write(drawn)
    count = len(split.validation) if val is None else len(val['images'])
    console.print(
        f'{lists}: {len(split.labeled)} labelled, {len(split.unlabeled)} unlabelled '
        f'and {count} validation images'
    )
    link_configs()
    folder = Path('configs', args.name)
    for stage in STAGES:
        # Of an earlier command; with a teacher of your own nothing trains one.
        (folder / f'{stage}.py').unlink(missing_ok=True)
    for file, text in configs.items():
        write_atomic(folder / file, text)
    show_stages(plan, found)


def default_size() -> str:
    """Choose the models by the machine, and tell."""
    size = 'medium' if torch.cuda.is_available() else 'small'
    found = 'a GPU' if size == 'medium' else 'no GPU'
    console.print(f'{found} was found: size {size} (--size chooses another)')
    return size


def _of_validation(
    found: Inspection, folder: Path, val: Mapping[str, Any], val_folder: Path
) -> set[str]:
    """Return the images that are validation images, too, by name or by content."""
    names = [*found.annotated, *found.others]
    first = [val_folder / image['file_name'] for image in val['images']]
    with console.status('comparing with the validation images'):
        same = find_copies([*first, *(folder / name for name in names)])
    shared = {names[index - len(first)] for index in same if index >= len(first)}
    if shared:
        console.print(f'{len(shared)} validation images are left out of the lists')
    return shared


def main() -> None:
    args = parse_args()
    # mmengine's, for each base in another package.
    warnings.filterwarnings('ignore', 'pkg_resources is deprecated')
    try:
        run(args)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
