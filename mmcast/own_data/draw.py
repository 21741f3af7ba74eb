"""Draw labelled, unlabelled and validation images from those that were found."""

from dataclasses import dataclass

from mmcast.datasets.splits import draw_order

from .inspection import Inspection


@dataclass(frozen=True)
class Split:
    """Image names by use.

    Attributes:
        labeled: Images that are learnt with their labels.
        unlabeled: Images that are learnt without.
        validation: Images that validate; none if there are others.
        versions: Number of images left out, as versions of one that validates.
    """

    labeled: list[str]
    unlabeled: list[str]
    validation: list[str]
    versions: int = 0


def draw(
    found: Inspection,
    leave_out: set[str],
    fraction: float | None,
    seed: int,
    with_validation: bool,
) -> Split:
    """Draw the lists; an image that validates is on no list.

    Of each class one image does not validate, so that it can be labelled. Of versions
    of an image that Roboflow augmented only one validates, and the others are left out.

    Raises:
        ValueError: Too few images are annotated, or all are; or ``fraction`` is small.
    """
    annotated = {n: c for n, c in found.annotated.items() if n not in leave_out}
    if not annotated:
        raise ValueError(
            'all annotated images are validation images, too: give --val other '
            'images, or leave it out'
        )
    validation: list[str] = []
    if with_validation:
        order, _ = draw_order(list(annotated), f'{seed}:val')
        last = {shown: name for name in order for shown in annotated[name]}
        kept = {_original(name) for name in last.values()}
        first: dict[str, str] = {}
        for name in order:
            first.setdefault(_original(name), name)
        free = [name for each, name in first.items() if each not in kept]
        validation = sorted(free[: round(len(first) / 5)])
    taken = {_original(name) for name in validation}
    rest = {n: shown for n, shown in annotated.items() if _original(n) not in taken}
    unannotated = [name for name in found.others if name not in leave_out]
    others = [name for name in unannotated if _original(name) not in taken]
    order, at_least = draw_order(list(rest), seed, 1, rest)
    count = len(order)
    if fraction is not None:
        count = round(fraction * len(order))
        if count < at_least:
            raise ValueError(
                f'--fraction {fraction:g} is {count} images, and {at_least} are '
                'needed to show every class: give a larger one'
            )
    split = Split(
        labeled=sorted(order[:count]),
        unlabeled=sorted(order[count:] + others),
        validation=validation,
        versions=len({*annotated, *unannotated} - {*rest, *others, *validation}),
    )
    if with_validation and not validation:
        raise ValueError('too few annotated images for a validation set: give --val')
    if not split.unlabeled:
        raise ValueError(
            'every image is annotated, so none is unlabelled: put images without '
            'annotations into the folder, or give --fraction 0.1 to keep a tenth of '
            'the labels'
        )
    return split


def _original(name: str) -> str:
    """Return what Roboflow's versions of an image, ``NAME.rf.HASH.jpg``, share."""
    return name.partition('.rf.')[0]
