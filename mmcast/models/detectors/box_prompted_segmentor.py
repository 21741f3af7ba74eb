"""Fine-tune a box-prompted segmenter on ground-truth boxes.

CAST fine-tunes SAM 2's prompt encoder and mask decoder, its image encoder frozen, with
20 * focal + dice on images stretched to 1024x1024 (research notebooks of its author).
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from mmcast.models.segmenters.masks import predict_masks

# Of an image at a time, which bounds memory; drawn at random in training.
MOST_BOXES = 32


@MODELS.register_module()
class BoxPromptedSegmentor(BaseDetector):
    """A segmenter as a detector: boxes are the annotated ones, masks are predicted.

    It unfreezes the parts of the segmenter that should train. In evaluation the
    annotated boxes are the prompts, too, so mask AP measures the masks alone.

    Args:
        segmenter: Config of a :class:`mmcast.models.segmenters.BoxSegmenter` with a
            method ``unfreeze``.
        loss_mask: Config of the loss on mask logits (n, H * W).
        loss_dice: Config of the loss on masks as a whole.
        data_preprocessor: RGB images in [0, 255], that is without mean and std.
    """

    def __init__(
        self,
        segmenter: dict,
        loss_mask: dict,
        loss_dice: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.segmenter = MODELS.build(segmenter)
        self.segmenter.unfreeze()
        self.loss_mask = MODELS.build(loss_mask)
        self.loss_dice = MODELS.build(loss_dice)

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Compute the mask losses of annotated boxes, averaged over images with boxes.

        Args:
            batch_inputs: RGB in [0, 255], float (B, 3, H, W).
            batch_data_samples: With ``gt_instances.bboxes`` and ``.masks``.

        Returns:
            ``loss_mask`` and ``loss_dice``.
        """
        losses: dict[str, list[Tensor]] = dict(loss_mask=[], loss_dice=[])
        for image, sample in zip(batch_inputs, batch_data_samples, strict=True):
            boxes = sample.gt_instances.bboxes
            if not len(boxes):
                continue
            height, width = sample.img_shape[:2]
            chosen = torch.randperm(len(boxes))[:MOST_BOXES]
            masks = sample.gt_instances.masks[chosen.numpy()]
            target = masks.to_tensor(torch.float32, image.device)
            target = target[:, :height, :width].flatten(1)
            logits, _ = self.segmenter.segment(
                self.segmenter.encode(image[:, :height, :width]),
                boxes[chosen.to(boxes.device)],
                (height, width),
            )
            logits = F.interpolate(
                logits[None].float(), (height, width), mode='bilinear'
            )[0].flatten(1)
            losses['loss_mask'].append(self.loss_mask(logits, target))
            losses['loss_dice'].append(self.loss_dice(logits, target))
        if not losses['loss_mask']:  # no annotation: zero, with a graph
            nothing = sum(
                p.sum() * 0 for p in self.segmenter.parameters() if p.requires_grad
            )
            return dict(loss_mask=nothing, loss_dice=nothing)
        return {name: torch.stack(values).mean() for name, values in losses.items()}

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Predict masks for the annotated boxes, with their labels and score 1.

        Args:
            batch_inputs: RGB in [0, 255], float (B, 3, H, W), not resized.
            batch_data_samples: With ``gt_instances``; ``pred_instances`` is added.
            rescale: Has no effect, since images are not resized.

        Raises:
            ValueError: The pipeline resizes images or loads no annotations.
        """
        for image, sample in zip(batch_inputs, batch_data_samples, strict=True):
            if sample.img_shape[:2] != sample.ori_shape[:2]:
                raise ValueError(
                    'BoxPromptedSegmentor evaluates images in their original size: '
                    'remove Resize from the test pipeline.'
                )
            if 'gt_instances' not in sample:
                raise ValueError(
                    'BoxPromptedSegmentor prompts with annotated boxes: add '
                    'LoadAnnotations to the test pipeline.'
                )
            given = sample.gt_instances
            height, width = sample.img_shape[:2]
            masks, _ = predict_masks(
                self.segmenter,
                image[:, :height, :width],
                given.bboxes,
                MOST_BOXES,
            )
            sample.pred_instances = InstanceData(
                bboxes=given.bboxes,
                labels=given.labels,
                scores=torch.ones(len(masks), device=masks.device),
                masks=masks,
            )
        return batch_data_samples

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Any:
        return self.predict(batch_inputs, batch_data_samples)

    def extract_feat(self, batch_inputs: Tensor) -> Any:
        """Encode each image with the segmenter, before any box."""
        return [self.segmenter.encode(image) for image in batch_inputs]
