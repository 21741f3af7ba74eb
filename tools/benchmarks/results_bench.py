"""What a results page measures: its data, the rows, and the tables they are in.

A row is one model. Rows name each other: whose file they read, and what their gain is
measured from.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from runs import TOOLS

CONFIGS = TOOLS.parent / 'configs' / 'mmcast'
LABELED = 'train_dataloader.dataset.labeled_dataset.image_list'
UNLABELED = 'train_dataloader.dataset.unlabeled_dataset.ann_file'
PSEUDO_LABELS = 'train_dataloader.dataset.pseudo_labels.'
LABELLER = 'default_hooks.pseudo_labels.teacher'
TAKE_OVER = 'default_hooks.teacher_update.burn_in_iters'


@dataclass(frozen=True)
class Row:
    """A row of a table: a model, how it is made, and what it is compared with.

    Attributes:
        title: Its text in the tables.
        config: The stage that trains it; None if nothing is trained.
        options: Changes of the config; ``{seed}`` in a value is the seed.
        reads: Option to the row whose file it names.
        file: The file that the training leaves.
        judge: The config that it is evaluated with.
        against: The row that its gain is measured from, seed by seed.
        paper: Mask AP of the paper: Cityscapes, 10 % of the labels.
        share: Factor on the config's iterations.
        labels: Number of labelled images; None for all.
        views: Whether its labels are merged from the views of stage 2's config. If
            nothing is trained, the row is these labels of what it reads.
    """

    title: str
    config: str | None = 'distill'
    options: dict[str, object] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    file: str = 'student.pth'
    judge: str = 'supervised'
    against: str | None = None
    paper: float | None = None
    share: float = 1.0
    labels: int | None = None
    views: bool = False


@dataclass(frozen=True)
class Bench:
    """A results page.

    Attributes:
        name: End of its configs' names, as in ``distill_NAME.py``.
        rows: All rows by name, a row after those that it reads.
        tables: Title and rows of each table, by name.
        regime: What must hold before methods are compared: the row whose gain over
            another is bounded, the other (None: its mask AP is), and the lowest and the
            highest mean.
        make_data: Makes the data, given a seed's folder and the seed.
        images: How many of each there are.
        image_size: (height, width) of a typical one, to count operations.
        inputs: What else the data depend on, beside the seed.
        options: Options that evaluate on ``'val'`` or ``'test'``.
        unlabeled: What is labelled, as arguments of ``mmcast label`` with ``{seed}``.
        starts: Files that decide a row's start, by the row's judge.
    """

    name: str
    rows: dict[str, Row]
    tables: Mapping[str, tuple[str, tuple[str, ...]]]
    regime: Mapping[str, tuple[str, str | None, float | None, float | None]]
    make_data: Callable[[Path, int], None]
    images: Mapping[str, object]
    image_size: tuple[int, int]
    options: Callable[[str], dict[str, object]]
    unlabeled: tuple[str, ...]
    inputs: tuple[object, ...] = ()
    starts: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    @property
    def views(self) -> dict[str, Any]:
        """The views that stage 2 merges."""
        return dict(self.config('distill').default_hooks.pseudo_labels.views)

    def path(self, stage: str) -> Path:
        """Return the config of a stage."""
        return CONFIGS / f'{stage}_{self.name}.py'

    def config(self, stage: str) -> Config:
        """Return the parsed config of a stage."""
        return _parsed(self.path(stage))


@functools.cache
def _parsed(path: Path) -> Config:
    return Config.fromfile(path)
