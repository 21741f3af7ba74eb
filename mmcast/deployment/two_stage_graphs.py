"""Detectors that predict proposals, and then classes, boxes and masks of these."""

import math
from typing import Any

import torch
from mmdet.models import MaskRCNN
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from torch import Tensor

from mmcast.deployment import selection
from mmcast.deployment.graphs import InstanceGraph, Outputs, in_batches
from mmcast.deployment.operators import features_of_boxes, pasted, suppress


class MaskRCNNGraph(InstanceGraph):
    """Mask R-CNN of mmdet (arXiv 1703.06870).

    The network's own, for each level with STRIDE in pixels: ``object_logits_STRIDE``
    (B, A, h, w) and ``deltas_STRIDE`` (B, 4 A, h, w) of A anchors a cell; and the
    pyramid's ``features_STRIDE`` (B, C, h, w), from which the second stage takes.
    """

    suppresses = True

    def __init__(self, model: MaskRCNN, raw: bool) -> None:
        roi_head, rpn = model.roi_head, model.rpn_head
        wrong = [
            type(part).__name__
            for part, kind in (
                (roi_head, StandardRoIHead),
                (roi_head.bbox_roi_extractor, SingleRoIExtractor),
                (roi_head.mask_roi_extractor, SingleRoIExtractor),
                (roi_head.mask_head, FCNMaskHead),
                (roi_head.bbox_head.bbox_coder, DeltaXYWHBBoxCoder),
                (rpn.bbox_coder, DeltaXYWHBBoxCoder),
            )
            if type(part) is not kind
        ]
        if wrong:
            raise ValueError(f'a Mask R-CNN with {wrong[0]} is not exported')
        box_head = roi_head.bbox_head
        if box_head.custom_cls_channels or box_head.custom_activation:
            raise ValueError(
                f"the bbox head's {type(box_head.loss_cls).__name__} computes scores "
                'in its own way and is not exported: train with CrossEntropyLoss'
            )
        if not rpn.use_sigmoid_cls:
            raise ValueError(
                "an rpn_head with softmax is not exported: set loss_cls's "
                'use_sigmoid=True and train again'
            )
        self.strides = [stride[0] for stride in rpn.prior_generator.strides]
        self.network_outputs = tuple(
            f'{name}_{stride}'
            for name in ('object_logits', 'deltas', 'features')
            for stride in self.strides
        )
        super().__init__(model, raw)
        self.first, self.second = rpn.test_cfg, roi_head.test_cfg
        self.first_iou_thr = selection.check_suppression(self.first.nms)
        self.second_iou_thr = selection.check_suppression(self.second.nms)

    def network(self, batch: Tensor) -> Outputs:
        """Return the proposals' maps and the features."""
        features = self.model.extract_feat(batch)
        logits, deltas = self.model.rpn_head(features)
        return *logits, *deltas, *features

    def instances(
        self, network: Outputs, batch: Tensor, size: Tensor, original: Tensor
    ) -> Outputs:
        """Choose proposals, classify them, and compute the masks of what stays."""
        levels = len(self.strides)
        area = self.area(batch, size)
        features = list(network[2 * levels :])
        proposals = self._proposals(
            network[:levels], network[levels : 2 * levels], area
        )
        boxes, labels, scores = self._detections(features, proposals, area)
        count = selection.most_of_any(scores)
        boxes, labels, scores = boxes[:, :count], labels[:, :count], scores[:, :count]
        head = self.model.roi_head
        maps = head.mask_head(self._of(head.mask_roi_extractor, features, boxes))
        if not head.mask_head.class_agnostic:
            places = labels.flatten()[:, None, None, None]
            maps = maps.gather(1, places.expand(-1, -1, *maps.shape[2:]))
        boxes = boxes / selection.scale_factor(size, original)
        chances = pasted(maps[:, 0].sigmoid(), boxes.flatten(0, 1), original)
        masks = chances >= self.second.mask_thr_binary
        return boxes, labels, scores, in_batches(masks, scores)

    def _proposals(self, logits: Outputs, deltas: Outputs, area: Tensor) -> Tensor:
        """Return boxes (B, K, 4) that may be objects; zeros fill up."""
        rpn, config = self.model.rpn_head, self.first
        anchors = rpn.prior_generator
        parts = []
        for i, stride in enumerate(self.strides):
            scores, kind, cells = selection.best(logits[i].sigmoid(), config.nms_pre)
            places = selection.corners(logits[i].shape[3], cells, stride, 0.0)
            base = anchors.base_anchors[i][kind] + places.repeat(1, 1, 2)
            # Four channels an anchor.
            maps = deltas[i].flatten(2).unflatten(1, (-1, 4))
            maps = maps.transpose(2, 3).flatten(1, 2)
            index = kind * (logits[i].shape[2] * logits[i].shape[3]) + cells
            boxes = decoded(rpn.bbox_coder, base, selection.rows(maps, index))
            parts.append((scores, torch.full_like(cells, i), boxes))
        scores, level, boxes = (torch.cat(each, 1) for each in zip(*parts, strict=True))
        boxes = selection.clipped(boxes, area)
        scores = selection.large_enough(boxes, scores, config.get('min_bbox_size', -1))
        scores = selection.suppressed(boxes, scores, level, self.first_iou_thr)
        scores, chosen = scores.topk(min(config.max_per_img, scores.shape[1]))
        return torch.where((scores > 0)[..., None], selection.rows(boxes, chosen), 0)

    def _detections(
        self, features: list[Tensor], proposals: Tensor, area: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes (B, K, 4) in the network's pixels, labels and scores (B, K)."""
        head = self.model.roi_head
        number = proposals.shape[1]
        found = self._of(head.bbox_roi_extractor, features, proposals)
        logits, deltas = head.bbox_head(found)
        chances = in_batches(logits.softmax(-1)[:, :-1], proposals[..., 0])
        classes = chances.shape[2]
        deltas = in_batches(deltas, proposals[..., 0]).unflatten(2, (-1, 4))
        boxes = decoded(head.bbox_head.bbox_coder, proposals[:, :, None], deltas)
        boxes = selection.clipped(boxes, area).expand(-1, -1, classes, -1)
        real = (proposals[..., 2:] > proposals[..., :2]).all(-1)[..., None]
        counted = real & (chances > self.second.score_thr)
        scores = torch.where(counted, chances, 0).transpose(1, 2)  # (B, C, K)
        boxes = boxes.transpose(1, 2)
        keep = suppress(
            boxes.flatten(0, 1), scores.flatten(0, 1), self.second_iou_thr
        ).unflatten(0, (-1, classes))
        scores = torch.where(keep, scores, 0).flatten(1)
        most = min(self.second.max_per_img, number * classes)
        scores, chosen = scores.topk(most)
        return selection.rows(boxes.flatten(1, 2), chosen), chosen // number, scores

    def _of(self, extractor: Any, features: list[Tensor], boxes: Tensor) -> Tensor:
        """Return the features of boxes (B, K, 4), (B * K, C, s, s)."""
        layer = extractor.roi_layers[0]
        strides = list(extractor.featmap_strides)
        images = torch.arange(boxes.shape[0], device=boxes.device)
        images = images[:, None].expand(-1, boxes.shape[1]).flatten()
        flat = boxes.flatten(0, 1)
        sides = (flat[:, 2:] - flat[:, :2]).prod(-1).sqrt()
        levels = (sides / extractor.finest_scale + 1e-6).log2().floor()
        levels = levels.clamp(0, len(strides) - 1).long()
        return features_of_boxes(
            features[: len(strides)],
            flat,
            images,
            levels,
            strides,
            layer.output_size[0],
            layer.sampling_ratio,
            layer.aligned,
        )


def decoded(coder: Any, boxes: Tensor, deltas: Tensor) -> Tensor:
    """Compute ``DeltaXYWHBBoxCoder.decode`` without clipping.

    Args:
        coder: mmdet's coder.
        boxes: x1, y1, x2, y2, (..., 4).
        deltas: Of shape (..., 4), too.
    """
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    centre, side = (
        (boxes[..., :2] + boxes[..., 2:]) * 0.5,
        boxes[..., 2:] - boxes[..., :2],
    )
    most = abs(math.log(16 / 1000))
    shift, growth = side * deltas[..., :2], deltas[..., 2:]
    if coder.add_ctr_clamp:
        shift = shift.clamp(-coder.ctr_clamp, coder.ctr_clamp)
        growth = growth.clamp(max=most)
    else:
        growth = growth.clamp(-most, most)
    centre, half = centre + shift, side * growth.exp() * 0.5
    return torch.cat([centre - half, centre + half], dim=-1)
