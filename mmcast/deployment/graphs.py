"""Whole predictions as modules of tensors alone, which an exporter can follow.

mmdet's ``predict`` works on data samples and Python lists. The modules here compute the
same from a batch of images of one size: normalise, predict, choose, resize.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcast.deployment.operators import placed, resized
from mmcast.deployment.view import view_of
from mmcast.models.dense_heads.instance_fusion_head import mask_boxes, mask_scores
from mmcast.models.detectors import SwinMTL

Outputs = tuple[Tensor, ...]


class Graph(nn.Module):
    """A model from images to named outputs.

    Its inputs are ``images``, uint8 (B, H, W, 3) in BGR as OpenCV reads them, padded at
    the right and below to multiples of ``step``; ``size``, int64 (2,), the images'
    height and width without padding; and for instances ``original``, int64 (2,), what
    boxes and masks are resized to.

    Args:
        model: A detector with mmdet's ``DetDataPreprocessor``.
        raw: Whether the only input is normalised and padded already, float
            (B, 3, H, W), and only the network's own outputs are returned.

    Raises:
        ValueError: The test pipeline is missing or not known, see
            :func:`~mmcast.deployment.view.view_of`.

    Attributes:
        task: What predicts: ``'instances'`` or ``'depth_and_labels'``.
        inputs: Names of what ``forward`` takes.
        outputs: Names of what ``forward`` returns.
        network_outputs: Names of the network's own outputs. They come last.
        step: Height and width of the network's input are multiples of it.
        view: What the test pipeline does to an image.
        suppresses: Whether boxes that overlap a better one are left out.
        one_size: Why it can be exported for images of one size only, or None.
    """

    task: str
    suppresses = False
    one_size: str | None = None
    inputs: tuple[str, ...] = ('images', 'size')
    outputs: tuple[str, ...]
    network_outputs: tuple[str, ...]

    def __init__(self, model: Any, raw: bool) -> None:
        super().__init__()
        self.model = model
        self.raw = raw
        self.preprocessor = model.data_preprocessor
        self.step = int(self.preprocessor.pad_size_divisor)
        self.view = view_of(model.cfg, raw)
        if raw:
            self.inputs = ('images',)

    def normalised(self, images: Tensor, size: Tensor) -> Tensor:
        """Prepare images as test pipeline and ``DetDataPreprocessor`` do.

        Args:
            images: uint8 (B, H, W, 3) in BGR.
            size: Height and width of the images, int64 (2,). The rest is padding.

        Returns:
            The network's input, float (B, 3, H, W).
        """
        rows = torch.arange(images.shape[1], device=images.device)
        columns = torch.arange(images.shape[2], device=images.device)
        inside = (rows < size[0])[:, None] & (columns < size[1])
        batch = images.permute(0, 3, 1, 2).float()
        if self.view.pad_value is not None:  # the pipeline pads
            value = batch.new_tensor(self.view.pad_value).view(3, 1, 1)
            batch = torch.where(inside, batch, value)
        if self.preprocessor._channel_conversion:
            batch = batch.flip(1)
        if self.preprocessor._enable_normalize:
            batch = (batch - self.preprocessor.mean) / self.preprocessor.std
        if self.view.pad_value is None:
            batch = torch.where(inside, batch, float(self.preprocessor.pad_value))
        return batch


class InstanceGraph(Graph, ABC):
    """A detector of instances.

    Outputs of N instances for each image, best first:

    * ``boxes``: x1, y1, x2, y2 in pixels of the original image, float (B, N, 4)
    * ``labels``: int64 (B, N)
    * ``scores``: float (B, N). What has 0 is no instance: it fills up an image that
      has fewer than another. N is at least 1.
    * ``masks``: bool (B, N, height, width) of the original image
    """

    task = 'instances'
    inputs = ('images', 'size', 'original')

    def __init__(self, model: Any, raw: bool) -> None:
        super().__init__(model, raw)
        processed = ('boxes', 'labels', 'scores', 'masks')
        self.outputs = self.network_outputs if raw else processed + self.network_outputs

    def forward(
        self, images: Tensor, size: Tensor | None = None, original: Tensor | None = None
    ) -> Outputs:
        """Predict the instances of a batch; see :class:`Graph`."""
        if size is None or original is None:
            return self.network(images)
        batch = self.normalised(images, size)
        network = self.network(batch)
        return *self.instances(network, batch, size, original), *network

    @abstractmethod
    def network(self, batch: Tensor) -> Outputs:
        """Return the network's own outputs for its input (B, 3, H, W)."""

    @abstractmethod
    def instances(
        self, network: Outputs, batch: Tensor, size: Tensor, original: Tensor
    ) -> Outputs:
        """Return boxes, labels, scores and masks."""

    def area(self, batch: Tensor, size: Tensor) -> Tensor:
        """Return what mmdet calls an image's height and width, (2,).

        What the test pipeline pads belongs to it; what the preprocessor pads does not.
        """
        if self.view.pad_value is None:
            return size
        return torch.stack([torch.tensor(side) for side in batch.shape[2:]])


class Mask2FormerGraph(InstanceGraph):
    """A Mask2Former of mmcast.

    The network's own: ``class_logits`` (B, K, C + 1), the last class "no object", and
    ``mask_logits`` (B, K, h, w), which resized bilinearly to the padded image are above
    0 inside a mask.
    """

    network_outputs = ('class_logits', 'mask_logits')

    def network(self, batch: Tensor) -> Outputs:
        """Return class and mask logits."""
        features = self.model.extract_feat(batch)
        classes, masks = self.model.panoptic_head(features, [])
        return classes[-1], masks[-1].dense()

    def instances(
        self, network: Outputs, batch: Tensor, size: Tensor, original: Tensor
    ) -> Outputs:
        """Choose instances as ``InstanceFusionHead`` does, for a whole batch."""
        classes, masks = network
        head = self.model.panoptic_fusion_head
        chances = classes.softmax(-1)[..., : head.num_things_classes]
        count = chances.shape[1] * chances.shape[2]
        most = min(head.test_cfg.get('max_per_image', 100), count)
        scores, index = chances.flatten(1).topk(most)
        query, labels = index // chances.shape[2], index % chances.shape[2]
        places = query[..., None, None].expand(-1, -1, *masks.shape[2:])
        logits = masks.gather(1, places)
        logits = F.interpolate(logits, batch.shape[2:], mode='bilinear').flatten(0, 1)
        logits = placed(logits, self.area(batch, size))
        logits = resized(logits, original)
        found = logits > 0
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
    one_size = 'windows divide the image'
    _names = {'depth': ('depth', 'depth_map'), 'seg': ('labels', 'label_logits')}

    def __init__(self, model: SwinMTL, raw: bool) -> None:
        super().__init__(model, raw)
        tasks = [task for task in self._names if getattr(model, f'{task}_head')]
        self.network_outputs = tuple(self._names[task][1] for task in tasks)
        processed = tuple(self._names[task][0] for task in tasks)
        self.outputs = self.network_outputs if raw else processed + self.network_outputs

    def forward(self, images: Tensor, size: Tensor | None = None) -> Outputs:
        """Predict depth and labels of a batch; see :class:`Graph`."""
        if size is not None:
            images = self.normalised(images, size)
        maps = self.model.predict_maps(images)
        network = tuple(maps[task] for task in self._names if task in maps)
        if size is None:
            return network
        processed = []
        if 'depth' in maps:
            processed.append(maps['depth'][:, 0])
        if 'seg' in maps:
            processed.append(maps['seg'].argmax(1))
        return *processed, *network


def in_batches(values: Tensor, like: Tensor) -> Tensor:
    """Return values (B * N, ...) as (B, N, ...), as many as ``like`` (B, N) has."""
    return values.reshape(*like.shape, *values.shape[1:])
