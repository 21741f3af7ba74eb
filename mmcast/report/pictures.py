"""Images with instances drawn over them, as SVG: each image is in the page once."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

WIDTH = 480  # of an image in the page, in pixels
QUALITY = 72  # of WebP
LONGEST = 16383  # pixels of a side that WebP allows


@dataclass(frozen=True)
class Instance:
    """An instance to draw.

    Attributes:
        label: Index of its class.
        name: Its class, for people.
        score: Confidence; None for an annotated object.
        mask: Compressed COCO RLE.
    """

    label: int
    name: str
    score: float | None
    mask: Mapping[str, Any]


class Images:
    """The images of a page, by file. Galleries refer to them."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[str, int, int]] = {}
        self._data: dict[str, str] = {}

    def add(self, path: Path) -> tuple[str, int, int] | None:
        """Keep an image; return its id, width and height in the page.

        None if it cannot be read.
        """
        if path not in self._known:
            image = cv2.imread(str(path)) if path.is_file() else None
            if image is None:
                return None
            height, width = image.shape[:2]
            scale = min(1, WIDTH / width, LONGEST / height)
            if scale < 1:
                width, height = (max(round(s * scale), 1) for s in (width, height))
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            name = f'i{len(self._known)}'
            self._known[path] = name, width, height
            self._data[name] = as_uri(image)
        return self._known[path]

    def definitions(self) -> list[tuple[str, int, int, str]]:
        """Return id, width, height and data of each image."""
        return [(name, w, h, self._data[name]) for name, w, h in self._known.values()]

    def draw(
        self, path: Path, instances: Sequence[Instance], title: str
    ) -> Markup | None:
        """Return an image with instances as SVG; None if it cannot be read.

        Args:
            path: The image's file.
            instances: What to draw; the best go on top.
            title: For those who cannot see it.
        """
        known = self.add(path)
        if known is None:
            return None
        name, width, height = known
        order = sorted(instances, key=lambda each: each.score or 0)
        shapes = Markup('').join(_shape(each, (width, height)) for each in order)
        return Markup(
            '<svg class="scene" viewBox="0 0 {w} {h}" role="img" aria-label="{title}">'
            '<use href="#{name}"/>{shapes}</svg>'
        ).format(w=width, h=height, title=title, name=name, shapes=shapes)


def as_uri(image: np.ndarray) -> str:
    """Return a picture, BGR uint8 (H, W, 3), as the text of a URI."""
    written, data = cv2.imencode('.webp', image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    if not written:
        raise RuntimeError('OpenCV could not encode a picture as WebP')
    return 'data:image/webp;base64,' + base64.b64encode(data.tobytes()).decode()


def annotated(truth: COCO, image: int, categories: Sequence[int]) -> list[Instance]:
    """Return the annotated objects of an image, without crowds."""
    found = truth.loadAnns(
        truth.getAnnIds(image, catIds=list(categories), iscrowd=False)
    )
    return instances(
        [dict(each, segmentation=truth.annToRLE(each), score=None) for each in found],
        truth,
        categories,
    )


def instances(
    found: Sequence[Mapping[str, Any]], truth: COCO, categories: Sequence[int]
) -> list[Instance]:
    """Return COCO results as instances."""
    place = {category: label for label, category in enumerate(categories)}
    return [
        Instance(
            place[each['category_id']],
            truth.cats[each['category_id']]['name'],
            each['score'],
            each['segmentation'],
        )
        for each in found
    ]


def _shape(instance: Instance, size: tuple[int, int]) -> Markup:
    """Return an instance's outline as a path, in pixels of the page's image.

    Args:
        instance: The instance.
        size: (width, height) of the page's image.
    """
    mask = mask_utils.decode(instance.mask)
    scale = np.array(size) / mask.shape[::-1]
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    path = ''
    for outline in outlines:
        corners = cv2.approxPolyDP(outline, 0.6 / max(scale.max(), 0.25), True)[:, 0]
        # An outline goes through the centres of the mask's pixels.
        places = np.round((corners + 0.5) * scale, 1)
        path += 'M' + 'L'.join(f'{x:g} {y:g}' for x, y in places) + 'Z'
    score, text = '', instance.name
    if instance.score is not None:
        score = Markup(' data-s="{:.4f}"').format(instance.score)
        text += f' {instance.score:.2f}'
    return Markup('<path class="c{}"{} d="{}"><title>{}</title></path>').format(
        instance.label % 20, score, path, text
    )
