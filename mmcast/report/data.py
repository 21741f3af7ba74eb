"""Find what a report shows: in work folders, from the files that stages leave.

A training leaves ``*/vis_data/scalars.json`` and its config. Predictions come from
``mim test`` with ``test_evaluator.outfile_prefix=FOLDER/predictions``, or from a
training with ``val_evaluator.outfile_prefix=FOLDER/validation``. A teacher leaves a
store of pseudo-labels. The quickstart leaves ``results.json``.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmcast.datasets.pseudo_label_store import PseudoLabelStore
from mmcast.engine.stages import labels_of

# The evaluators' names, ours, the factor, and the digits of a table.
METRICS = {
    'coco/segm_mAP': ('mask_ap', 'mask AP', 100, 1),
    'coco/segm_mAP_50': ('mask_ap50', 'mask AP50', 100, 1),
    'mIoU': ('miou', 'mIoU', 1, 1),
    'depth/abs_rel': ('abs_rel', 'abs rel', 1, 3),
    'depth/rmse': ('rmse', 'RMSE (m)', 1, 2),
    'depth/d1': ('d1', 'd1', 1, 3),
}
PREDICTIONS = '.segm.json'
VALIDATION = f'validation{PREDICTIONS}'  # those of a training's last validation


@dataclass
class Stage:
    """A training.

    Attributes:
        name: Its folder, without what all have in common.
        folder: Where it left its files.
        scalars: Logged values, by name and iteration.
        config: Its config as it ran; None if it is gone.
    """

    name: str
    folder: Path
    scalars: dict[str, dict[int, float]]
    config: Config | None


@dataclass
class Model:
    """An evaluated model: a row of the table.

    Attributes:
        name: From the table, or from the folder.
        numbers: Size, metrics and minutes, by their names in ``results.json``.
        folder: The training that left its checkpoint; None if it is not known.
        is_teacher: Whether its checkpoint's name says so.
        predictions: COCO results of its masks; None if they were not kept.
        config: Config of the test; None if it is gone.
    """

    name: str
    numbers: dict[str, float]
    folder: Path | None
    is_teacher: bool
    predictions: Path | None = None
    config: Config | None = None

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.name.replace('_', ' ')


@dataclass
class Labels:
    """A store of pseudo-labels, and the config of a training that read it, if any."""

    name: str
    store: PseudoLabelStore
    config: Config | None


@dataclass
class Found:
    """All that was found.

    Attributes:
        models: Rows of the table, by their table's title.
        stages: Trainings, the oldest first.
        labels: Stores of pseudo-labels.
        about: Counts of images, seed and versions, for the head of the page.
        pictures: Further pictures to show, with a title.
    """

    models: list[Model] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    labels: list[Labels] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    pictures: list[Path] = field(default_factory=list)


def find(roots: Iterable[Path]) -> Found:
    """Look through work folders.

    Args:
        roots: Folders; those below count as well, and the trainings whose checkpoints
            a ``results.json`` names.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: They hold nothing to show.
    """
    roots = [Path(root) for root in roots]
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f'{root} is no folder: give work folders of stages')
    found = Found()
    folders = list(roots)
    for root in roots:
        for path in sorted(root.rglob('results.json')):
            folders += _read_results(path, found)
    runs = _runs(folders)
    _add_tests(runs, found)
    for folder, logs in runs.items():
        scalars = read_scalars(folder)
        if any('loss' in name for name in scalars):
            name = _short(folder)
            found.stages.append(Stage(name, folder, scalars, _read_config(logs)))
    for stage in found.stages:
        _add_last_validation(stage, found)
    _add_labels(folders, found)
    if not (found.models or found.stages or found.labels):
        raise ValueError(
            f'{", ".join(map(str, roots))}: no logs, results, predictions or '
            'pseudo-labels here; give the work folder of a stage that ran'
        )
    return found


def read_scalars(work_dir: Path) -> dict[str, dict[int, float]]:
    """Return all values that the newest run logged, by name and iteration.

    Args:
        work_dir: The run's folder. It has several logs if a run was resumed, or if the
            stage was trained again. A resumed run continues the older ones from its
            first iteration on; any other one replaces them.
    """
    curves: dict[str, dict[int, float]] = {}
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        is_training, last = False, 0
        for line in log.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            if 'step' not in record:
                continue
            # A validation may be logged with its epoch.
            last = max(last, record['step'])
            if not is_training and any('loss' in name for name in record):
                is_training = True
                resumed = (_read_config([log.parent]) or {}).get('resume', True)
                start = last if resumed else 0
                curves = {
                    name: kept
                    for name, points in curves.items()
                    if (kept := {x: y for x, y in points.items() if x < start})
                }
            for name, value in record.items():
                if isinstance(value, int | float) and _is_measured(name, value):
                    curves.setdefault(name, {})[last] = value
    return curves


def _is_measured(name: str, value: float) -> bool:
    """Say whether it is no -1, CocoMetric's number where there was nothing to find."""
    return 'coco/' not in name or value >= 0


def locate(path: str, near: Path | None = None) -> Path | None:
    """Return a path that a config or results name; None if there is no such file.

    Args:
        path: Relative to the folder that the stages ran in.
        near: A file that they left: one of its parents was that folder.
    """
    for base in (Path(), *(near.absolute().parents if near else ())):
        if (base / path).exists():
            return base / path
    return None


def _read_results(path: Path, found: Found) -> list[Path]:
    """Read the quickstart's table; return the folders of its trainings."""
    report = _read_json(path)
    if not isinstance(report, dict) or not isinstance(report.get('models'), list):
        return []
    folders = []
    for row in report['models']:
        checkpoint = locate(row['checkpoint'], path)
        numbers = {k: v for k, v in row.items() if isinstance(v, int | float)}
        is_teacher = 'teacher' in Path(row['checkpoint']).stem
        model = Model(row['name'], numbers, None, is_teacher)
        if checkpoint and 'configs' not in checkpoint.parts:
            model.folder = checkpoint.parent
            folders.append(checkpoint.parent)
        found.models.append(model)
        test = path.parent / f'test_{row["name"]}'
        _add_predictions(model, test)
    found.about |= {k: v for k, v in report.items() if k != 'models'}
    picture = path.with_name('predictions.png')
    if picture.is_file():
        found.pictures.append(picture)
    return folders


def _runs(folders: list[Path]) -> dict[Path, list[Path]]:
    """Return each folder that something ran in, with its logs, the oldest first."""

    def started(run: tuple[Path, list[Path]]) -> tuple[str, Path]:
        folder, logs = run
        return min(path.parent.name for path in logs), folder  # TIME/vis_data

    runs: dict[Path, list[Path]] = {}
    seen = set()
    for folder in folders:
        for path in folder.rglob('vis_data'):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                runs.setdefault(path.parents[1], []).append(path)
    return {folder: sorted(logs) for folder, logs in sorted(runs.items(), key=started)}


def _add_tests(runs: dict[Path, list[Path]], found: Found) -> None:
    """Add models that ``mim test`` evaluated and no table names."""
    known = {model.predictions for model in found.models if model.predictions}
    tables = {f'test_{model.name}' for model in found.models}
    for folder, logs in runs.items():
        files = _predictions_of_tests(folder)
        metrics = _read_metrics(logs[-1].parent)
        if (files and files[0] in known) or folder.name in tables:
            continue
        if not (files or metrics):
            continue
        config = _read_config(logs)
        checkpoint = Path((config and config.get('load_from')) or '')
        trained = locate(str(checkpoint.parent), folder) if checkpoint.name else None
        name = folder.name.removeprefix('test_')
        if name == 'test':
            name = folder.parent.name
        elif name == folder.name and any(_same(trained, each) for each in runs):
            name = checkpoint.parent.name  # the config's own folder may be another's
        model = Model(name, metrics, trained, 'teacher' in checkpoint.stem)
        found.models.append(model)
        _add_predictions(model, folder)


def _predictions_of_tests(folder: Path) -> list[Path]:
    found = folder.glob(f'*{PREDICTIONS}')
    return sorted(path for path in found if path.name != VALIDATION)


def _add_predictions(model: Model, folder: Path) -> None:
    """Add those of a test; without any, those of the last validation in training."""
    files = _predictions_of_tests(folder)
    if not files and model.folder and (model.folder / VALIDATION).is_file():
        files, folder = [model.folder / VALIDATION], model.folder
    if files:
        model.predictions = files[0]
        model.config = _read_config(sorted(folder.glob('*/vis_data')))


def _add_last_validation(stage: Stage, found: Found) -> None:
    """Add a training's last validation as a row, unless a test has evaluated it."""
    if any(_same(model.folder, stage.folder) for model in found.models):
        return
    numbers = {
        ours: factor * values[max(values)]
        for name, (ours, _, factor, _) in METRICS.items()
        if (values := stage.scalars.get(name))
    }
    if numbers:
        is_teacher = any(stage.folder.glob('teacher.pth'))
        model = Model(stage.name, numbers, stage.folder, is_teacher)
        found.models.append(model)
        _add_predictions(model, stage.folder)


def _add_labels(folders: list[Path], found: Found) -> None:
    """Add the stores below the folders, and those that trainings read."""
    stores: dict[Path, Config | None] = {}
    for stage in found.stages:
        hook = (stage.config or {}).get('default_hooks', {}).get('pseudo_labels')
        if not stage.config or not hook:
            continue
        settings = stage.config.train_dataloader.dataset.get('pseudo_labels') or {}
        teachers = hook['teacher']  # one, or several to choose from
        each = [teachers] if isinstance(teachers, str) else teachers
        named = settings.get('store')
        for store in [named] if named else map(labels_of, each):
            path = locate(store, stage.folder)
            if path:
                stores.setdefault(path.resolve(), stage.config)
    for folder in folders:
        for manifest in folder.rglob('pseudo_labels/manifest.json'):
            stores.setdefault(manifest.parent.resolve(), None)
    for path, config in stores.items():
        if PseudoLabelStore.exists(path):
            store = PseudoLabelStore.open(path)
            found.labels.append(Labels(_short(path.parent), store, config))


def _read_metrics(run: Path) -> dict[str, float]:
    """Return the metrics that a test left in ``TIME/TIME.json``."""
    values = _read_json(run / f'{run.name}.json') or {}
    return {
        ours: factor * values[name]
        for name, (ours, _, factor, _) in METRICS.items()
        if name in values and _is_measured(name, values[name])
    }


def _read_config(logs: list[Path]) -> Config | None:
    """Return the config of the newest run that left one."""
    for path in reversed(logs):
        if (path / 'config.py').is_file():
            return Config.fromfile(path / 'config.py', import_custom_modules=False)
    return None


def _read_json(path: Path) -> Any:
    """Return a JSON file's content; None if it is missing.

    Raises:
        ValueError: It is damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f'{path} is no whole JSON ({error}): delete it') from None


def _short(folder: Path) -> str:
    """Return a folder's name below the last ``work_dirs``."""
    parts = folder.parts
    if 'work_dirs' in parts:
        last = len(parts) - 1 - parts[::-1].index('work_dirs')
        parts = parts[last + 1 :]
    return '/'.join(parts[-2:]) or folder.name


def _same(one: Path | None, other: Path) -> bool:
    return one is not None and one.resolve() == other.resolve()
