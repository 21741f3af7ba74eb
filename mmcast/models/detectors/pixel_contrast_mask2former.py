"""Mask2Former trained with the pixel contrast beside its own losses.

It is CAST's student, and CAST's teacher where that is a Mask2Former
(arXiv 2505.21904). Without ``pixel_contrast`` it is mmdet's Mask2Former.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmdet.models.detectors import Mask2Former
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmcast.models.views import build_strong_view


@dataclass
class Predictions:
    """What one training pass over a batch of B images yields.

    Attributes:
        inputs: The batch, float (B, 3, H, W).
        encoder: The backbone's maps, each (B, C_i, h_i, w_i).
        classes: Class logits of each decoder output, (B, K, C + 1).
        masks: Mask logits of each decoder output, (B, K, h, w).
    """

    inputs: Tensor
    encoder: tuple[Tensor, ...]
    classes: list[Tensor]
    masks: list[Tensor]


@contextmanager
def kept_statistics(module: nn.Module) -> Iterator[None]:
    """Keep batch norm's running statistics, which are for evaluation, as they are.

    The strong view is normalised by its own batch but shall not tint them.
    """
    norms = [
        m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@MODELS.register_module()
class PixelContrastMask2Former(Mask2Former):
    """Mask2Former with an optional contrast of pixels of two views.

    Args:
        num_classes: Number of classes, all of them things. Both heads and the
            classification loss take it from here.
        panoptic_head: Config of a ``SlicedMask2FormerHead``.
        panoptic_fusion_head: Config of mmdet's ``MaskFormerFusionHead``.
        no_object_weight: Weight of the class "no object" in the loss.
        pixel_contrast: Config of a ``PixelContrastHead``, or None.
        strong_view: Config of the photometric strong view of the batch; needed
            with ``pixel_contrast``. Mean and standard deviation come from the
            data preprocessor.
        kwargs: As mmdet's ``Mask2Former``.

    Raises:
        ValueError: One of the two is given without the other.
    """

    def __init__(
        self,
        num_classes: int,
        panoptic_head: ConfigDict,
        panoptic_fusion_head: ConfigDict,
        no_object_weight: float = 0.1,
        pixel_contrast: dict | None = None,
        strong_view: dict | None = None,
        **kwargs,
    ) -> None:
        counts = dict(num_things_classes=num_classes, num_stuff_classes=0)
        weights = [1.0] * num_classes + [no_object_weight]
        loss_cls = {**panoptic_head['loss_cls'], 'class_weight': weights}
        super().__init__(
            panoptic_head=ConfigDict(panoptic_head, loss_cls=loss_cls, **counts),
            panoptic_fusion_head=ConfigDict(panoptic_fusion_head, **counts),
            **kwargs,
        )
        if (pixel_contrast is None) != (strong_view is None):
            raise ValueError(
                'pixel_contrast and strong_view belong together: give both or none'
            )
        self.pixel_contrast = MODELS.build(pixel_contrast) if pixel_contrast else None
        self.strong_view = (
            build_strong_view(strong_view, self.data_preprocessor)
            if strong_view
            else None
        )

    def forward_train(self, inputs: Tensor, samples: SampleList) -> Predictions:
        """One pass over the batch, keeping all that the losses need.

        Args:
            inputs: Normalised, padded images, float (B, 3, H, W).
            samples: Data samples of the B images.

        Returns:
            Encoder maps and the logits of all decoder outputs.
        """
        encoder = self.backbone(inputs)
        features = self.neck(encoder) if self.with_neck else encoder
        classes, masks = self.panoptic_head(features, samples)
        return Predictions(inputs, tuple(encoder), classes, masks)

    def supervised_loss(
        self, predictions: Predictions, part: slice, samples: SampleList
    ) -> dict[str, Tensor]:
        """mmdet's Mask2Former losses on a slice of the batch."""
        return self.panoptic_head.loss_on(
            part, predictions.classes, predictions.masks, samples
        )

    def contrast_loss(self, predictions: Predictions) -> dict[str, Tensor]:
        """``loss_pxl`` over the whole batch; nothing without ``pixel_contrast``."""
        if self.pixel_contrast is None or self.strong_view is None:
            return {}
        with torch.no_grad(), kept_statistics(self.backbone):
            strong = self.backbone(self.strong_view(predictions.inputs))
        return self.pixel_contrast.loss(
            predictions.encoder,
            strong,
            predictions.masks[-1].detach(),
            predictions.classes[-1].detach(),
        )

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """L_sup + lambda_pxl * L_pxl on a labelled batch (B, 3, H, W)."""
        predictions = self.forward_train(batch_inputs, batch_data_samples)
        return {
            **self.supervised_loss(predictions, slice(None), batch_data_samples),
            **self.contrast_loss(predictions),
        }
