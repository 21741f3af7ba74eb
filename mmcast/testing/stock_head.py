"""mmdet's own Mask2Former on the weights of a model of this package."""

import copy
from typing import Any

import torch.nn.functional as F
from mmdet.models import MaskFormerFusionHead
from mmdet.models.dense_heads import Mask2FormerHead
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmcast.models.dense_heads import SlicedMask2FormerHead


class StockHead(Mask2FormerHead):
    """mmdet's head on the modules of another, to compare results, time and memory.

    It differs from mmdet's in the number of masks that it divides by, which
    :class:`SlicedMask2FormerHead` corrects.

    Args:
        head: The other head. Both share its parameters.
    """

    def __init__(self, head: SlicedMask2FormerHead) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(head.__dict__)
        self._modules = dict(head._modules)
        if getattr(head.pixel_decoder, 'mask_scale', 1) > 1:
            self.pixel_decoder = _Upsampled(head.pixel_decoder)

    def losses(self, parts: Any, classes: Any, masks: Any) -> list[dict[str, Tensor]]:
        """Compute the losses of each slice of a batch, with masks as int64."""
        return [
            self.loss_by_feat(
                [each[part] for each in classes],
                [each[part] for each in masks],
                [_int_masks(sample.gt_instances) for sample in samples],
                [sample.metainfo for sample in samples],
            )
            for part, samples in parts
        ]

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return mmdet's targets with the number of annotated masks."""
        labels, weights, masks, mask_weights, _, *rest = super().get_targets(
            *args, **kwargs
        )
        count = sum(len(each) for each in args[2])
        return labels, weights, masks, mask_weights, count, *rest


class _Upsampled(nn.Module):
    """A pixel decoder that also does the last upsampling of its mask features."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, features: Any) -> tuple[Tensor, list[Tensor]]:
        maps, levels = self.decoder(features)
        size = [self.decoder.mask_scale * side for side in maps.shape[2:]]
        return F.interpolate(maps, size, mode='bilinear', align_corners=True), levels


def stock_model(model: Any) -> Any:
    """Return a copy of a ``PixelContrastMask2Former`` with mmdet's head and fusion.

    Args:
        model: The model; both share its parameters.
    """
    stock = copy.copy(model)
    stock._modules = dict(model._modules)
    stock.panoptic_head = StockHead(model.panoptic_head)
    fusion = model.panoptic_fusion_head
    stock.panoptic_fusion_head = MaskFormerFusionHead(
        num_things_classes=fusion.num_things_classes,
        num_stuff_classes=fusion.num_stuff_classes,
        test_cfg=fusion.test_cfg,
    )
    stock.predict = lambda *args, **kwargs: super(type(model), stock).predict(
        *args, **kwargs
    )
    return stock


def _int_masks(instances: InstanceData) -> InstanceData:
    masks = instances.masks
    if not isinstance(masks, Tensor):
        masks = masks.to_tensor(bool, instances.labels.device)
    return InstanceData(labels=instances.labels, masks=masks.long())
