"""Load a depth map next to the labels, and pack both.

mmdet's transforms move ``gt_seg_map`` with the image and know no depth. So
:class:`LoadDepth` makes depth its second channel, and :class:`PackDepthInputs` takes
the two apart. Resizing takes the nearest pixel, which is right for both. Padding fills
both with 255; depth is stored negative, so a positive value is padding.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, RandomCrop
from mmdet.registry import TRANSFORMS
from mmengine.structures import PixelData

from mmcast.datasets.depth_files import (
    CameraFile,
    FloatMap,
    disparity_to_depth,
    read_png,
)

IGNORED = 255


@TRANSFORMS.register_module()
class LoadLabelMap(LoadAnnotations):
    """mmdet's ``LoadAnnotations`` for a label map alone, with errors that name it.

    Args:
        kwargs: As mmdet's ``LoadAnnotations``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(with_bbox=False, with_label=False, with_seg=True, **kwargs)

    def _load_seg_map(self, results: dict[str, Any]) -> None:
        """Load the map.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no image, or has several channels.
        """
        path = results.get('seg_map_path')  # None for an image to predict
        try:
            super()._load_seg_map(results)
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{path} is missing: put the label map there'
            ) from None
        # What mmcv makes of a damaged image is an attribute of None.
        except (OSError, cv2.error, AttributeError) as error:
            raise ValueError(f'{path} is no image: write it again') from error
        if path is not None and results['gt_seg_map'].ndim != 2:
            raise ValueError(
                f'{path} has colours, as a palette does when it is loaded: give a '
                'label map of one channel'
            )


@TRANSFORMS.register_module()
class LoadDepth(BaseTransform):
    """Load a depth map as the second channel of ``gt_seg_map``.

    Put it after ``LoadLabelMap``. A sample without ``depth_path`` (an image to predict)
    passes unchanged.

    Required keys: ``img_path``, ``ori_shape``; ``depth_path``, ``camera_path`` and
    ``gt_seg_map`` (H x W) as :class:`DepthSegDataset` gives them.

    Added keys: ``has_labels``, whether there were labels.

    Modified keys: ``gt_seg_map``, float32 (H, W, 2): label (255 if there is none) and
    metres with a minus sign (0 for no measurement).

    Args:
        disparity: Whether the file is Cityscapes' disparity, which needs the camera
            file. Otherwise its values times ``scale`` are metres.
        scale: Metres of one step: 1e-3 for millimetres.
        invalid_labels: Labels whose depth does not count, as Cityscapes' ego vehicle.
        allow_empty: Whether a file without any measurement is allowed.
        preset: ``'research_code'`` for the depth that SwinMTL's code trains on and
            evaluates against, see :func:`research_code_depth`.
    """

    def __init__(
        self,
        disparity: bool = False,
        scale: float = 1.0,
        invalid_labels: Sequence[int] = (),
        allow_empty: bool = False,
        preset: str = 'default',
    ) -> None:
        if scale <= 0:
            raise ValueError(f'scale is {scale}: give the metres of one step')
        if preset not in ('default', 'research_code'):
            raise ValueError(
                f"preset is {preset!r}: choose 'default' or 'research_code'"
            )
        self.disparity = disparity
        self.scale = scale
        self.invalid_labels = tuple(invalid_labels)
        self.allow_empty = allow_empty
        self.preset = preset

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the channel.

        Raises:
            FileNotFoundError: The depth or the camera file is missing.
            ValueError: A file is damaged, of another size than the image, or has no
                measurement at all.
        """
        if 'depth_path' not in results:
            return results
        path, shape = results['depth_path'], tuple(results['ori_shape'][:2])
        coded = read_png(path)
        if coded.shape != shape:
            raise ValueError(
                f'{path} is {coded.shape[0]}x{coded.shape[1]} pixels, its image '
                f'{results["img_path"]} {shape[0]}x{shape[1]}: give a depth map of the '
                "image's size"
            )
        if self.disparity:
            if 'camera_path' not in results:
                raise ValueError(
                    f'{path} is a disparity, which needs a camera file: set '
                    'data_prefix.camera_path of the data set'
                )
            camera = CameraFile.read(results['camera_path'])
            depth = disparity_to_depth(coded, camera)
        else:
            depth = coded.astype(np.float32) * np.float32(self.scale)
        labels = results.get('gt_seg_map')
        results['has_labels'] = labels is not None
        if labels is None:
            labels = np.full(shape, IGNORED, np.uint8)
        if labels.shape != shape:
            raise ValueError(
                f'{results["seg_map_path"]} has the shape {labels.shape}, its image '
                f'{results["img_path"]} {shape}: give a label map of one channel and '
                "of the image's size"
            )
        if self.invalid_labels:
            depth[np.isin(labels, self.invalid_labels)] = 0
        if not self.allow_empty and not depth.any():
            raise ValueError(
                f'{path} has no measurement at all: check the file, leave the image '
                'out of ann_file, or set allow_empty=True of LoadDepth'
            )
        if self.preset == 'research_code':
            depth = research_code_depth(depth)
        results['gt_seg_map'] = np.stack([labels.astype(np.float32), -depth], axis=-1)
        return results


def research_code_depth(depth: FloatMap) -> FloatMap:
    """Return the depth that SwinMTL's research code uses for a depth in metres.

    It clips to (1e-4, 80), takes the position of ln d between ln 1e-4 and ln 80, and
    decodes it between ln 1e-3 and ln 80. So 1 becomes 2.1, 10 becomes 14.2, and 80
    stays a little below 80, so that it counts. Its depth maps have no holes; here 0
    stays 0, no measurement.
    """
    code = np.log(np.clip(depth, 1e-4, 80) / 1e-4) / np.log(80 / 1e-4)
    warped = (1e-3 * (80 / 1e-3) ** code).astype(np.float32)
    below = np.nextafter(np.float32(80), np.float32(0))
    return np.where(depth > 0, np.minimum(warped, below), 0).astype(np.float32)


@TRANSFORMS.register_module()
class PackDepthInputs(PackDetInputs):
    """mmdet's ``PackDetInputs`` for labels and depth.

    It packs ``gt_sem_seg`` (``sem_seg``, int64 (1, H, W), 255 is ignored) and
    ``gt_depth`` (``depth``, float32 (1, H, W), metres, 0 is no measurement), each if it
    was loaded.

    Args:
        label_table: Classes of the labels: ``'cityscapes'`` for the 19 train ids of
            labelIds, ``'cityscapes_research_code'`` for the 20 classes of SwinMTL's
            code (:func:`research_code_table`), or the class of label 0, 1, ...; the
            number of classes if labels are classes already. 255 always stays. None
            takes labels unchecked.
        meta_keys: As in ``PackDetInputs``.
    """

    def __init__(
        self,
        label_table: str | int | Sequence[int] | None = None,
        meta_keys: Sequence[str] = (
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'flip',
            'flip_direction',
        ),
    ) -> None:
        super().__init__(meta_keys=meta_keys)
        if label_table == 'cityscapes':
            label_table = [x.trainId for x in cityscapes_labels if x.id >= 0]
        elif label_table == 'cityscapes_research_code':
            label_table = research_code_table()
        elif isinstance(label_table, int):
            label_table = range(label_table)
        elif isinstance(label_table, str):
            raise ValueError(
                f"label_table is {label_table!r}: choose 'cityscapes', "
                "'cityscapes_research_code', or give a list"
            )
        self.table: npt.NDArray[np.int64] | None = None
        if label_table is not None:
            self.table = np.full(256, -1, np.int64)
            self.table[: len(label_table)] = list(label_table)
            self.table[IGNORED] = IGNORED

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack the sample.

        Raises:
            ValueError: A label is not in the table.
        """
        joined = results.get('gt_seg_map')
        if joined is None:
            return super().transform(results)
        depth = None
        labels = joined
        if joined.ndim == 3:
            labels, depth = joined[..., 0], np.maximum(-joined[..., 1], 0)
        labels = labels.astype(np.int64)
        if self.table is not None:
            found = labels
            labels = self.table[found.clip(0, IGNORED)]
            labels[found > IGNORED] = -1
            if labels.min() < 0:
                wrong = found[labels < 0].min()
                count = (self.table >= 0).sum() - 1
                raise ValueError(
                    f'{results["img_path"]} has the label {wrong}, but the label table '
                    f'has 0 to {count - 1} and 255: give the label files that belong '
                    'to label_table of PackDepthInputs'
                )
        packed = super().transform({**results, 'gt_seg_map': labels})
        if depth is not None:
            data = torch.from_numpy(depth)[None]
            packed['data_samples'].gt_depth = PixelData(depth=data)
            if not results['has_labels']:
                del packed['data_samples'].gt_sem_seg
        return packed


def research_code_table() -> list[int]:
    """Return the classes that SwinMTL's research code gives Cityscapes' labelIds.

    Its code renames ids in place, one after the other. Ids without a class become 19,
    void. Then id 19, traffic light, becomes 6, and with it the 13 void ids that came
    before. Only 29 and 30 remain void.
    """
    table = [x.trainId for x in cityscapes_labels if x.id >= 0]
    return [
        6 if train_id == IGNORED and index < 19 else min(train_id, 19)
        for index, train_id in enumerate(table)
    ]


@TRANSFORMS.register_module()
class ExactRandomCrop(RandomCrop):
    """mmdet's ``RandomCrop`` that refuses images smaller than the crop.

    Args:
        crop_size: Width and height in pixels.
    """

    def __init__(self, crop_size: Sequence[int]) -> None:
        super().__init__(crop_size=tuple(crop_size), allow_negative_crop=True)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop image, labels and depth.

        Raises:
            ValueError: The image is smaller than the crop, or of another size than its
                labels and depth.
        """
        height, width = results['img'].shape[:2]
        truth = results.get('gt_seg_map')
        if truth is not None and truth.shape[:2] != (height, width):
            raise ValueError(
                f'{results["img_path"]} is {height}x{width} pixels when it is cropped, '
                f'its truth {truth.shape[0]}x{truth.shape[1]}: put Resize after '
                'LoadAnnotations and LoadDepth'
            )
        if width < self.crop_size[0] or height < self.crop_size[1]:
            raise ValueError(
                f'{results["img_path"]} is {height}x{width} pixels, smaller than the '
                f'crop of {self.crop_size[1]}x{self.crop_size[0]}: reduce crop_size, '
                'or put Resize before the crop'
            )
        return super().transform(results)
