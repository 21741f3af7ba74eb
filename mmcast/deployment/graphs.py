"""Whole predictions as modules of tensors alone, which an exporter can follow.

mmdet's ``predict`` works on data samples and Python lists. The modules here compute the
same from a batch of images of one size: normalise, predict, choose, resize.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcast.models.dense_heads.instance_fusion_head import mask_boxes, mask_scores
from mmcast.models.detectors import PixelContrastMask2Former, SwinMTL

Outputs = tuple[Tensor, ...]


class Graph(nn.Module):
    """A model from images to named outputs.

    Its inputs are ``images``, uint8 (B, H, W, 3) in BGR as OpenCV reads them, padded at
    the right and below to multiples of ``step``, and ``sizes``, int64 (B, 2), the
    images' heights and widths without padding.

    Args:
        model: A detector with mmdet's ``DetDataPreprocessor``.
        raw: Whether the only input is normalised and padded already, float
            (B, 3, H, W), and only the network's own outputs are returned.

    Attributes:
        task: What predicts: ``'instances'`` or ``'depth_and_labels'``.
        outputs: Names of what ``forward`` returns.
        network_outputs: Names of the network's own outputs. They come last.
        step: Height and width of the network's input are multiples of it.
    """

    task: str
    outputs: tuple[str, ...]
    network_outputs: tuple[str, ...]

    def __init__(self, model: Any, raw: bool) -> None:
        super().__init__()
        self.model = model
        self.raw = raw
        self.preprocessor = model.data_preprocessor
        self.step = int(self.preprocessor.pad_size_divisor)

    def normalised(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Prepare images as ``DetDataPreprocessor`` does.

        Args:
            images: uint8 (B, H, W, 3) in BGR.
            sizes: Height and width of each image, int64 (B, 2). The rest is padding.

        Returns:
            The network's input, float (B, 3, H, W), and bool (B, H, W), True in the
            images.
        """
        rows = torch.arange(images.shape[1], device=images.device)
        columns = torch.arange(images.shape[2], device=images.device)
        inside = (rows < sizes[:, :1])[:, :, None] & (columns < sizes[:, 1:])[:, None]
        if self.preprocessor._channel_conversion:
            images = images.flip(-1)
        batch = images.permute(0, 3, 1, 2).float()
        batch = (batch - self.preprocessor.mean) / self.preprocessor.std
        padding = float(self.preprocessor.pad_value)
        return torch.where(inside[:, None], batch, padding), inside


class InstanceGraph(Graph):
    """A Mask2Former of mmcast.

    Outputs of N instances for each image, best first:

    * ``boxes``: x1, y1, x2, y2 in pixels, ends exclusive, float (B, N, 4)
    * ``labels``: int64 (B, N)
    * ``scores``: float (B, N)
    * ``masks``: bool (B, N, H, W)

    The network's own: ``class_logits`` (B, K, C + 1), the last class "no object", and
    ``mask_logits`` (B, K, h, w), which resized bilinearly to the padded image are above
    0 inside a mask.
    """

    task = 'instances'
    network_outputs = ('class_logits', 'mask_logits')

    def __init__(self, model: PixelContrastMask2Former, raw: bool) -> None:
        super().__init__(model, raw)
        processed = ('boxes', 'labels', 'scores', 'masks')
        self.outputs = self.network_outputs if raw else processed + self.network_outputs

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Outputs:
        """Predict the instances of a batch; see :class:`Graph`."""
        if sizes is None:
            return self._network(images)
        batch, inside = self.normalised(images, sizes)
        network = self._network(batch)
        return *self._instances(*network, inside), *network

    def _network(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.extract_feat(batch)
        classes, masks = self.model.panoptic_head(features, [])
        return classes[-1], masks[-1].dense()

    def _instances(self, classes: Tensor, masks: Tensor, inside: Tensor) -> Outputs:
        """Choose instances as ``InstanceFusionHead`` does, for a whole batch."""
        head = self.model.panoptic_fusion_head
        chances = classes.softmax(-1)[..., : head.num_things_classes]
        count = chances.shape[1] * chances.shape[2]
        most = min(head.test_cfg.get('max_per_image', 100), count)
        scores, index = chances.flatten(1).topk(most)
        query, labels = index // chances.shape[2], index % chances.shape[2]
        places = query[..., None, None].expand(-1, -1, *masks.shape[2:])
        logits = masks.gather(1, places)
        size = inside.shape[1:]
        logits = F.interpolate(logits, size, mode='bilinear').flatten(0, 1)
        found = (logits > 0).unflatten(0, (-1, most)) & inside[:, None]
        found = found.flatten(0, 1)
        quality = mask_scores(logits, found).unflatten(0, (-1, most))
        boxes = mask_boxes(found).unflatten(0, (-1, most))
        found = found.unflatten(0, (-1, most))
        # The best first, by the whole score.
        scores, order = (scores * quality).sort(1, descending=True)
        rows = torch.arange(order.shape[0], device=order.device)[:, None]
        return boxes[rows, order], labels[rows, order], scores, found[rows, order]


class DepthSegGraph(Graph):
    """SwinMTL's model.

    Outputs: ``depth`` in metres, float (B, H, W), and ``labels``, int64 (B, H, W).

    The network's own: ``depth`` (B, 1, H, W) in metres and ``label_logits``
    (B, C, H, W), of the padded images.
    """

    task = 'depth_and_labels'
    _names = {'depth': ('depth', 'depth_map'), 'seg': ('labels', 'label_logits')}

    def __init__(self, model: SwinMTL, raw: bool) -> None:
        super().__init__(model, raw)
        tasks = [task for task in self._names if getattr(model, f'{task}_head')]
        self.network_outputs = tuple(self._names[task][1] for task in tasks)
        processed = tuple(self._names[task][0] for task in tasks)
        self.outputs = self.network_outputs if raw else processed + self.network_outputs

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Outputs:
        """Predict depth and labels of a batch; see :class:`Graph`."""
        if sizes is not None:
            images, _ = self.normalised(images, sizes)
        maps = self.model.predict_maps(images)
        network = tuple(maps[task] for task in self._names if task in maps)
        if sizes is None:
            return network
        processed = []
        if 'depth' in maps:
            processed.append(maps['depth'][:, 0])
        if 'seg' in maps:
            processed.append(maps['seg'].argmax(1))
        return *processed, *network


def graph_of(model: nn.Module, raw: bool) -> Graph:
    """Return a model's graph, ready for export.

    Args:
        model: A student of mmcast, or a SwinMTL.
        raw: See :class:`Graph`.

    Raises:
        ValueError: The model is of another kind.
    """
    kinds: dict[type, Any] = {
        PixelContrastMask2Former: InstanceGraph,
        SwinMTL: DepthSegGraph,
    }
    for kind, graph in kinds.items():
        if isinstance(model, kind):
            return graph(model, raw).eval()
    names = ' or '.join(kind.__name__ for kind in kinds)
    raise ValueError(
        f'{type(model).__name__} cannot be exported: give a config whose model is '
        f'{names}'
    )
