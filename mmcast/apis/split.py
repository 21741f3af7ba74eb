"""Draw a labelled/unlabelled split, or check and convert existing lists."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.text import Text

from mmcast.console import make_console
from mmcast.datasets.cityscapes_to_coco import THINGS, read_images
from mmcast.datasets.coco_file import read_coco
from mmcast.datasets.splits import (
    check_known,
    check_lists,
    draw_order,
    format_list,
    read_list,
)
from mmcast.files import check_writable, write_new

Classes = tuple[tuple[str, ...], Mapping[str, set[str]]]


def split(
    out: str | Path,
    *,
    coco: str | Path | None = None,
    images: str | Path | None = None,
    list: str | Path | None = None,
    cityscapes: str | Path | None = None,
    split: str | None = None,
    fraction: Sequence[float] = (),
    count: Sequence[int] = (),
    labeled: str | Path | None = None,
    unlabeled: str | Path | None = None,
    per_class: int = 0,
    nested: bool = False,
    seed: int | None = None,
    pool: str = 'rest',
    format: str = 'names',
    allow_missing_classes: bool = False,
) -> dict[Path, str]:
    """Draw a labelled/unlabelled split, or check and convert existing lists.

    One split is written to ``out/labeled.txt`` and ``out/unlabeled.txt``. Several
    splits are written to ``out/10pct/...`` (of fractions) or ``out/100img/...`` (of
    counts).

    Args:
        out: Folder for the lists.
        coco: COCO JSON with the images. Give one of ``coco``, ``list``, ``cityscapes``.
        images: Image folder of ``coco``. Leading folders of the names are removed if
            the images are found in it then, as training does.
        list: List of images, without classes.
        cityscapes: Folder of a Cityscapes layout; it needs no JSON.
        split: Split of ``cityscapes``; None for ``'train'``.
        fraction: Labelled shares, 0 to 1, one split for each.
        count: Numbers of labelled images, one split for each.
        labeled: Existing labelled list.
        unlabeled: Existing unlabelled list, which is checked against ``labeled``.
        per_class: Least number of labelled images with each class.
        nested: Whether smaller splits are parts of larger ones.
        seed: Same seed, same lists; None for 0.
        pool: Unlabelled images: ``'rest'``, or ``'all'`` with the labelled ones.
        format: ``'names'``, or ``'instance-ids'`` as in Guided Distillation.
        allow_missing_classes: Whether a class may have no labelled image.

    Returns:
        The folder of each split, to its counts as text.

    Raises:
        FileNotFoundError: A file does not exist.
        FileExistsError: ``out`` holds another split.
        OSError: ``out`` cannot be written.
        ValueError: Arguments do not fit together, or no such split can be drawn.
    """
    if sum(each is not None for each in (coco, list, cityscapes)) != 1:
        raise ValueError('give one of --coco, --list and --cityscapes')
    if images and not coco:
        raise ValueError('--images is the image folder of --coco: give both')
    if images and not Path(images).is_dir():
        raise FileNotFoundError(f"image folder '{images}' is no folder: correct it")
    if split is not None and not cityscapes:
        raise ValueError('--split is the split of --cityscapes: give both')
    if not all(0 <= share <= 1 for share in fraction):
        shares = ', '.join(f'{share:g}' for share in fraction)
        raise ValueError(f'--fraction {shares}: give shares of 0 to 1')
    if per_class < 0:
        raise ValueError(f'--per-class {per_class} is negative: give 1 or more')
    if bool(fraction) + bool(count) + bool(labeled) > 1:
        raise ValueError('give only one of --fraction, --count and --labeled')
    if not (fraction or count or labeled or per_class):
        raise ValueError('give --fraction, --count, --per-class or --labeled')
    if labeled and (per_class or nested or seed is not None):
        raise ValueError(
            '--labeled gives the split: leave out --per-class, --nested and --seed'
        )
    if unlabeled and not labeled:
        raise ValueError('--unlabeled is checked against --labeled: give both')
    if list and per_class:
        raise ValueError('--per-class needs classes: give --coco or --cityscapes')
    check_writable(out, 'give another --out')
    names, classes = _read_source(coco, images, list, cityscapes, split or 'train')
    if labeled:
        chosen = read_list(labeled)
        check_known(chosen, {*names}, labeled)
        if unlabeled:
            rest = read_list(unlabeled)
            if pool == 'rest':
                paths = (str(labeled), str(unlabeled))
                check_lists(chosen, rest, {*names}, paths)
            else:
                check_known(rest, {*names}, unlabeled)
        else:
            rest = _pool(pool, names, chosen)
        splits = {'': (chosen, rest)}
    else:
        splits = {}
        for key, size in _sizes(fraction, count, len(names)).items():
            chosen = _draw(names, classes, size, per_class, nested, seed or 0)
            splits[key] = chosen, _pool(pool, names, chosen)
        if len(splits) == 1:
            splits = {'': next(iter(splits.values()))}
    reports, files = {}, {}
    for key, (chosen, rest) in splits.items():
        if not chosen:
            raise ValueError(
                'no image shows an object: annotate some, or give --fraction or --count'
            )
        if not rest:
            raise ValueError(
                'no image is left for the unlabelled list: label fewer images or give '
                '--pool all'
            )
        folder = Path(out, key)
        reports[folder] = _report(chosen, rest, classes, allow_missing_classes)
        files[folder / 'labeled.txt'] = format_list(chosen, format)
        files[folder / 'unlabeled.txt'] = format_list(rest, format)
    write_new(files, 'remove it, or give another --out')
    return reports


def _read_source(
    coco: str | Path | None,
    images: str | Path | None,
    file: str | Path | None,
    cityscapes: str | Path | None,
    split: str,
) -> tuple[list[str], Classes | None]:
    """Return the images and their classes (None if the source is a plain list)."""
    if file is not None:
        return read_list(file), None
    if coco is not None:
        with make_console().status(Text(f'reading {coco}')):
            content = read_coco(coco, images)
        classes_of = content.classes_of()
        return [*classes_of], (content.classes, classes_of)
    assert cityscapes is not None
    name_of = {label.id: label.name for label in THINGS}
    classes_of = {
        image['file_name']: {
            name_of[a['category_id']] for a in image['annotations'] if not a['iscrowd']
        }
        for image in read_images(cityscapes, split, num_workers=2)
    }
    return [*classes_of], (tuple(name_of.values()), classes_of)


def _sizes(
    fraction: Sequence[float], count: Sequence[int], total: int
) -> dict[str, int | None]:
    """Return the number of labelled images per folder (None: as few as allowed)."""
    wanted = {f'{100 * f:g}pct': int(f * total + 1e-9) for f in fraction}
    wanted |= {f'{n}img': n for n in count}
    for key, number in wanted.items():
        if not 1 <= number <= total:
            raise ValueError(
                f'{key} of {total} images is {number} labelled images: ask for 1 to '
                f'{total}'
            )
    return {**wanted} or {'': None}


def _draw(
    names: list[str],
    classes: Classes | None,
    count: int | None,
    per_class: int,
    nested: bool,
    seed: int,
) -> list[str]:
    """Draw the labelled list."""
    order, at_least = draw_order(
        names,
        seed if nested or count is None else f'{seed}:{count}',
        per_class,
        classes[1] if classes else None,
    )
    if count is not None and count < at_least:
        raise ValueError(
            f'{per_class} images per class need {at_least} images, more than '
            f'the {count} asked for: lower --per-class or label more'
        )
    return sorted(order[: count or at_least])


def _pool(kind: str, names: list[str], labeled: list[str]) -> list[str]:
    """Return the unlabelled images: those not labelled, or all."""
    taken = {*labeled} if kind == 'rest' else set()
    return sorted(name for name in names if name not in taken)


def _report(
    labeled: list[str], unlabeled: list[str], classes: Classes | None, allow: bool
) -> str:
    """Return the counts as text; raise if a class has no labelled image."""
    text = f'{len(labeled)} labelled, {len(unlabeled)} unlabelled images'
    if classes is None:
        return text
    names, classes_of = classes
    shown = set[str]().union(*classes_of.values())
    unused = [c for c in names if c not in shown]
    counts = {c: sum(c in classes_of[name] for name in labeled) for c in names}
    missing = [c for c in names if c in shown and not counts[c]]
    if missing and not allow:
        raise ValueError(
            f'no labelled image shows: {", ".join(missing)}: give --per-class 1 or '
            'more, another --seed or a larger split, or --allow-missing-classes'
        )
    text += '; labelled images with '
    text += ', '.join(f'{c}: {counts[c]}' for c in names if c in shown)
    return text + f'; no object of: {", ".join(unused)}' * bool(unused)
