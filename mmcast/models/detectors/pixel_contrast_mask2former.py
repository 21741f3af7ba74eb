"""Mask2Former with the pixel contrast as an additional loss.

It is CAST's student, and CAST's teacher if that is a Mask2Former
(arXiv 2505.21904). Without ``pixel_contrast`` it is mmdet's Mask2Former.
"""

from collections.abc import Sequence
from typing import Any

from mmdet.models.detectors import Mask2Former
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.config import ConfigDict
from torch import Tensor

from mmcast.models.dense_heads import InstanceFusionHead
from mmcast.models.views import normalization

from .student import Losses, Part


@MODELS.register_module()
class PixelContrastMask2Former(Mask2Former):
    """Mask2Former with an optional contrast of pixels of two views.

    Args:
        num_classes: Number of classes, all of them things. Both heads and the
            classification loss take it from here.
        classes: Class names, as other teachers have them; if given, their number
            counts instead of ``num_classes``.
        panoptic_head: Config of a ``SlicedMask2FormerHead``.
        panoptic_fusion_head: Config of an ``InstanceFusionHead``.
        pixel_contrast: Config of a ``PixelContrastHead``, or None.
        kwargs: As mmdet's ``Mask2Former``.

    Raises:
        ValueError: The fusion head is another one.
    """

    def __init__(
        self,
        num_classes: int,
        panoptic_head: ConfigDict,
        panoptic_fusion_head: ConfigDict,
        pixel_contrast: dict | None = None,
        classes: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        if classes is not None:
            num_classes = len(classes)
        counts = dict(num_things_classes=num_classes, num_stuff_classes=0)
        weights = [1.0] * num_classes + [0.1]  # of "no object"
        loss_cls = {**panoptic_head['loss_cls'], 'class_weight': weights}
        super().__init__(
            panoptic_head=ConfigDict(panoptic_head, loss_cls=loss_cls, **counts),
            panoptic_fusion_head=ConfigDict(panoptic_fusion_head, **counts),
            **kwargs,
        )
        if not isinstance(self.panoptic_fusion_head, InstanceFusionHead):
            raise ValueError(
                f'{type(self).__name__} cannot use '
                f'{type(self.panoptic_fusion_head).__name__}: set '
                "panoptic_fusion_head.type='InstanceFusionHead'"
            )
        self.pixel_contrast = None
        if pixel_contrast is not None:
            self.pixel_contrast = MODELS.build(
                pixel_contrast, default_args=normalization(self.data_preprocessor)
            )

    def losses(
        self, inputs: Tensor, parts: Sequence[Part]
    ) -> tuple[list[Losses], Losses]:
        """Compute Mask2Former's losses by part, and ``loss_pxl`` of the whole batch.

        Takes one forward pass; see :class:`~mmcast.models.detectors.student.Student`.
        """
        samples = [sample for _, of_part in parts for sample in of_part]
        encoder = self.backbone(inputs)
        features = self.neck(encoder) if self.with_neck else encoder
        classes, masks = self.panoptic_head(features, samples)
        by_part = self.panoptic_head.losses(parts, classes, masks)
        if self.pixel_contrast is None:
            return by_part, {}
        return by_part, self.pixel_contrast.loss(
            inputs,
            samples,
            self.backbone,
            encoder,
            masks[-1].detach(),
            classes[-1].detach(),
        )

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Losses:
        """Compute L_sup + lambda_pxl * L_pxl on a labelled batch (B, 3, H, W)."""
        parts = [(slice(None), batch_data_samples)]
        (supervised,), of_batch = self.losses(batch_inputs, parts)
        return {**supervised, **of_batch}

    def forward(
        self,
        inputs: Tensor,
        data_samples: SampleList | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run the network; the raw outputs of ``mode='tensor'`` are plain tensors."""
        outputs = super().forward(inputs, data_samples, mode)
        if mode != 'tensor':
            return outputs
        classes, masks = outputs
        return classes, [layer.dense() for layer in masks]

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Predict the instances of a batch (B, 3, H, W), as mmdet's Mask2Former."""
        features = self.extract_feat(batch_inputs)
        classes, masks = self.panoptic_head(features, batch_data_samples)
        results = self.panoptic_fusion_head.predict(
            classes[-1], masks[-1], batch_data_samples, rescale=rescale
        )
        return self.add_pred_to_datasample(batch_data_samples, results)
