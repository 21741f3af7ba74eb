"""Mask2Former's head for any pixel decoder, with masks that stay factored."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.ops import point_sample
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.models.task_modules import HungarianAssigner
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import reduce_mean
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmcast.models.factored_masks import (
    FactoredMasks,
    as_factored,
    joined,
    read_bool_masks,
)

from .masked_attention import attended, masked_decoder_layer
from .matching import Match, match

Part = tuple[slice, SampleList]


@MODELS.register_module()
class SlicedMask2FormerHead(Mask2FormerHead):
    """mmdet's Mask2Former head: the same results and weights, less time and memory.

    It takes its losses on slices of a batch. One forward pass serves labelled and
    unlabelled images; each slice then has its own normaliser.

    It does not compute the masks of all queries. Attention gets masks from features of
    the level's size, the matching from features at its points, and the losses compute
    the masks of matched queries alone: :class:`FactoredMasks`.

    Mask and dice losses are divided by the number of annotated masks in the slice,
    averaged over the devices, at least 1: as published (Mask2Former, arXiv 2112.01527).
    mmdet counts each image without a mask as one mask more.

    Args:
        in_channels: Channels of the backbone's (or neck's) maps.
        feat_channels: Width of the pixel decoder's levels.
        out_channels: Width of the mask features.
        pixel_decoder: Config of a module that maps the backbone's maps to
            ``(mask_features, levels)``, levels coarsest first. If it has a
            ``mask_scale``, masks have that many times the mask features' height and
            width.
        with_cp: Whether to compute the decoder's layers again in backward, which
            saves memory.
        kwargs: As mmdet's ``Mask2FormerHead``.

    Raises:
        ValueError: The assigner is not mmdet's ``HungarianAssigner``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        feat_channels: int,
        out_channels: int,
        pixel_decoder: ConfigDict,
        with_cp: bool = False,
        **kwargs,
    ) -> None:
        # The parent requires a deformable encoder in the pixel decoder's config; a
        # stand-in satisfies it until the real decoder replaces it.
        levels = dict(num_levels=3)
        super().__init__(
            in_channels=in_channels,
            feat_channels=feat_channels,
            out_channels=out_channels,
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
        self.with_cp = with_cp
        assigner = getattr(self, 'assigner', None)
        if assigner is not None and not isinstance(assigner, HungarianAssigner):
            raise ValueError(
                f'SlicedMask2FormerHead cannot use {type(assigner).__name__}: set '
                "train_cfg.assigner.type='HungarianAssigner'"
            )

    def forward(
        self, x: Sequence[Tensor], batch_data_samples: SampleList
    ) -> tuple[list[Tensor], list[FactoredMasks]]:
        """Predict classes and masks after each decoder layer and before the first.

        Args:
            x: Maps of the backbone or neck, each (B, C_i, h_i, w_i).
            batch_data_samples: Not used; mmdet's heads have it.

        Returns:
            Class logits (B, K, C + 1) and masks (B, K, H, W), first to last.
        """
        features, maps = self.pixel_decoder(x)
        # Upsampling and reading points are slow with channels last.
        features = features.contiguous()
        scale = getattr(self.pixel_decoder, 'mask_scale', 1)
        maps = maps[: self.num_transformer_feat_level]
        with torch.no_grad():
            whole = FactoredMasks(features, scale=scale)
            small = [whole.at(tuple(level.shape[2:])).flatten(2) for level in maps]
        values, keys = zip(*map(self._level, range(len(maps)), maps), strict=True)
        position = self.query_embed.weight
        query = self.query_feat.weight.expand(features.shape[0], -1, -1)
        classes, masks = [], []

        def decode(query: Tensor) -> Tensor:
            normed = self.transformer_decoder.post_norm(query)
            embed = self.mask_embed(normed)
            classes.append(self.cls_embed(normed))
            masks.append(FactoredMasks(features, embed, scale))
            return embed.detach()

        embed = decode(query)
        for i, layer in enumerate(self.transformer_decoder.layers):
            level = i % len(maps)
            mask = attended(embed @ small[level])
            arguments = (layer, query, position, keys[level], values[level], mask)
            if self.with_cp and query.requires_grad:
                query = checkpoint(
                    masked_decoder_layer, *arguments, use_reentrant=False
                )
            else:
                query = masked_decoder_layer(*arguments)
            embed = decode(query)
        return classes, masks

    def _level(self, number: int, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return a level's features (B, P, C), without and with their positions."""
        value = self.decoder_input_projs[number](level).flatten(2).transpose(1, 2)
        value = value + self.level_embed.weight[number]
        everywhere = level.new_zeros((1, *level.shape[2:]), dtype=torch.bool)
        position = self.decoder_positional_encoding(everywhere)
        return value, value + position.flatten(2).transpose(1, 2).to(value)

    def losses(
        self,
        parts: Sequence[Part],
        classes: Sequence[Tensor],
        masks: Sequence[FactoredMasks],
    ) -> list[dict[str, Tensor]]:
        """Compute the losses of all decoder outputs on each slice of a batch.

        Args:
            parts: Slices of the batch that cover it in order, each with its samples:
                ground truth or pseudo-labels, masks padded to the batch's size.
            classes: See :meth:`forward`.
            masks: See there.

        Returns:
            For each part, mmdet's named Mask2Former losses.
        """
        targets = [
            _target(sample.gt_instances) for _, samples in parts for sample in samples
        ]
        return self._losses([part for part, _ in parts], classes, masks, targets)

    def loss_by_feat(
        self,
        all_cls_scores: Sequence[Tensor],
        all_mask_preds: Sequence[Tensor | FactoredMasks],
        batch_gt_instances: Sequence[InstanceData],
        batch_img_metas: Sequence[dict],
    ) -> dict[str, Tensor]:
        """Compute mmdet's losses of a batch, also from mask logits (B, K, H, W)."""
        masks = [as_factored(each) for each in all_mask_preds]
        targets = [_target(instances) for instances in batch_gt_instances]
        (losses,) = self._losses([slice(None)], all_cls_scores, masks, targets)
        return losses

    def predict(
        self, x: Sequence[Tensor], batch_data_samples: SampleList
    ) -> tuple[Tensor, Tensor]:
        """Predict for mmdet's fusion head, with all masks at the images' size.

        Returns:
            Class logits (B, K, C + 1) and mask logits (B, K, H, W).
        """
        classes, masks = self(x, batch_data_samples)
        size = batch_data_samples[0].batch_input_shape
        return classes[-1], F.interpolate(masks[-1].dense(), size, mode='bilinear')

    def _losses(
        self,
        parts: Sequence[slice],
        classes: Sequence[Tensor],
        masks: Sequence[FactoredMasks],
        targets: Sequence[InstanceData],
    ) -> list[dict[str, Tensor]]:
        matches = match(self.assigner, classes, masks, targets, self.num_points)
        every = joined(masks)
        # mmdet's names and order: the last layer comes first.
        last = len(classes) - 1
        prefixes = {last: '', **{i: f'd{i}.' for i in range(last)}}
        results = []
        for part in parts:
            of_part = targets[part]
            of_layers = [each[part] for each in matches]
            mask_losses = self._mask_losses(every[part], of_layers, of_part)
            losses = {}
            for i, prefix in prefixes.items():
                losses[f'{prefix}loss_cls'] = self._class_loss(
                    classes[i][part], of_layers[i], of_part
                )
                for name, loss in mask_losses[i].items():
                    losses[prefix + name] = loss
            results.append(losses)
        return results

    def _class_loss(
        self, classes: Tensor, matches: Sequence[Match], targets: Sequence[InstanceData]
    ) -> Tensor:
        labels = torch.full(
            classes.shape[:2],
            self.num_classes,
            dtype=torch.int64,
            device=classes.device,
        )
        for of_image, (query, instance), target in zip(
            labels, matches, targets, strict=True
        ):
            of_image[query] = target.labels[instance]
        flat = labels.flatten()
        weight = classes.new_tensor(self.class_weight)
        return self.loss_cls(
            classes.flatten(0, 1),
            flat,
            torch.ones_like(flat),
            avg_factor=weight[flat].sum(),
        )

    def _mask_losses(
        self,
        masks: FactoredMasks,
        matches: Sequence[Sequence[Match]],
        targets: Sequence[InstanceData],
    ) -> list[dict[str, Tensor]]:
        """Compute mask and dice loss of each layer.

        Args:
            masks: Masks of all layers, (B, L * K, H, W).
            matches: For each layer and image.
            targets: For each image.
        """
        layers, counts = len(matches), [len(query) for query, _ in matches[0]]
        queries, instances = (
            [
                torch.cat([pair[i] + step * n for n, pair in enumerate(of_image)])
                for of_image in zip(*matches, strict=True)
            ]
            for i, step in ((0, masks.shape[1] // layers), (1, 0))
        )
        chosen = masks.of(queries)  # image after image, in it layer after layer
        # In float16, masks times points would overflow from six masks on.
        exact = torch.promote_types(chosen.dtype, torch.float32)
        annotated = sum(len(target) for target in targets)
        total = reduce_mean(chosen.new_tensor(annotated, dtype=exact)).clamp(min=1)
        if not len(chosen):
            nothing = chosen.sum()
            return [dict(loss_mask=nothing, loss_dice=nothing)] * layers
        sizes = [count for count in counts for _ in range(layers)]
        with torch.no_grad():
            # Each layer by itself, since the draw needs three times the points.
            drawn = [
                get_uncertain_point_coords_with_randomness(
                    torch.cat(chosen.split(sizes)[layer::layers])[:, None],
                    None,
                    self.num_points,
                    self.oversample_ratio,
                    self.importance_sample_ratio,
                ).split(counts)
                for layer in range(layers)
            ]
            points = [torch.cat(of_image) for of_image in zip(*drawn, strict=True)]
            true = torch.cat(
                [
                    read_bool_masks(target.masks, places, instance)
                    for target, places, instance in zip(
                        targets, points, instances, strict=True
                    )
                ]
            )
        found = point_sample(chosen[:, None], torch.cat(points))[:, 0]
        losses = []
        for layer in range(layers):
            logits, labels = (
                torch.cat(x.split(sizes)[layer::layers]) for x in (found, true)
            )
            loss_mask = self.loss_mask(
                logits.flatten(), labels.flatten(), avg_factor=total * self.num_points
            )
            loss_dice = self.loss_dice(logits, labels, avg_factor=total)
            losses.append(dict(loss_mask=loss_mask, loss_dice=loss_dice))
        return losses


def _target(instances: InstanceData) -> InstanceData:
    masks = instances.masks
    if not isinstance(masks, Tensor):  # mmdet's BitmapMasks or PolygonMasks
        masks = masks.to_tensor(torch.bool, instances.labels.device)
    return InstanceData(labels=instances.labels, masks=masks.bool())
