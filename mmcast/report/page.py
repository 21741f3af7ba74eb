"""The page that shows what a method's stages did: `mmcast.apis.report` writes it."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import jinja2
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mmcast.console import make_console
from mmcast.datasets.workers import end_with_parent
from mmcast.files import check_file, write_atomic
from mmcast.version import __version__

from . import charts
from . import labels as pseudo_labels
from .data import Found, Model, Stage, find
from .models import Sources, by_class, disagreement, gallery, judge
from .pictures import Images, as_uri

PICTURE = 1600  # width of the quickstart's picture, in pixels
# Columns: title, digits, whether less is better (None: neither).
COLUMNS = {
    'mask_ap': ('mask AP', 1, False),
    'mask_ap50': ('AP50', 1, False),
    'miou': ('mIoU', 1, False),
    'abs_rel': ('abs rel', 3, True),
    'rmse': ('RMSE (m)', 2, True),
    'd1': ('d1', 3, False),
    'params_m': ('params (M)', 2, None),
    'ms': ('ms', 1, None),
    'minutes': ('minutes', 1, None),
}
# Curves of validation: title, values by their names in the log, factor.
VALIDATED = {
    'mask AP': ('coco/segm_mAP', 100),
    'mIoU': ('mIoU', 1),
    'RMSE of depth (m)': ('depth/rmse', 1),
}
# Of a teacher that labels each batch.
ONLINE = {
    'pseudo-labels: precision (line), recall (dashed)': (
        'teacher_precision',
        'teacher_recall',
    ),
    'pseudo-labels per image': ('teacher_labels_per_image',),
}


def write_report(work_dirs: Sequence[Path], out: Path) -> None:
    """Write the page.

    Args:
        work_dirs: Folders of stages or of the quickstart.
        out: The HTML file.

    Raises:
        FileNotFoundError: A folder does not exist.
        OSError: The file cannot be written.
        ValueError: There is nothing to show, or a file is damaged.
    """
    bar = Progress(
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        TimeRemainingColumn(),
        # In a notebook without ipywidgets, rich prints a warning for each update.
        console=make_console(stderr=True),
        transient=True,
    )
    found = find(work_dirs)
    check_file(out)
    sources = {
        series: files
        for series, model in enumerate(found.models)
        if (files := Sources.of(model))
    }
    with ExitStack() as stack:
        workers = min(os.cpu_count() or 1, max(len(sources), 1))
        fork = get_context('fork')
        pool = stack.enter_context(ProcessPoolExecutor(workers, fork, end_with_parent))
        # The bar starts a thread, so the workers must be there before. They are forked
        # at the first submission.
        jobs = {series: pool.submit(files.measure) for series, files in sources.items()}
        stack.enter_context(bar)
        total = len(jobs) + len(found.labels) + 1
        task = bar.add_task('report', total=total)
        images = Images()
        labels = []
        for each in found.labels:
            bar.update(task, description=f'report: pseudo-labels of {each.name}')
            labels.append(pseudo_labels.show(each, images))
            bar.advance(task)
        judged = []
        for series, job in jobs.items():
            model = found.models[series]
            bar.update(task, description=f'report: {model.title}')
            judged.append(judge(model, series, sources[series], job))
            bar.advance(task)
        bar.update(task, description='report: drawing')
        page = dict(
            title=title(found),
            about=about(found),
            table=table(found.models),
            stages=[show_stage(each, found.models) for each in found.stages],
            labels=labels,
            legend=[(each.series, each.model.title) for each in judged],
            classes=by_class(judged),
            disagreement=disagreement(judged, images),
            galleries=[gallery(each, images) for each in judged],
            pictures=[picture(path) for path in found.pictures],
            images=images.definitions(),
        )
        write_atomic(out, render(page))


def render(page: dict[str, Any]) -> str:
    """Return the page's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).resolve().parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template('report.html.j2').render(page)


def title(found: Found) -> str:
    """Return the methods that the trainings belong to."""
    methods = {'guided': 'Guided Distillation', 'swinmtl': 'SwinMTL'}
    names = [
        next((name for part, name in methods.items() if part in stage.name), 'CAST')
        for stage in found.stages
    ]
    return ', '.join(dict.fromkeys(names)) or 'Report'


def about(found: Found) -> str:
    """Return the line below the title."""
    parts = []
    counts = found.about.get('dataset') or {}
    if counts:
        parts.append(', '.join(f'{n} {kind}' for kind, n in counts.items()) + ' images')
    if 'seed' in found.about:
        parts.append(f'seed {found.about["seed"]}')
    versions = found.about.get('versions') or {'mmcast': __version__}
    parts.append(', '.join(f'{name} {version}' for name, version in versions.items()))
    parts.append(time.strftime('%Y-%m-%d %H:%M'))
    return ' · '.join(parts)


def table(models: list[Model]) -> dict[str, Any]:
    """Return the table: columns, and rows of a value's text and its share of a bar."""
    columns = {k: v for k, v in COLUMNS.items() if any(k in m.numbers for m in models)}
    most = {
        key: max(model.numbers.get(key, 0) for model in models) or 1 for key in columns
    }
    best = {
        key: (min if less else max)(m.numbers[key] for m in models if key in m.numbers)
        for key, (_, _, less) in columns.items()
        if less is not None
    }
    rows = []
    for series, model in enumerate(models):
        cells: list[dict[str, Any] | None] = []
        for key, (_, digits, _) in columns.items():
            value = model.numbers.get(key)
            if value is None:
                cells.append(None)
                continue
            cells.append(
                dict(
                    text=f'{value:.{digits}f}',
                    share=100 * value / most[key],
                    best=len(models) > 1 and value == best.get(key),
                )
            )
        rows.append(dict(name=model.title, series=series, cells=cells))
    return dict(columns=[name for name, *_ in columns.values()], rows=rows)


def show_stage(stage: Stage, models: list[Model]) -> dict[str, Any]:
    """Return a training's curves."""
    series = next(
        (
            i
            for i, model in enumerate(models)
            if model.folder and model.folder.resolve() == stage.folder.resolve()
        ),
        charts.SERIES - 1,
    )
    logged = stage.scalars
    drawn = []

    def add(
        name: str, lines: list[tuple[str, dict[int, float]]], **limits: Any
    ) -> None:
        lines = [(style, values) for style, values in lines if values]
        if lines:
            svg = charts.curves(
                f'{stage.name}: {name}', [(*line, series) for line in lines], **limits
            )
            drawn.append(dict(title=name, svg=svg))

    add('loss', [('-', logged.get('loss', {}))])
    for name, (key, factor) in VALIDATED.items():
        lines = [
            (style, {x: factor * y for x, y in logged.get(prefix + key, {}).items()})
            for style, prefix in (('-', ''), ('-', 'student/'), ('--', 'teacher/'))
        ]
        if lines[2][1]:
            name += ': student (line), teacher (dashed)'
        add(name, lines, bottom=0)
    for name, keys in ONLINE.items():
        lines = [
            (s, logged.get(k, {})) for s, k in zip(('-', '--'), keys, strict=False)
        ]
        add(name, lines, bottom=0)
    add('contrast: margin (cosine)', [('-', logged.get('contrast/margin', {}))])
    add(
        'contrast: share of false negatives; labels (line), pseudo-labels (dashed)',
        [
            ('-', logged.get('contrast/fnr_gt', {})),
            ('--', logged.get('contrast/fnr_query', {})),
        ],
        bottom=0,
    )
    add('contrast: loss (weighted)', [('-', logged.get('loss_pxl', {}))])
    iterations = max((max(values) for values in logged.values()), default=0)
    return dict(name=stage.name, iterations=iterations, series=series, charts=drawn)


def picture(path: Path) -> dict[str, str]:
    """Return a picture for the page."""
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f'{path} is no whole picture: delete it')
    if image.shape[1] > PICTURE:
        size = (PICTURE, round(image.shape[0] * PICTURE / image.shape[1]))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return dict(name=path.stem, data=as_uri(image))
