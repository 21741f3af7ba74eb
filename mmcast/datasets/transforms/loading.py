"""Load instances: those of a data set, and pseudo-labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from pycocotools import mask as mask_utils

from mmcast.datasets.coco_masks import why_bad_mask
from mmcast.datasets.pseudo_label_entry import PseudoLabels
from mmcast.datasets.pseudo_label_store import PseudoLabelStore
from mmcast.datasets.windowed_masks import WindowedMasks


@TRANSFORMS.register_module()
class LoadInstances(LoadAnnotations):
    """mmdet's ``LoadAnnotations`` with boxes and masks, faster if a crop follows.

    Masks stay encoded until a crop has chosen those it shows: :class:`WindowedMasks`.

    Args:
        kwargs: As mmdet's ``LoadAnnotations``. With ``poly2mask=False`` masks are
            polygons, as there.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**{'with_bbox': True, 'with_mask': True, **kwargs})

    def _load_masks(self, results: dict[str, Any]) -> None:
        height, width = results['ori_shape']
        stated = results.get('height', height), results.get('width', width)
        if stated != (height, width):
            raise ValueError(
                f'{results.get("img_path")} is {height}x{width} pixels when it is '
                f'loaded, but {stated[0]}x{stated[1]} in its annotations: an image '
                'that is stored rotated (EXIF), or that was resized later? Make its '
                'annotations again for the image as it is now'
            )
        for instance in results.get('instances', []):
            why = why_bad_mask(instance['mask'], height, width)
            if why:
                raise ValueError(
                    f'{results.get("img_path")} is {height}x{width} pixels, but a mask '
                    f'of it {why}: make its annotations again for the image as it is '
                    'now'
                )
        if not self.poly2mask:
            super()._load_masks(results)
            return
        masks = self._process_masks(results)
        rles = [_encoded(mask, height, width) for mask in masks]
        results['gt_masks'] = WindowedMasks(rles, height, width)


def _encoded(mask: Any, height: int, width: int) -> dict[str, Any]:
    """Return polygons, an uncompressed or a compressed RLE as a compressed RLE."""
    if isinstance(mask, list):
        return mask_utils.merge(mask_utils.frPyObjects(mask, height, width))
    if isinstance(mask['counts'], list):
        return mask_utils.frPyObjects(mask, height, width)
    return mask


@TRANSFORMS.register_module()
class LoadPseudoAnnotations(BaseTransform):
    """Load an image's pseudo-labels from a :class:`PseudoLabelStore`.

    It replaces ``LoadAnnotations(with_bbox=True, with_mask=True)``, right after
    ``LoadImageFromFile``, and sets the same keys. The rules are those of CAST's
    pseudo-label generation (arXiv 2505.21904): instances with score > 0.3 are painted
    in descending score, and a later mask loses the pixels that are taken already.

    Required keys: ``img_name`` (path relative to the image root, set by
    ``ImageListDataset``), ``img_shape``.

    Added keys: ``gt_bboxes`` (HorizontalBoxes, float32, n x 4), ``gt_bboxes_labels``
    (int64, n), ``gt_ignore_flags`` (bool, n), ``gt_masks`` (WindowedMasks, which are
    BitmapMasks, n x H x W).

    Args:
        store: Folder of the pseudo-labels; None for the one that ``PseudoLabelHook``
            fills.
        score_thr: Only instances with a higher score are used.
        class_score_thr: Only instances with a higher class score are used; the teacher
            must have given it. None for all.
        mask_quality_thr: As ``class_score_thr``, for the quality of the mask.
        min_area: Masks with fewer pixels are dropped; 1 drops empty ones only.
        remove_overlap: Whether a pixel belongs to the best-scored instance only.
        min_left: A mask is dropped if ``remove_overlap`` leaves a smaller share of its
            pixels. What is left of a second mask of one object is a rim around the
            first, a wrong label. 0 keeps all, as CAST's research code
            does; Mask2Former's panoptic inference has 0.8.
        boxes: ``'masks'`` for the boxes of the remaining masks, ``'stored'`` for the
            boxes that the teacher wrote. A box detector learns better from another
            box detector's boxes.
        skip_empty: Whether to skip an image without any instance; the data set then
            draws another one at random. Otherwise such an image teaches that there is
            nothing. CAST's research code skips them.
        classes: The data set's classes, compared with the store's if given.
    """

    def __init__(
        self,
        store: str | None = None,
        score_thr: float = 0.3,
        class_score_thr: float | None = None,
        mask_quality_thr: float | None = None,
        min_area: int = 1,
        remove_overlap: bool = True,
        min_left: float = 0.0,
        boxes: str = 'masks',
        skip_empty: bool = True,
        classes: Sequence[str] | None = None,
    ) -> None:
        thresholds = dict(
            score_thr=score_thr,
            class_score_thr=class_score_thr,
            mask_quality_thr=mask_quality_thr,
        )
        for key, value in thresholds.items():
            if value is not None and not 0 <= value < 1:
                raise ValueError(f'{key} is {value}: give a number in [0, 1).')
        if min_area < 1:
            raise ValueError(f'min_area is {min_area}: give at least 1 pixel.')
        if not 0 <= min_left <= 1:
            raise ValueError(f'min_left is {min_left}: give a number from 0 to 1.')
        if boxes not in ('masks', 'stored'):
            raise ValueError(f"boxes is {boxes!r}: give 'masks' or 'stored'.")
        self.store = store
        self.score_thr = score_thr
        self.class_score_thr = class_score_thr
        self.mask_quality_thr = mask_quality_thr
        self.min_area = min_area
        self.remove_overlap = remove_overlap
        self.min_left = min_left
        self.boxes = boxes
        self.skip_empty = skip_empty
        self.classes = classes
        self._opened: PseudoLabelStore | None = None

    def _open(self) -> PseudoLabelStore:
        # Not in the constructor: PseudoLabelHook makes the store after the data sets.
        if self._opened is None:
            if self.store is None:
                raise ValueError(
                    'LoadPseudoAnnotations has no store: add PseudoLabelHook, or give '
                    'the folder of the pseudo-labels.'
                )
            opened = PseudoLabelStore.open(self.store)
            if self.classes is not None:
                opened.check(classes=self.classes)
            if self.score_thr < opened.min_score:
                raise ValueError(
                    f'score_thr is {self.score_thr}, but {self.store} keeps only '
                    f'scores from {opened.min_score}: raise score_thr.'
                )
            self._opened = opened
        return self._opened

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add the annotations; return None to skip the image.

        Raises:
            FileNotFoundError: There is no store, or no entry of this image.
            ValueError: The entry is damaged, or of an image of another size.
        """
        if 'img_name' not in results:
            raise ValueError(
                'LoadPseudoAnnotations needs `img_name`: use ImageListDataset for the '
                'unlabelled images.'
            )
        name = results['img_name']
        store = self._open()
        entry = store.read(name)
        height, width = results['img_shape'][:2]
        if entry.size != (height, width):
            raise ValueError(
                f'{name} is {height}x{width} pixels, but its pseudo-labels are for '
                f'{entry.size[0]}x{entry.size[1]}: put LoadPseudoAnnotations right '
                'after LoadImageFromFile, or, if the image has changed, delete '
                f'{store.path(name)} and start again.'
            )

        taken: dict[str, Any] | None = None
        masks, kept = [], []
        for i in np.flatnonzero(self.wanted(entry, store.path(name))).tolist():
            rle = entry.masks[i]
            least = float(self.min_area)
            if self.remove_overlap and taken is not None:
                least = max(least, self.min_left * mask_utils.area(rle))
                rle = without(rle, taken)
            if mask_utils.area(rle) < least:
                continue
            taken = rle if taken is None else mask_utils.merge([taken, rle])
            masks.append(rle)
            kept.append(i)
        if self.skip_empty and not kept:
            return None

        results['gt_masks'] = WindowedMasks(masks, height, width)
        boxes = entry.bboxes[kept]
        if self.boxes == 'masks' and masks:
            boxes = np.asarray(mask_utils.toBbox(masks), np.float32)
            boxes[:, 2:] += boxes[:, :2]
        results['gt_bboxes'] = HorizontalBoxes(boxes)
        results['gt_bboxes_labels'] = entry.labels[kept]
        results['gt_ignore_flags'] = np.zeros(len(masks), bool)
        return results

    def wanted(self, entry: PseudoLabels, path: Path) -> np.ndarray:
        """Say of each instance whether its scores and its size suffice.

        Args:
            entry: The labels of an image.
            path: Their file, for errors.

        Returns:
            bool ``(n,)``. Training uses these, but for those that others cover.

        Raises:
            ValueError: The entry lacks a number that has a threshold.
        """
        wanted = entry.scores > self.score_thr
        for key, values, least in (
            ('class_score', entry.class_scores, self.class_score_thr),
            ('mask_quality', entry.mask_qualities, self.mask_quality_thr),
        ):
            if least is None:
                continue
            if values is None:
                raise ValueError(
                    f'{path} has no {key}, but {key}_thr is {least}: remove {key}_thr '
                    'of LoadPseudoAnnotations, or label with a teacher that has both '
                    'numbers.'
                )
            wanted &= values > least
        if self.min_area > 1 and len(entry.masks):
            wanted &= mask_utils.area(entry.masks) >= self.min_area
        return wanted

    @property
    def condition(self) -> str:
        """What :meth:`wanted` asks for, in words."""
        asked = [f'a score above {self.score_thr}']
        for of, least in (
            ('class score', self.class_score_thr),
            ('mask quality', self.mask_quality_thr),
        ):
            asked += [f'a {of} above {least}'] if least is not None else []
        if self.min_area > 1:
            asked.append(f'at least {self.min_area} pixels')
        return ', '.join(asked)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(store={self.store!r}, '
            f'score_thr={self.score_thr}, class_score_thr={self.class_score_thr}, '
            f'mask_quality_thr={self.mask_quality_thr}, min_area={self.min_area}, '
            f'remove_overlap={self.remove_overlap}, min_left={self.min_left}, '
            f'boxes={self.boxes!r}, '
            f'skip_empty={self.skip_empty})'
        )


def without(rle: dict[str, Any], taken: dict[str, Any]) -> dict[str, Any]:
    """Return the pixels of a mask that another one does not have, all as COCO RLE."""
    if not mask_utils.area(mask_utils.merge([rle, taken], intersect=True)):
        return rle
    return mask_utils.encode(mask_utils.decode(rle) & ~mask_utils.decode(taken) & 1)
