"""Count the labels of a store."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmcast.datasets.pseudo_label_store import PseudoLabelStore
from mmcast.datasets.store_coco import COCO_JSON
from mmcast.datasets.transforms.loading import LoadPseudoAnnotations

_BINS = 1000


@dataclass(frozen=True)
class LabelSummary:
    """A summary of a store's labels for a list of images, old and new together.

    Attributes:
        images: Number of images.
        labeled_now: How many of them this call labelled.
        stored: Number of instances in the store.
        score_quantiles: Their scores at 0, 25, 50, 75 and 100 %, to 0.001; empty if
            there is no instance.
        condition: What training asks of an instance, as ``'a score above 0.3'``.
        used_per_class: Class name to number of these.
        without_used: Number of images without any of these.
        full: Number of images that have as many of these as the store keeps of an
            image, so maybe others that it does not keep. 0 if it kept all.
        most: How many that is.
    """

    images: int
    labeled_now: int
    stored: int
    score_quantiles: tuple[float, ...]
    condition: str
    used_per_class: dict[str, int]
    without_used: int
    full: int = 0
    most: int = 0

    @property
    def used(self) -> int:
        """Number of instances that training uses."""
        return sum(self.used_per_class.values())

    def __str__(self) -> str:
        classes = ', '.join(
            f'{name} {count}' for name, count in self.used_per_class.items()
        )
        scores = ' '.join(f'{score:.3f}' for score in self.score_quantiles)
        return (
            f'Pseudo-labels of {self.images} images ({self.labeled_now} labelled now): '
            f'{self.used} instances have {self.condition}, which '
            f'training uses ({classes}); {self.without_used} images have none of '
            f'these. Stored are {self.stored} instances, with scores at '
            f'0/25/50/75/100 %: {scores or "none"}.'
            + f' {self.full} images have {self.most} of these, the most that are kept: '
            'label with a higher max_instances, and let the teacher find more '
            '(max_per_img)' * bool(self.full)
        )


def summarise(
    store: PseudoLabelStore,
    names: Sequence[str],
    labeled_now: int = 0,
    *,
    rule: LoadPseudoAnnotations | None = None,
) -> LabelSummary:
    """Summarise the labels; read and check each entry once, one at a time.

    Args:
        store: The store.
        names: The images.
        labeled_now: How many of them this call labelled.
        rule: The training's rule for the labels to use; None for all that have a score.
    """
    rule = rule or LoadPseudoAnnotations(score_thr=0.0)
    counts: Counter[int] = Counter()
    histogram = np.zeros(_BINS + 1, np.int64)
    without_used = full = 0
    for name in names:
        entry = store.read(name)
        np.add.at(histogram, np.rint(entry.scores * _BINS).astype(int), 1)
        used = entry.labels[rule.wanted(entry, store.path(name))]
        counts.update(used.tolist())
        without_used += not len(used)
        full += len(used) == store.max_instances
    total = histogram.sum()
    quantiles: tuple[float, ...] = ()
    if total:
        # The smallest score that at least this many instances do not exceed.
        ranks = np.ceil(np.array([0, 0.25, 0.5, 0.75, 1]) * total).clip(1)
        places = np.searchsorted(np.cumsum(histogram), ranks)
        quantiles = tuple(float(place) / _BINS for place in places)
    return LabelSummary(
        images=len(names),
        labeled_now=labeled_now,
        stored=int(total),
        score_quantiles=quantiles,
        condition=rule.condition,
        used_per_class={
            name: counts[label] for label, name in enumerate(store.classes)
        },
        without_used=without_used,
        # Labels that came in were not cut: the fullest image has the most.
        full=full if store.teacher.config != COCO_JSON else 0,
        most=store.max_instances,
    )
