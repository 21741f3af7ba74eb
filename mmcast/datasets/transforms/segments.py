"""Masks of semantic labels."""

from typing import Any

from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from .depth import IGNORED, PackDepthInputs


@TRANSFORMS.register_module()
class PackSegments(PackDepthInputs):
    """Pack a label map as one mask per class, to train a Mask2Former on semantics.

    Such a mask is everything that an image has of a class (MaskFormer, arXiv
    2107.06278). It says nothing of instances.

    It packs ``gt_instances``: ``labels`` (int64, n), ascending, and ``masks``
    (BitmapMasks, n x H x W). Pixels with the label 255 are in no mask.

    Args:
        kwargs: As :class:`PackDepthInputs`.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack the sample.

        Raises:
            ValueError: There is no label map, or a label is not in the table.
        """
        if results.get('gt_seg_map') is None:
            raise ValueError(
                f'{results.get("img_path")} has no label map: put LoadLabelMap before '
                'PackSegments'
            )
        packed = super().transform(results)
        sample = packed['data_samples']
        labels = sample.gt_sem_seg.sem_seg[0]
        del sample.gt_sem_seg
        classes = labels.unique()
        classes = classes[classes != IGNORED]
        masks = (labels == classes[:, None, None]).byte().numpy()
        sample.gt_instances = InstanceData(
            labels=classes, masks=BitmapMasks(masks, *labels.shape)
        )
        return packed
