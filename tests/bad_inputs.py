"""Make over 200 bad inputs, and see what the program says to each.

    python tests/bad_inputs.py      # prints a table by kind

Each input is one spoilt file in a small, good folder, or one wrong setting. A process
of its own reads it, as a tool of mmdet would: it must end with one line that names the
file and the remedy, with an exit status that is not 0, and must leave the folder as it
was.
"""

import argparse
import contextlib
import functools
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bad_input_tables import (
    CAMERAS,
    CHECKPOINTS,
    COCO_EDITS,
    COCO_TEXTS,
    DEPTHS,
    ENTRIES,
    JSON_TEXTS,
    LABEL_MAPS,
    LINES,
    MANIFESTS,
    MENDED,
    PICTURES,
    SAFETENSORS,
    SETTINGS,
    WEIGHTS,
)
from mmcv.transforms import Compose
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.registry import init_default_scope
from spoilt_files import CLASSES, SIZE, edit, make_good, write
from torch import nn

from mmcast import errors
from mmcast.checkpoints import check_fits, check_resumable, load_strict, read_checkpoint
from mmcast.datasets.coco_file import read_coco
from mmcast.datasets.pseudo_label_store import PseudoLabelStore

# What a message tells to do.
REMEDY = re.compile(
    r'\b(correct|delete|remove|give|put|train|download|convert|set|use|make|repair|'
    r'choose|label|raise|lower|point|do not load|take|rename|start|unpack|check|export|'
    r'resume|add|draw|write|leave|copy|must be)\b',
    re.IGNORECASE,
)

Route = Callable[[Path], Any]


@dataclass(frozen=True)
class BadInput:
    """One bad input.

    Attributes:
        kind: Kind of file, for the table.
        name: What is wrong.
        spoil: Called with the folder; makes the input bad.
        read: Called with the folder; reads it.
        told: What the message must name: a regular expression.
    """

    kind: str
    name: str
    spoil: Callable[[Path], None]
    read: Route
    told: str


# -- ways to read it -----------------------------------------------------------------


def unlabeled(root: Path) -> None:
    DATASETS.build(
        dict(
            type='ImageListDataset',
            data_root=str(root),
            ann_file='list.txt',
            data_prefix=dict(img='images/'),
        )
    )


def labeled(root: Path, image_list: str | None = None) -> None:
    pipeline = [dict(type='LoadImage'), dict(type='LoadInstances')]
    data = DATASETS.build(
        dict(
            type='ListedCocoDataset',
            data_root=str(root),
            ann_file='coco.json',
            image_list=image_list,
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=CLASSES),
            filter_cfg=dict(filter_empty_gt=True),
            pipeline=pipeline,
        )
    )
    for index in range(len(data)):
        data[index]


def labeled_by_list(root: Path) -> None:
    labeled(root, 'list.txt')


def split_tool(root: Path) -> None:
    read_coco(root / 'coco.json')


def depth(root: Path) -> None:
    load = Compose(
        [
            TRANSFORMS.build(each)
            for each in (
                dict(type='LoadImage'),
                dict(type='LoadLabelMap'),
                dict(type='LoadDepth', disparity=True, invalid_labels=[1]),
            )
        ]
    )
    load(
        dict(
            img_path=str(root / 'images/a.png'),
            seg_map_path=str(root / 'labels/a.png'),
            depth_path=str(root / 'depth/a.png'),
            camera_path=str(root / 'camera/a.json'),
            seg_fields=[],
            reduce_zero_label=False,
            label_map=None,
        )
    )


def entry(root: Path) -> None:
    load = TRANSFORMS.build(
        dict(type='LoadPseudoAnnotations', store=str(root / 'store'), classes=CLASSES)
    )
    load(dict(img_name='a.png', img_shape=SIZE))


def whole_store(root: Path) -> None:
    list(PseudoLabelStore.open(root / 'store').entries())


def checkpoint(root: Path) -> None:
    read_checkpoint(root / 'model.pth')


def test_checkpoint(root: Path) -> None:
    check_fits(nn.Linear(2, 3), str(root / 'model.pth'))


def resumed(root: Path) -> None:
    check_resumable(str(root / 'model.pth'), str(root))


def initial(root: Path) -> None:
    load_strict(nn.Linear(2, 3), str(root / 'model.pth'))


def safetensors(root: Path) -> None:
    load_strict(nn.Linear(2, 3), str(root / 'model.safetensors'))


def build(registry: Any, config: dict, root: Path) -> None:
    registry.build(dict(config))


def bad_inputs() -> Iterator[BadInput]:
    """Yield all of them."""
    for name, content in LINES.items():
        spoil = write('list.txt', content)
        yield BadInput('list of unlabelled images', name, spoil, unlabeled, 'list.txt')
        yield BadInput(
            'list of labelled images', name, spoil, labeled_by_list, 'list.txt'
        )
    for name, spoil in PICTURES.items():
        file = 'c.jpg' if 'JPEG' in name else 'a.png'
        yield BadInput('labelled image', name, spoil, labeled, file)
    for name, text in COCO_TEXTS.items():
        for route in (labeled, split_tool):
            title = f'{name}, {route.__name__}'
            yield BadInput(
                'COCO file', title, write('coco.json', text), route, 'coco.json'
            )
    for name, (keys, value) in COCO_EDITS.items():
        spoil = edit('coco.json', *keys, value=value)
        yield BadInput('COCO file', name, spoil, labeled, r'coco\.json|a\.png')
    for name, text in JSON_TEXTS.items():
        spoil = write('store/a.json', text)
        yield BadInput('pseudo-labels', name, spoil, entry, 'a.json')
        yield BadInput('pseudo-labels, all', name, spoil, whole_store, 'a.json')
        spoil = write('store/manifest.json', text)
        yield BadInput('manifest', name, spoil, entry, 'manifest.json')
        spoil = write('camera/a.json', text)
        yield BadInput('camera file', name, spoil, depth, 'camera/a.json')
    for name, (keys, value) in ENTRIES.items():
        spoil = edit('store/a.json', *keys, value=value)
        yield BadInput('pseudo-labels', name, spoil, entry, r'a\.json|a\.png')
    for name, (keys, value) in MANIFESTS.items():
        spoil = edit('store/manifest.json', *keys, value=value)
        yield BadInput('manifest', name, spoil, entry, 'store')
    for name, (keys, value) in CAMERAS.items():
        spoil = edit('camera/a.json', *keys, value=value)
        yield BadInput('camera file', name, spoil, depth, 'camera/a.json')
    for name, spoil in DEPTHS.items():
        yield BadInput('depth file', name, spoil, depth, 'depth/a.png')
    for name, spoil in LABEL_MAPS.items():
        yield BadInput('label map', name, spoil, depth, 'labels/a.png')
    for name, spoil in CHECKPOINTS.items():
        for kind, route in (
            ('checkpoint to read', checkpoint),
            ('checkpoint to test', test_checkpoint),
            ('checkpoint to resume', resumed),
            ('initial weights', initial),
        ):
            yield BadInput(kind, name, spoil, route, 'model.pth')
    for name, spoil in WEIGHTS.items():
        yield BadInput('checkpoint to test', name, spoil, test_checkpoint, 'model.pth')
        yield BadInput('initial weights', name, spoil, initial, 'model.pth')
    for name, spoil in SAFETENSORS.items():
        yield BadInput(
            'initial weights, safetensors', name, spoil, safetensors, 'model.safet'
        )
    for name, (registry, config) in SETTINGS.items():
        yield BadInput(
            'setting',
            name,
            lambda root: None,
            functools.partial(build, registry, config),
            name.split()[0],
        )


def mended(bad: BadInput) -> bool:
    """Return whether the program reads an input, and mends it."""
    return bad.kind == 'COCO file' and bad.name in MENDED


# -- what the program says -----------------------------------------------------------


def problem(bad: BadInput, root: Path) -> str | None:
    """Read a bad input in a process of its own.

    Args:
        bad: The input.
        root: A new folder, which is filled.

    Returns:
        What is wrong with the answer; None if all is as promised.
    """
    init_default_scope('mmdet')
    make_good(root)
    bad.spoil(root)
    before = snapshot(root)
    output = root.with_name(f'{root.name}.log')
    child = os.fork()
    if not child:
        _read(bad, root, output)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = output.read_text(errors='replace')
    lines = [line for line in text.splitlines() if line.startswith('error: ')]
    if status != 1:
        return f'exit status {status}: {text[-300:]}'
    if 'Traceback' in text or len(lines) != 1 or not text.rstrip().endswith(lines[0]):
        return f'not one line: {text[-300:]}'
    if not re.search(bad.told, lines[0]):
        return f'does not name {bad.told}: {lines[0]}'
    if not REMEDY.search(lines[0]):
        return f'has no remedy: {lines[0]}'
    if len(lines[0]) > 1000:
        return f'is long: {lines[0][:300]}'
    if snapshot(root) != before:
        return 'files were left or changed'
    return None


def snapshot(root: Path) -> dict[str, Any]:
    """Return all files below a folder with their content."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob('*'))
    }


def _read(bad: BadInput, root: Path, output: Path) -> None:
    """Read the input and end this process as a tool would."""
    status = 3
    try:
        with output.open('w') as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, 'w'), os.fdopen(2, 'w')
        os.chdir(root)
        try:
            bad.read(root)
            status = 0
        except BaseException as error:
            errors.show(type(error), error, error.__traceback__)
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.parse_args()
    made: Counter[str] = Counter()
    read: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, bad in enumerate(bad_inputs()):
            root = Path(folder) / str(number)
            why = problem(bad, root)
            made[bad.kind] += 1
            if mended(bad) and why and why.startswith('exit status 0'):
                read[bad.kind] += 1
            elif why or mended(bad):
                failed[bad.kind] += 1
                print(f'{bad.kind}, {bad.name}: {why}', file=sys.stderr)
            shutil.rmtree(root)
    print('| kind | inputs | one line with file and remedy | mended and read |')
    print('|---|---|---|---|')
    for kind, count in made.items():
        print(
            f'| {kind} | {count} | {count - failed[kind] - read[kind]} | {read[kind]} |'
        )
    told = made.total() - failed.total() - read.total()
    print(f'| all | {made.total()} | {told} | {read.total()} |')
    sys.exit(bool(failed))


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        main()
