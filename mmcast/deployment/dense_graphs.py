"""Detectors whose dense heads predict boxes and, for each, the kernels of its mask."""

import math
from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models import CondInst, RTMDet
from mmdet.models.utils import aligned_bilinear
from torch import Tensor

from mmcast.deployment import selection
from mmcast.deployment.graphs import InstanceGraph, Outputs, in_batches
from mmcast.deployment.operators import placed, resized


class DynamicMaskGraph(InstanceGraph):
    """A detector whose masks are small networks, one an instance (CondInst, 2020).

    The network's own, for each level with STRIDE in pixels: ``class_logits_STRIDE``
    (B, C, h, w), ``distances_STRIDE`` (B, 4, h, w), from a cell to the sides of its box
    in pixels, ``kernels_STRIDE`` (B, D, h, w), and the ``mask_features`` (B, E, h, w).
    """

    suppresses = True
    maps: tuple[str, ...] = ('class_logits', 'distances', 'kernels')
    mask_head: Any  # has `weight_nums` and `bias_nums`
    mask_cells: tuple[int, float]  # the mask features' stride, and a cell's place
    reach: float  # of an instance, in cells of its own level

    def __init__(self, model: Any, raw: bool) -> None:
        if not (model.with_mask or hasattr(model.bbox_head, 'mask_head')):
            raise ValueError(
                f'a {type(model).__name__} without masks is not exported: give an '
                'instance segmenter'
            )
        self.strides = [
            int(side) for side, _ in model.bbox_head.prior_generator.strides
        ]
        self.network_outputs = (
            *(f'{name}_{stride}' for name in self.maps for stride in self.strides),
            'mask_features',
        )
        super().__init__(model, raw)
        config = model.bbox_head.test_cfg
        self.iou_thr = selection.check_suppression(config.nms)
        self.score_thr = float(config.get('score_thr', 0))
        self.each_level = int(config.get('nms_pre', 1000))
        self.most = min(int(config.max_per_img), self.each_level * len(self.strides))
        self.least = float(config.get('min_bbox_size', -1))

    def instances(
        self, network: Outputs, batch: Tensor, size: Tensor, original: Tensor
    ) -> Outputs:
        """Choose boxes, and compute their masks."""
        *maps, mask_features = network
        levels = [maps[i :: len(self.strides)] for i in range(len(self.strides))]
        offset = self.model.bbox_head.prior_generator.offset
        parts = []
        for stride, level in zip(self.strides, levels, strict=True):
            scores = level[0].sigmoid()
            scores = torch.where(scores > self.score_thr, scores, 0)
            scores, labels, cells = selection.best(scores, self.each_level)
            scores = scores * self.factor(level, cells)
            points = selection.corners(level[0].shape[3], cells, stride, offset)
            distances = selection.taken(level[1], cells)
            boxes = torch.cat(
                [points - distances[..., :2], points + distances[..., 2:]], -1
            )
            kernels = selection.taken(level[-1], cells)
            parts.append(
                (
                    scores,
                    labels,
                    boxes,
                    points,
                    torch.full_like(scores, stride),
                    kernels,
                )
            )
        scores, labels, boxes, points, strides, kernels = (
            torch.cat(each, dim=1) for each in zip(*parts, strict=True)
        )
        boxes = selection.clipped(boxes, self.area(batch, size))
        boxes = boxes / selection.scale_factor(size, original)
        scores = selection.large_enough(boxes, scores, self.least)
        scores = selection.suppressed(boxes, scores, labels, self.iou_thr)
        scores, chosen = scores.topk(self.most)
        count = selection.most_of_any(scores)
        scores, chosen = scores[:, :count], chosen[:, :count]
        boxes, labels, points, strides, kernels = (
            selection.rows(each, chosen)
            for each in (boxes, labels, points, strides, kernels)
        )
        logits = self.mask_logits(mask_features, kernels, points, strides)
        masks = self.masks(logits, batch, size, original)
        return boxes, labels, scores, in_batches(masks, scores)

    def factor(self, level: list[Tensor], cells: Tensor) -> Tensor | float:
        """Return what the scores in a level's cells (B, N) are multiplied by."""
        return 1.0

    @abstractmethod
    def masks(
        self, logits: Tensor, batch: Tensor, size: Tensor, original: Tensor
    ) -> Tensor:
        """Resize mask logits (M, h, w); return masks of the original image's size."""

    def mask_logits(
        self, features: Tensor, kernels: Tensor, points: Tensor, strides: Tensor
    ) -> Tensor:
        """Run each instance's network on the features.

        Args:
            features: (B, E, h, w).
            kernels: Weights of all layers, then their biases, (B, N, D).
            points: Where the instance's cell is, (B, N, 2).
            strides: Pixels of its cell, (B, N).

        Returns:
            (B * N, h, w).
        """
        batch, count = strides.shape
        height, width = features.shape[2:]
        head = self.mask_head
        parts = kernels.flatten(0, 1).split([*head.weight_nums, *head.bias_nums], 1)
        weights, biases = parts[: len(parts) // 2], parts[len(parts) // 2 :]
        # Places are features, too: the first layer is linear in them, so that all
        # instances of an image share one set of maps.
        stride, offset = self.mask_cells
        x = (torch.arange(width, device=features.device) + offset) * stride
        y = (torch.arange(height, device=features.device) + offset) * stride
        places = torch.stack(torch.meshgrid(x, y, indexing='xy'))
        places = places[None].expand(batch, -1, -1, -1)
        maps = torch.cat([places, features], dim=1).flatten(2)
        # A place counts relative to the instance's own, in units of `reach`.
        channels = biases[0].shape[1]
        first = weights[0].reshape(batch * count, channels, maps.shape[1])
        turned = first[..., :2] / (strides.flatten() * self.reach)[:, None, None]
        bias = biases[0] + (turned * points.flatten(0, 1)[:, None]).sum(-1)
        first = torch.cat([-turned, first[..., 2:]], dim=2)
        first = first.reshape(batch, count * channels, maps.shape[1])
        hidden = (first @ maps).reshape(batch * count, channels, height * width)
        hidden = hidden + bias[..., None]
        for weight, bias in zip(weights[1:], biases[1:], strict=True):
            width_in, width_out = hidden.shape[1], bias.shape[1]
            layer = weight.reshape(batch * count, width_out, width_in)
            hidden = layer @ hidden.relu() + bias[..., None]
        return hidden.reshape(batch * count, height, width)


class RTMDetInsGraph(DynamicMaskGraph):
    """RTMDet-Ins of mmdet (arXiv 2212.07784, section 3.4)."""

    reach = 8.0

    def __init__(self, model: RTMDet, raw: bool) -> None:
        super().__init__(model, raw)
        self.mask_head = model.bbox_head
        self.mask_cells = self.strides[0], model.bbox_head.prior_generator.offset
        # Its neck doubles the maps' sides, so each must be half of the finer one.
        self.step = math.lcm(self.step, self.strides[-1])

    def network(self, batch: Tensor) -> Outputs:
        """Return all maps of the head."""
        *maps, features = self.model.bbox_head(self.model.extract_feat(batch))
        return *(each for maps in maps for each in maps), features

    def masks(
        self, logits: Tensor, batch: Tensor, size: Tensor, original: Tensor
    ) -> Tensor:
        """Resize mask logits (M, h, w); return masks of the original image's size."""
        stride = self.strides[0]
        large = F.interpolate(logits[:, None], scale_factor=stride, mode='bilinear')
        large = large.squeeze(1)  # an index would copy it
        # mmdet turns the height back by the width's factor, and the width by the
        # height's. They differ by the rounding of the resize.
        factor = 1 / (size.flip(0).double() / original.flip(0).double())
        sides = torch.stack([torch.tensor(side) for side in large.shape[1:]])
        large = resized(large, (sides * factor).ceil().long())
        threshold = self.model.bbox_head.test_cfg.mask_thr_binary
        return placed(large > math.log(threshold / (1 - threshold)), original)


class CondInstGraph(DynamicMaskGraph):
    """CondInst of mmdet (arXiv 2003.05664).

    The network's own are those of :class:`DynamicMaskGraph` and
    ``centre_logits_STRIDE`` (B, 1, h, w).
    """

    # Its coarse maps are rounded up; torch's exporter then computes a wrong size.
    one_size = 'its coarsest maps are rounded up'
    maps = ('class_logits', 'distances', 'centre_logits', 'kernels')

    def __init__(self, model: CondInst, raw: bool) -> None:
        super().__init__(model, raw)
        self.mask_head = model.mask_head
        self.reach = float(model.mask_head.size_of_interest)
        self.mask_cells = model.mask_head.mask_feat_stride, 0.5

    def network(self, batch: Tensor) -> Outputs:
        """Return all maps of both heads."""
        features = self.model.extract_feat(batch)
        maps = self.model.bbox_head(features)
        mask_features = self.model.mask_head.mask_feature_head(features)
        return *(each for maps in maps for each in maps), mask_features

    def factor(self, level: list[Tensor], cells: Tensor) -> Tensor:
        """Return the chances of being in the centre of an object."""
        return selection.taken(level[2], cells)[..., 0].sigmoid()

    def masks(
        self, logits: Tensor, batch: Tensor, size: Tensor, original: Tensor
    ) -> Tensor:
        """Resize mask logits (M, h, w); return masks of the original image's size."""
        head = self.model.mask_head
        finer = head.mask_feat_stride // head.mask_out_stride
        chances = aligned_bilinear(logits[:, None], finer).sigmoid()
        chances = aligned_bilinear(chances, head.mask_out_stride).squeeze(1)
        chances = placed(chances, self.area(batch, size))
        return resized(chances, original) > head.test_cfg.mask_thr
