"""The parts of the report about models with predictions: classes, sizes, images."""

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pycocotools.coco import COCO

from . import charts, coco
from .data import Model, locate
from .pictures import Images, annotated, instances

BEST = 4  # images of a model, and as many of its worst
DISAGREE = 8  # images


@dataclass
class Judged:
    """A model with its predictions.

    Attributes:
        model: Where they come from.
        series: The model's colour.
        truth: Annotations of the images.
        categories: Ids of the classes, in label order.
        images: Folder of the images.
        found: The predictions by image id, with the model's own threshold.
        quality: How good they are.
        threshold: The score with the best F1.
    """

    model: Model
    series: int
    truth: COCO
    categories: list[int]
    images: Path
    found: dict[int, list[dict]]
    quality: coco.Quality
    threshold: float

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in label order."""
        return [each['name'] for each in self.truth.loadCats(self.categories)]

    def file(self, image: int) -> Path:
        """Return an image's file."""
        return self.images / self.truth.imgs[image]['file_name']

    def labels(self, image: int, page: Images) -> Markup | None:
        """Draw the annotated objects of an image; None if it cannot be read."""
        shapes = annotated(self.truth, image, self.categories)
        return page.draw(self.file(image), shapes, 'labels')

    def drawn(self, image: int, page: Images) -> Markup | None:
        """Draw what the model finds in an image above its threshold."""
        kept = [each for each in self.found[image] if each['score'] >= self.threshold]
        shapes = instances(kept, self.truth, self.categories)
        return page.draw(self.file(image), shapes, self.model.title)


@dataclass(frozen=True)
class Sources:
    """The files of a model's test.

    Attributes:
        predictions: COCO results of masks.
        annotations: Those of the same images.
        images: Folder of the images.
        classes: Names of the classes that count; None for all.
    """

    predictions: Path
    annotations: Path
    images: Path
    classes: tuple[str, ...] | None

    @classmethod
    def of(cls, model: Model) -> 'Sources | None':
        """Find them; None without predictions or annotations."""
        if model.predictions is None or model.config is None:
            return None
        evaluators = model.config.get('test_evaluator') or []
        if isinstance(evaluators, dict):
            evaluators = [evaluators]
        named = [each['ann_file'] for each in evaluators if each.get('ann_file')]
        file = locate(named[0], model.predictions) if named else None
        if file is None:
            return None
        dataset = model.config.test_dataloader.dataset
        folder = Path(dataset.get('data_root') or '', dataset.data_prefix.img)
        classes = dataset.get('metainfo', {}).get('classes')
        return cls(
            model.predictions,
            file.resolve(),
            (locate(str(folder), model.predictions) or folder).resolve(),
            tuple(classes) if classes else None,
        )

    def measure(self) -> coco.Quality:
        """Evaluate the predictions; it can run in a process of its own."""
        truth = coco.read_coco(self.annotations, self.images)
        found = coco.read_predictions(self.predictions, truth)
        return coco.measure(truth, found, coco.category_ids(truth, self.classes))


def judge(
    model: Model,
    series: int,
    sources: Sources,
    measured: Future[coco.Quality],
) -> Judged:
    """Put a model, its predictions and their quality together.

    Args:
        model: The model.
        series: Its colour.
        sources: Its files.
        measured: What ``sources.measure`` returns in another process.

    Raises:
        ValueError: A file is damaged.
    """
    truth = coco.read_coco(sources.annotations, sources.images)
    found: dict[int, list[dict]] = {image: [] for image in truth.getImgIds()}
    for each in coco.read_predictions(sources.predictions, truth):
        found[each['image_id']].append(each)
    quality = measured.result()  # now: an error in the files has been raised here
    return Judged(
        model,
        series,
        truth,
        coco.category_ids(truth, sources.classes),
        sources.images,
        found,
        quality,
        quality.matches.best_threshold(),
    )


def by_class(judged: list[Judged]) -> list[dict[str, Any]]:
    """Return the charts of AP by class and by size, with the numbers."""
    groups: dict[str, list[tuple[str, dict[str, float]]]] = {'class': [], 'size': []}
    for each in judged:
        groups['class'].append((each.model.title, each.quality.by_class))
        groups['size'].append((each.model.title, each.quality.by_size))
    shown = []
    for kind, values in groups.items():
        rows = list(dict.fromkeys(name for _, each in values for name in each))
        if not rows:
            continue
        svg = charts.dots(
            f'mask AP by {kind}',
            [f'{row} ({coco.SIZES[row]})' if kind == 'size' else row for row in rows],
            [[each.get(row) for row in rows] for _, each in values],
            [each.series for each in judged],
            'mask AP',
        )
        numbers = [
            (row, [f'{each[row]:.1f}' if row in each else '' for _, each in values])
            for row in rows
        ]
        shown.append(
            dict(kind=kind, svg=svg, names=[n for n, _ in values], numbers=numbers)
        )
    return shown


def disagreement(judged: list[Judged], images: Images) -> dict[str, Any] | None:
    """Return the images that the last teacher and the last student see differently."""
    teachers = [each for each in judged if each.model.is_teacher]
    students = [each for each in judged if not each.model.is_teacher]
    if not (teachers and students and teachers[-1].truth is students[-1].truth):
        return None
    teacher, student = teachers[-1], students[-1]
    seen = coco.as_truth(
        teacher.truth,
        [each for found in teacher.found.values() for each in found],
        teacher.threshold,
    )
    guesses = [
        each
        for found in student.found.values()
        for each in found
        if each['score'] >= student.threshold
    ]
    counts = coco.match(seen, guesses, student.categories).by_image(0)
    cards = []
    order = sorted(counts, key=lambda i: (_f1(counts[i]), -sum(counts[i])))
    for image in order[:DISAGREE]:
        objects, both, more = counts[image]
        if objects + more == both:
            continue  # they agree, or nobody sees anything
        panels = [
            ('labels', teacher.labels(image, images)),
            (teacher.model.title, teacher.drawn(image, images)),
            (student.model.title, student.drawn(image, images)),
        ]
        text = f'both {both}, teacher alone {objects - both}, student alone {more}'
        cards += _card(text, panels, teacher.truth.imgs[image]['file_name'])
    return dict(
        teacher=teacher.model.title,
        student=student.model.title,
        classes=student.classes,
        cards=cards,
    )


def gallery(each: Judged, images: Images) -> dict[str, Any]:
    """Return the images that a model predicts best and worst, by F1."""
    counts = each.quality.matches.by_image(each.threshold)
    # Of equally good images the one with more objects tells more.
    full = sorted(
        (image for image in counts if counts[image][0]),
        key=lambda i: (_f1(counts[i]), counts[i][1] - counts[i][2]),
    )
    worst = sorted(full, key=lambda i: (_f1(counts[i]), -counts[i][0]))[:BEST]
    best = [image for image in full[::-1] if image not in worst][:BEST]
    groups = []
    for name, chosen in (('Best', best), ('Worst', worst)):
        cards = []
        for image in chosen:
            objects, right, wrong = counts[image]
            panels = [
                ('labels', each.labels(image, images)),
                ('predicted', each.drawn(image, images)),
            ]
            text = f'{right} of {objects} found, {wrong} wrong'
            cards += _card(text, panels, each.truth.imgs[image]['file_name'])
        groups.append(dict(name=name, cards=cards))
    return dict(
        name=each.model.title,
        series=each.series,
        classes=each.classes,
        threshold=f'{each.threshold:.2f}',
        groups=groups,
    )


def _card(text: str, panels: list, name: str) -> list[dict[str, Any]]:
    """Return a card, none if its image is missing."""
    if any(svg is None for _, svg in panels):
        return []
    return [dict(text=text, name=Path(name).name, panels=panels)]


def _f1(counts: tuple[int, int, int]) -> float:
    objects, found, wrong = counts
    return 2 * found / max(objects + found + wrong, 1)
