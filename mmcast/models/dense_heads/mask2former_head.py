"""mmdet's Mask2Former head for any pixel decoder, with losses by slice."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn


@MODELS.register_module()
class SlicedMask2FormerHead(Mask2FormerHead):
    """Mask2Former head that takes its losses on slices of a batch.

    One forward pass serves labelled and unlabelled images; each slice then has
    its own matching and its own normaliser.

    Mask and dice losses are divided by the number of annotated masks in the slice,
    averaged over the devices, at least 1: as published (Mask2Former, arXiv 2112.01527).
    mmdet counts each image without a mask as one mask more.

    Args:
        in_channels: Channels of the backbone's (or neck's) maps.
        feat_channels: Width of the pixel decoder's levels.
        out_channels: Width of the mask features.
        pixel_decoder: Config of a module that maps the backbone's maps to
            ``(mask_features, levels)``, levels coarsest first.
        num_transformer_feat_level: Number of levels the masked decoder uses.
        kwargs: As mmdet's ``Mask2FormerHead``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        feat_channels: int,
        out_channels: int,
        pixel_decoder: ConfigDict,
        num_transformer_feat_level: int = 3,
        **kwargs,
    ) -> None:
        # The parent requires a deformable encoder in the pixel decoder's config; a
        # stand-in satisfies it until the real decoder replaces it.
        levels = dict(num_levels=num_transformer_feat_level)
        super().__init__(
            in_channels=in_channels,
            feat_channels=feat_channels,
            out_channels=out_channels,
            num_transformer_feat_level=num_transformer_feat_level,
            pixel_decoder=ConfigDict(
                type=nn.Identity,
                encoder=dict(layer_cfg=dict(self_attn_cfg=levels)),
            ),
            **kwargs,
        )
        self.pixel_decoder = MODELS.build(
            {
                **pixel_decoder,
                'in_channels': in_channels,
                'feat_channels': feat_channels,
                'out_channels': out_channels,
            }
        )

    def loss_on(
        self,
        part: slice,
        cls_preds: Sequence[Tensor],
        mask_preds: Sequence[Tensor],
        samples: SampleList,
    ) -> dict[str, Tensor]:
        """Compute the losses of all decoder outputs on a slice of the batch.

        Args:
            part: The images of the batch that ``samples`` describe.
            cls_preds: Class logits of each decoder output, (B, K, C + 1).
            mask_preds: Mask logits of each decoder output, (B, K, h, w).
            samples: Ground truth or pseudo-labels of the slice, masks padded to
                the batch's size.

        Returns:
            mmdet's named Mask2Former losses.
        """
        return self.loss_by_feat(
            [pred[part] for pred in cls_preds],
            [pred[part] for pred in mask_preds],
            [self._target(sample.gt_instances) for sample in samples],
            [sample.metainfo for sample in samples],
        )

    def get_targets(
        self,
        cls_scores_list: list[Tensor],
        mask_preds_list: list[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        return_sampling_results: bool = False,
    ) -> tuple[Any, ...]:
        """Return mmdet's targets of one decoder layer, with a corrected mask count."""
        labels, label_weights, masks, mask_weights, _, *rest = super().get_targets(
            cls_scores_list,
            mask_preds_list,
            batch_gt_instances,
            batch_img_metas,
            return_sampling_results,
        )
        count = sum(len(instances) for instances in batch_gt_instances)
        return labels, label_weights, masks, mask_weights, count, *rest

    @staticmethod
    def _target(instances: InstanceData) -> InstanceData:
        masks = instances.masks
        if not isinstance(masks, Tensor):  # mmdet's BitmapMasks or PolygonMasks
            masks = masks.to_tensor(torch.bool, instances.labels.device)
        return InstanceData(labels=instances.labels, masks=masks.long())
