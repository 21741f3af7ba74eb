"""Look at your own images, and write the configs of all stages for them.

    # only look
    own_data.py pets --coco data/pets/train.json --images data/pets/images
    # look, draw lists, and write configs/pets/{supervised,adapt,...}.py
    own_data.py pets --coco ... --images ... --size tiny

It needs a COCO JSON with masks. Validation images come from ``--val``, another COCO
JSON; without it, every fifth annotated image is one. All other annotated images are
labelled, or the share ``--fraction`` of them. All others of the folder are unlabelled.
``--size`` chooses the models: full (GroundedSam2 teaches DINOv2-S), medium (Mask2Former
with ResNet-50 teaches ResNet-50), tiny (small models with weights of this repository,
which train on a laptop).
"""

import argparse
import json
import os
import pprint
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import mmcast
from mmcast._requirements import mim_name
from mmcast.datasets.inspection import Inspection, find_copies, inspect
from mmcast.datasets.splits import draw_order, format_list, load_coco
from mmcast.utils import write_atomic

sys.path.insert(0, str(Path(__file__).resolve().parent))
from split_labels import write

INSTALLED = Path(mmcast.__file__).resolve().parent / '.mim/configs/mmcast'
STAGES = ('supervised', 'adapt', 'selftrain', 'distill', 'finetune')
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
    parser.add_argument(
        '--size', choices=('full', 'medium', 'tiny'), help='write configs of this size'
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


def data_config(
    args: argparse.Namespace, classes: Sequence[str], split: Split, lists: Path
) -> str:
    """Return the file that the stages share: classes and paths."""
    val = args.val or lists / 'val.json'
    val_images = args.val_images or args.images
    used = [args.coco.parent, args.images, val.parent, val_images, lists]
    root = Path(os.path.commonpath([path.absolute() for path in used]))
    start = os.path.relpath(root) + '/' if root != Path.cwd() else ''

    def below(path: Path) -> str:
        return os.path.relpath(path.absolute(), root)

    names = pprint.pformat(tuple(classes), width=70, compact=True)
    other_folder = ''
    if val_images != args.images:
        other_folder = f'    data_prefix=dict(img={below(val_images) + "/"!r}),\n'
    left = f'work_dirs/{args.name}/{{}}.pth'.format
    return (
        f'# Classes and files of {args.name}: {len(split.labeled)} labelled and '
        f'{len(split.unlabeled)} unlabelled images.\n'
        f'class_names = {names}\n'
        'own_images = dict(\n'
        f'    data_root={start!r},\n'
        f'    data_prefix=dict(img={below(args.images) + "/"!r}),\n'
        '    metainfo=dict(classes=class_names),\n'
        ')\n'
        'labeled = dict(\n'
        '    own_images,\n'
        f'    ann_file={below(args.coco)!r},\n'
        f'    image_list={below(lists / "labeled.txt")!r},\n'
        ')\n'
        f'unlabeled = dict(own_images, ann_file={below(lists / "unlabeled.txt")!r})\n'
        'both = dict(labeled_dataset=labeled, unlabeled_dataset=unlabeled)\n'
        'validation = dict(\n'
        '    own_images,\n'
        f'{other_folder}'
        f'    ann_file={below(val)!r},\n'
        ')\n'
        f'evaluation = dict(ann_file={start + below(val)!r})\n'
        '# What the stages leave.\n'
        f"supervised = '{left('supervised/student')}'\n"
        f"adapted = '{left('adapt/teacher')}'\n"
        f"selftrained = '{left('selftrain/teacher')}'\n"
        f"distilled = '{left('distill/student')}'\n"
        'labelled_by = dict(teacher=[selftrained, adapted])\n'
        'baseline = dict(compare_with=supervised)\n'
    )


def stage_config(name: str, size: str, stage: str) -> str:
    """Return the config of a stage."""
    wrapper = stage in ('selftrain', 'distill')
    model, data = (
        'dict(classes=_base_.class_names)',
        'dict(labeled_dataset=_base_.labeled)',
    )
    if wrapper:
        model, data = f'dict(student={model})', '_base_.both'
    special = {
        'selftrain': 'default_hooks = dict('
        'pseudo_labels=dict(teacher=_base_.adapted))\n',
        'distill': 'default_hooks = dict('
        'export=_base_.baseline, pseudo_labels=_base_.labelled_by)\n',
        'finetune': 'load_from = _base_.distilled\n',
    }
    return (
        f"_base_ = ['../mmcast/own_data/{size}/{stage}.py', './data.py']\n"
        f"work_dir = 'work_dirs/{name}/{stage}'\n"
        f'model = {model}\n'
        f'train_dataloader = dict(dataset={data})\n'
        'val_dataloader = test_dataloader = dict(dataset=_base_.validation)\n'
        'test_evaluator = _base_.evaluation\n'
        'val_evaluator = dict('
        "_base_.evaluation, outfile_prefix=work_dir + '/validation')\n"
        f'{special.get(stage, "")}'
    )


def link_configs() -> None:
    """Make ``configs/mmcast`` lead to the installed configs, unless it is there."""
    link = Path('configs/mmcast')
    if link.is_dir():
        return
    link.parent.mkdir(exist_ok=True)
    inside = INSTALLED.is_relative_to(Path.cwd())
    link.symlink_to(os.path.relpath(INSTALLED, link.parent) if inside else INSTALLED)
    console.print(f"'{link}' is a link to the installed configs, {INSTALLED}")


def show_stages(name: str, found: Inspection, split: Split) -> None:
    """Print the commands with their lengths, and the size that the models see."""
    table = Table(title=f'mim train {mim_name()}', title_justify='left')
    for column in ('', 'iterations', 'images each', 'passes over the labels'):
        table.add_column(
            column, justify='right' if column else 'left', no_wrap=not column
        )
    for stage in STAGES:
        path = f'configs/{name}/{stage}.py'
        cfg = Config.fromfile(path, import_custom_modules=False)
        batch, length = cfg.train_dataloader.batch_size, cfg.train_cfg.max_iters
        labels = batch
        if 'student' in cfg.model:
            ratio = cfg.train_dataloader.sampler.source_ratio
            labels = batch * ratio[0] // sum(ratio)
        passes = f'{length * labels / len(split.labeled):.0f}'
        table.add_row(path, f'{length:,}', str(batch), passes)
    console.print(table)
    cfg = Config.fromfile(f'configs/{name}/supervised.py', import_custom_modules=False)
    size = found.sizes.most_common(1)[0][0]
    test = cfg.val_dataloader.dataset.pipeline[1].scale
    shown = [resized(size, test)]
    view = cfg.train_dataloader.dataset.weak_view[0]
    if 'ratio_range' in view:
        shown += [resized(size, [s * r for s in view.scale]) for r in view.ratio_range]
    else:
        shown += [
            resized(size, [view.max_size, view.scales[place]]) for place in (0, -1)
        ]
    texts = ['{:.0f}x{:.0f}'.format(*each) for each in shown]
    console.print(
        'An image of {}x{} (your commonest size) is seen at {} in testing, and at {} '
        'to {} in training.'.format(*size, texts[0], texts[1], texts[-1])
    )


def resized(size: Sequence[int], scale: Sequence[float]) -> list[float]:
    """Return a size (width, height) after mmcv's Resize with ``keep_ratio``."""
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return [factor * side for side in size]


def run(args: argparse.Namespace) -> None:
    coco = load_coco(args.coco)
    val = load_coco(args.val) if args.val else None
    found = look(coco, args.images, str(args.coco))
    leave_out: set[str] = set()
    if val is not None:
        val_images = args.val_images or args.images
        unknown = set(found.classes) - {each['name'] for each in val['categories']}
        if unknown:
            raise ValueError(
                f'{args.val} lacks the categories {", ".join(sorted(unknown))} of '
                f'{args.coco}: give both files the same categories, in the same order'
            )
        validated = look(val, val_images, str(args.val))
        absent = [name for name in found.classes if name not in validated.classes]
        if absent:
            console.print(
                f'[yellow]{args.val} has no {", ".join(absent)}: their AP will be '
                'unknown[/yellow]'
            )
        leave_out = _of_validation(found, args.images, val, val_images)
    if not args.size:
        console.print(
            'Nothing was written: --size tiny, medium or full writes the configs.'
        )
        return
    split = draw(found, args, leave_out)
    lists = args.coco.parent / 'splits'
    files = {
        lists / 'labeled.txt': format_list(split.labeled),
        lists / 'unlabeled.txt': format_list(split.unlabeled),
    }
    if not args.val:
        files[lists / 'val.json'] = part_of(coco, split.validation)
    write(files)
    count = len(split.validation) if val is None else len(val['images'])
    console.print(
        f'{lists}: {len(split.labeled)} labelled, {len(split.unlabeled)} unlabelled '
        f'and {count} validation images'
    )
    link_configs()
    folder = Path('configs', args.name)
    write_atomic(folder / 'data.py', data_config(args, found.classes, split, lists))
    for stage in STAGES:
        text = stage_config(args.name, args.size, stage)
        write_atomic(folder / f'{stage}.py', text)
    show_stages(args.name, found, split)


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
    try:
        run(args)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
