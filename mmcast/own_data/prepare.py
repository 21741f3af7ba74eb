"""Look at a user's own images, and write the configs of all stages for them."""

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.table import Table

from mmcast._requirements import mim_name
from mmcast.console import make_console
from mmcast.datasets.coco_file import CocoFile
from mmcast.datasets.image_names import examples
from mmcast.datasets.splits import format_list
from mmcast.engine.stages import sam3_command
from mmcast.files import check_writable, write_atomic, write_new
from mmcast.own_data import (
    STAGES,
    Detector,
    Files,
    Plan,
    check_configs,
    config_files,
    find_caps,
    most_labels,
    read_detector,
    seen_sizes,
    stage_length,
    trained_classes,
)
from mmcast.own_data.draw import Split, draw
from mmcast.own_data.image_files import find_copies
from mmcast.own_data.inspection import Inspection
from mmcast.own_data.look import look as look_at
from mmcast.own_data.look import read
from mmcast.own_data.plan import store

INSTALLED = Path(__file__).resolve().parents[1] / '.mim/configs/mmcast'
MINE = Path('configs/mmcast')
console = make_console(highlight=False)


def own_data(
    name: str,
    coco: str | Path,
    images: str | Path,
    *,
    val: str | Path | None = None,
    val_images: str | Path | None = None,
    look: bool = False,
    size: str | None = None,
    student: str | None = None,
    teacher: Sequence[str] | None = None,
    fraction: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    link_root: str | Path | None = None,
) -> list[Path]:
    """Look at your own images, and write the configs of all stages for them.

    It prints a table of what it finds. Then it draws labelled, unlabelled and
    validation images, and writes ``configs/NAME/{supervised,adapt,...}.py`` into the
    current folder. Without ``val`` a random fifth of the annotated images validates.
    All other images of the folder are unlabelled.

    Annotations go to ``out`` as `mmcast.datasets.coco_file` reads them, for training
    and evaluation; the files given stay as they are.

    Args:
        name: Name of the data set, as in ``configs/NAME``; letters and digits.
        coco: COCO JSON with masks.
        images: Folder of its images, and of unlabelled ones.
        val: COCO JSON of validation images.
        val_images: Their folder; None for ``images``.
        look: Whether to look only, and to write nothing.
        size: Models of the stages: ``'full'`` (GroundedSam2 teaches DINOv2-S),
            ``'medium'`` (Mask2Former with ResNet-50 teaches RTMDet-Ins-s) or
            ``'small'`` (stock detectors with ImageNet weights, which train on a
            laptop). None for medium with a GPU, and else small.
        student: Config of your own detector as student: a path, or ``mmdet::...``.
        teacher: Config and checkpoint of your own detector that was trained on the
            classes; or ``['sam3']``, which labels by the classes' names.
        fraction: Labelled share of the annotated images, above 0 and at most 1; the
            others count as unlabelled. None for all.
        seed: Seed of the drawn lists.
        out: Folder for lists and annotations; None for ``splits`` beside ``coco``.
        link_root: Links in the image folder may lead to places below this one, as the
            cache of DVC.

    Returns:
        The written configs, in the order in which they are run.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        FileExistsError: ``out`` holds other lists, or one of the files given; or
            ``configs/NAME`` holds a file that the command would overwrite or delete,
            and did not write.
        ValueError: An argument is wrong, or the data has to be repaired first.
    """
    if not re.fullmatch(r'[A-Za-z]\w*', name) or name == 'mmcast':
        raise ValueError(f"'{name}' is no name for a folder of configs: use letters")
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f'--fraction {fraction:g}: give a number above 0, at most 1')
    if val_images and not val:
        raise ValueError('--val-images is the folder of --val: give both')
    for option, file in (('--coco', coco), ('--val', val)):
        if file and not Path(file).is_file():
            raise FileNotFoundError(f"{option} '{file}' is no file: give a COCO JSON")
    coco, images = Path(coco), Path(images)
    lists = Path(out) if out else coco.parent / 'splits'
    by_words = [*(teacher or ())] == ['sam3']
    if not look:
        for path in lists / 'annotations.json', lists / 'val.json':
            if path.exists() and any(path.samefile(e) for e in (coco, val) if e):
                raise FileExistsError(
                    f"'{path}' is a file that you give, and the command would write "
                    'another one there: give another folder with --out'
                )
        check_configs(name, bool(teacher) and not by_words)
        check_link()
        check_writable(lists, 'give another folder with --out')
        check_writable(MINE.parent / name, 'run the command in another folder')
    links = Path(link_root) if link_root else None
    own, teaches = _read_detectors(student, None if by_words else teacher)
    folder = Path(val_images or images)
    content = read(coco, images, console)
    classes = content.shown_classes
    validation = read(Path(val), folder, console) if val else None
    if validation:
        _check_validation(validation, content)
        if folder.samefile(images):
            _check_same_images(validation, content)
    if teaches:
        check_teacher(teaches[1], classes, coco)
    plan = Plan(
        name=name,
        size=size or default_size(),
        sizes=(MINE if MINE.is_dir() else INSTALLED) / 'own_data',
        files=Files(
            lists / 'annotations.json', images, lists / 'val.json', folder, lists
        ),
        classes=classes,
        labeled=1,
        unlabeled=1,
        most=0,
        student=own,
        teacher=teaches,
        by_words=by_words,
        link_root=links,
    )
    config_files(plan)  # refuses an own config before the long work
    found = look_at(content, images, console, links)
    leave_out: set[str] = set()
    most = found.most
    if validation:
        validated = look_at(validation, folder, console, links, whole=False)
        most = max(most, validated.most)
        leave_out = _of_validation(found, images, validated.readable, folder)
    if look:
        console.print('Nothing was written: the same command without --look writes.')
        return []
    split = draw(found, leave_out, fraction, seed, with_validation=not val)
    if split.versions:
        console.print(
            f"{split.versions} of Roboflow's versions of validation images are left "
            'out of the lists'
        )
    tell_missing(found, split)
    plan = replace(
        plan,
        labeled=len(split.labeled),
        unlabeled=len(split.unlabeled),
        most=most,
        mirrored=found.mirrored,
    )
    configs = config_files(plan)
    if validation:
        evaluated = validation.part(validated.readable, classes)
    else:
        evaluated = content.part(split.validation, classes)
    drawn = {
        lists / 'labeled.txt': format_list(split.labeled),
        lists / 'unlabeled.txt': format_list(split.unlabeled),
        lists / 'val.json': _as_text(evaluated),
        lists / 'annotations.json': _as_text(content.part(found.readable, classes)),
    }
    write_new(drawn, 'give another folder with --out, or move it elsewhere')
    console.print(
        f'{lists}: {len(split.labeled)} labelled, {len(split.unlabeled)} unlabelled '
        f'and {len(evaluated["images"])} validation images'
    )
    link_configs()
    folder = Path('configs', name)
    for stage in STAGES:
        # Of an earlier command; with a teacher of your own nothing trains one.
        (folder / f'{stage}.py').unlink(missing_ok=True)
    for file_name, text in configs.items():
        write_atomic(folder / file_name, text)
    show_stages(plan, found)
    return [folder / f'{stage}.py' for stage in plan.stages]


def _as_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content) + '\n'


def _check_validation(validation: CocoFile, training: CocoFile) -> None:
    """Check that the validation file has the classes; they are matched by name."""
    coco, classes = training.path, training.shown_classes
    shown = validation.shown_classes
    unknown = [name for name in classes if name not in validation.classes]
    if unknown:
        raise ValueError(
            f'{validation.path} lacks the categories {", ".join(unknown)} of {coco} '
            f'(it has {", ".join(validation.classes)}): give both files the same names'
        )
    if shown and not {*classes} & {*shown}:
        raise ValueError(
            f'{validation.path} has no object of the categories of {coco}, so nothing '
            f'could be evaluated (it has {", ".join(shown)}): label some'
        )
    absent = [name for name in classes if name not in shown]
    if absent:
        console.print(
            f'{validation.path} has no {", ".join(absent)}: their AP will be unknown',
            style='yellow',
        )
    others = [name for name in shown if name not in classes]
    if others:
        console.print(
            f'{validation.path} has objects of {", ".join(others)}, which {coco} '
            'lacks: they are left out',
            style='yellow',
        )


def _check_same_images(validation: CocoFile, training: CocoFile) -> None:
    """Check that images of one name are the same: else they have other objects."""

    def objects(content: CocoFile) -> dict[str, list[tuple]]:
        return {
            name: sorted((*each['bbox'], each['area']) for each in every)
            for name, every in content.by_image().items()
            if every
        }

    mine, theirs = objects(training), objects(validation)
    both = [name for name in theirs if name in mine]
    differ = [name for name in both if mine[name] != theirs[name]]
    if 2 * len(differ) > len(both):
        raise ValueError(
            f'{len(differ)} images have other objects in {validation.path} than in '
            f'{training.path} ({examples(differ)}): give --val-images if they are '
            'other images of these names, or give both files the same objects'
        )


def tell_missing(found: Inspection, split: Split) -> None:
    """Name the classes that no labelled image shows, or no drawn validation image."""
    texts = []
    for kind, names in ('labelled', split.labeled), ('validation', split.validation):
        shown = set[str]().union(*(found.annotated[name] for name in names))
        missing = [name for name in found.classes if name not in shown]
        if missing and names:
            texts.append(f'no {kind} image shows {", ".join(missing)}')
    if texts:
        console.print('; '.join(texts), style='yellow')


def check_link() -> None:
    """Check that ``configs/mmcast`` can lead to the installed configs.

    Raises:
        FileExistsError: Something else is there.
    """
    if MINE.exists() and not (MINE / 'own_data').is_dir():
        raise FileExistsError(
            f"'{MINE}' is there and has no configs of mmcast: move it elsewhere, or "
            'run the command in another folder'
        )


def link_configs() -> None:
    """Make ``configs/mmcast`` lead to the installed configs, unless it is there."""
    if MINE.is_dir():
        return
    MINE.parent.mkdir(exist_ok=True)
    if MINE.is_symlink() and not MINE.exists():  # of an installation that is gone
        MINE.unlink()
    inside = INSTALLED.is_relative_to(Path.cwd())
    MINE.symlink_to(os.path.relpath(INSTALLED, MINE.parent) if inside else INSTALLED)
    console.print(f"'{MINE}' is a link to the installed configs, {INSTALLED}")


def _read_detectors(
    student: str | None, teacher: Sequence[str] | None
) -> tuple[Detector | None, tuple[Detector, str] | None]:
    """Read the configs of the user's own student and teacher."""
    # mmengine's, for each base in another package.
    warnings.filterwarnings('ignore', 'pkg_resources is deprecated')
    own = read_detector(student) if student else None
    if not teacher:
        return own, None
    if len(teacher) != 2:
        raise ValueError(
            f'--teacher {" ".join(teacher)}: give a config and a checkpoint, or sam3'
        )
    config, checkpoint = teacher
    return own, (read_detector(config), checkpoint)


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
    if plan.by_words:
        files = plan.files
        unlabeled = str(files.lists / 'unlabeled.txt')
        command = sam3_command(
            *(str(files.images), unlabeled, plan.classes, store(plan)),
            link_root=plan.link_root,
            max_instances=most_labels(plan.most),
        )
        console.print(f'Label first: {command}', soft_wrap=True)
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


def default_size() -> str:
    """Choose the models by the machine, and tell."""
    size = 'medium' if torch.cuda.is_available() else 'small'
    found = 'a GPU' if size == 'medium' else 'no GPU'
    console.print(f'{found} was found: size {size} (--size chooses another)')
    return size


def _of_validation(
    found: Inspection, folder: Path, validation: Sequence[str], val_folder: Path
) -> set[str]:
    """Return the images that are validation images, too, by name or by content."""
    names = [*found.annotated, *found.others]
    first = [val_folder / name for name in validation]
    with console.status('comparing with the validation images'):
        same = find_copies([*first, *(folder / name for name in names)])
    shared = {names[index - len(first)] for index in same if index >= len(first)}
    if shared:
        console.print(f'{len(shared)} validation images are left out of the lists')
    return shared
