"""The part of the report about a teacher's pseudo-labels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from mmengine.config import Config
from pycocotools.coco import COCO

from mmcast.datasets.splits import read_list

from . import charts, coco
from .data import Labels, locate
from .pictures import Images, Instance

GALLERY = 24  # images
THRESHOLDS = np.round(np.arange(0, 1.0001, 0.01), 2)
BINS = 20


def show(labels: Labels, images: Images) -> dict[str, Any]:
    """Return charts, the values for the slider, and the gallery of a store.

    Args:
        labels: The store; without a config there are neither annotations nor images.
        images: The page's images; the gallery's are added.
    """
    store = labels.store
    used, folder, truth, labeled = _sources(labels)
    counts = np.zeros((len(store.classes), len(THRESHOLDS)), int)
    histogram = np.zeros(BINS, int)
    edges = np.linspace(0, 1, BINS + 1)
    places: dict[str, int] = {}
    categories: list[int] = []
    if truth:
        categories = [i for name in store.classes for i in truth.getCatIds([name])]
    if truth and len(categories) == len(store.classes):  # else: nothing to compare
        places = {each['file_name']: each['id'] for each in truth.dataset['images']}
    entries = []
    known: list[int] = []
    results: list[dict] = []
    for name, entry in store.entries():
        entries.append(name)
        for label in np.unique(entry.labels):
            of_class = np.sort(entry.scores[entry.labels == label])
            counts[label] += len(of_class) - np.searchsorted(of_class, THRESHOLDS)
        histogram += np.histogram(entry.scores, edges)[0]
        image = places.get(name)
        # An image without annotations may be one that nobody has labelled.
        if image is not None and truth and truth.getAnnIds(image):
            known.append(image)
            results += coco.as_results(entry, image, categories)
    threshold = used if used is not None else max(store.min_score, 0.3)
    place = int(np.argmin(abs(THRESHOLDS - threshold)))
    shown: list[dict[str, Any]] = [
        dict(
            title='Scores',
            svg=charts.bars(f'{labels.name}: scores', edges, histogram, used),
        )
    ]
    curve = None
    true_counts = None
    if known:
        assert truth
        matches = coco.match(truth, results, categories, known)
        _, precision, recall = matches.curve(THRESHOLDS)
        curve = (precision, recall)
        shown.append(
            dict(
                title='Right labels, over the threshold',
                svg=charts.over_threshold(
                    f'{labels.name}: precision and recall', THRESHOLDS, curve, used
                ),
                keys=['precision', 'recall'],
            )
        )
        true_counts = _per_image(truth, known, categories)
    rows = [('pseudo-labels', counts[:, place] / max(len(entries), 1))]
    if labeled and truth and places:
        ids = [places[name] for name in labeled if name in places]
        rows.append(('labels', _per_image(truth, ids, categories)))
    if true_counts is not None:
        if len(known) < len(entries):
            kept = [
                each['category_id']
                for each in results
                if each['score'] >= THRESHOLDS[place]
            ]
            of_known = np.array([kept.count(c) for c in categories]) / len(known)
            rows.append(('pseudo-labels of annotated images', of_known))
        rows.append(('truth of the same images', true_counts))
    shown.append(
        dict(
            title='Instances of each class in an image',
            svg=charts.paired_bars(
                f'{labels.name}: instances of each class',
                store.classes,
                [values for _, values in rows],
                f'per image; pseudo-labels at a score of {threshold:.2f}',
            ),
            keys=[name for name, _ in rows],
        )
    )
    return dict(
        name=labels.name,
        teacher=store.teacher.checkpoint,
        images=len(entries),
        known=len(known),
        used=used,
        start=f'{THRESHOLDS[place]:.2f}',
        least=f'{np.floor(store.min_score * 100) / 100:.2f}',
        charts=shown,
        # The page's script needs the counts at each of the slider's places.
        numbers=_script(
            dict(
                instances=counts.sum(0).tolist(),
                precision=_shares(curve[0]) if curve else None,
                recall=_shares(curve[1]) if curve else None,
            )
        ),
        classes=store.classes,
        cards=_cards(labels, entries, folder, images) if folder else [],
    )


def _sources(
    labels: Labels,
) -> tuple[float | None, Path | None, COCO | None, list[str] | None]:
    """Return a training's threshold, image folder, annotations and labelled list."""
    config: Config | None = labels.config
    if config is None:
        return None, None, None, None
    dataset = config.train_dataloader.dataset
    near = labels.store.root
    used = (dataset.get('pseudo_labels') or {}).get('score_thr')
    unlabeled = dataset.unlabeled_dataset
    folder = Path(unlabeled.get('data_root') or '', unlabeled.data_prefix.img)
    labeled = dataset.labeled_dataset
    while 'ann_file' not in labeled:  # RepeatDataset and other wrappers
        labeled = labeled.get('dataset') or labeled.datasets[0]
    root = labeled.get('data_root') or ''
    prefix = (labeled.get('data_prefix') or {}).get('img')
    own = locate(str(Path(root, prefix)), near) if prefix else None
    file = locate(str(Path(root, labeled.ann_file)), near)
    names = labeled.get('image_list') and locate(
        str(Path(root, labeled.image_list)), near
    )
    truth = coco.read_coco(file.resolve(), own) if file else None
    return used, locate(str(folder), near), truth, read_list(names) if names else None


def _per_image(truth: COCO, images: list[int], categories: list[int]) -> np.ndarray:
    """Return how many objects of each class an image has on average."""
    found = truth.loadAnns(truth.getAnnIds(images, iscrowd=False)) if images else []
    counts = [sum(each['category_id'] == c for each in found) for c in categories]
    return np.array(counts) / max(len(images), 1)


def _cards(
    labels: Labels, entries: list[str], folder: Path, images: Images
) -> list[dict[str, Any]]:
    """Return some images with all their instances; the slider hides them."""
    store = labels.store
    cards = []
    chosen = np.linspace(0, len(entries) - 1, min(GALLERY, len(entries))).astype(int)
    for name in (entries[i] for i in chosen):
        entry = store.read(name)
        shapes = [
            Instance(int(label), store.classes[label], float(score), mask)
            for label, score, mask in zip(
                entry.labels, entry.scores, entry.masks, strict=True
            )
        ]
        svg = images.draw(folder / name, shapes, f'pseudo-labels of {Path(name).name}')
        if svg is not None:
            cards.append(dict(name=Path(name).name, svg=svg))
    return cards


def _shares(values: np.ndarray) -> list[float | None]:
    return [round(float(v), 4) if np.isfinite(v) else None for v in values]


def _script(values: dict[str, Any]) -> Markup:
    """Return values as JSON that can stand in a page."""
    return Markup(json.dumps(values, separators=(',', ':')).replace('<', '\\u003c'))
