"""Fine-tune a box-prompted segmenter on ground-truth boxes.

CAST fine-tunes SAM 2's prompt encoder and mask decoder, its image encoder frozen, with
20 * focal + dice on images stretched to 1024x1024 (research notebooks of its author).
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch import Tensor

from mmcast.models.segmenters.mask_prompts import rough_mask
from mmcast.models.segmenters.masks import check_takes_masks, predict_masks

# Of an image at a time, which bounds memory; drawn at random in training.
MOST_BOXES = 32


@MODELS.register_module()
class BoxPromptedSegmentor(BaseDetector):
    """A segmenter as a detector: boxes are the annotated ones, masks are predicted.

    It unfreezes the parts of the segmenter that should train. In evaluation the
    annotated boxes are the prompts, too, so mask AP measures the masks alone.

    Args:
        segmenter: Config of a :class:`mmcast.models.segmenters.BoxSegmenter` with a
            method ``unfreeze``. If it has a method ``compare``, as `CropSegmenter`,
            that gives what the losses compare; else it is the masks of the image.
        loss_mask: Config of the loss on mask logits (n, H * W).
        loss_dice: Config of the loss on masks as a whole.
        box_noise: How far a box's sides are moved in training, since those of a
            detector are not exact: the largest standard deviation over its width or
            height. Each box draws its own one, from 0 on. SAM (arXiv 2304.02643,
            appendix A) has 0.1 for all; CAST moves none.
        rough_masks: The share of the objects of which the segmenter is given a rough
            mask, too (:func:`mmcast.models.segmenters.mask_prompts.rough_mask`).
        data_preprocessor: RGB images in [0, 255], that is without mean and std.

    Raises:
        ValueError: There are rough masks for a segmenter that takes none.
    """

    def __init__(
        self,
        segmenter: dict,
        loss_mask: dict,
        loss_dice: dict,
        box_noise: float = 0.0,
        rough_masks: float = 0.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.segmenter = MODELS.build(segmenter)
        self.segmenter.unfreeze()
        if rough_masks:
            check_takes_masks(self.segmenter, 'rough_masks')
        self.loss_mask = MODELS.build(loss_mask)
        self.loss_dice = MODELS.build(loss_dice)
        self.box_noise = box_noise
        self.rough_masks = rough_masks

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
            target = target[:, :height, :width]
            given = (
                self.segmenter.encode(image[:, :height, :width]),
                self._moved(boxes[chosen.to(boxes.device)]),
            )
            more = []
            if self.rough_masks:
                more.append(self._roughened(masks)[:, :height, :width].to(image))
            if hasattr(self.segmenter, 'compare'):
                logits, target = self.segmenter.compare(*given, target, *more)
            else:
                logits, _ = self.segmenter.segment(*given, (height, width), *more)
                logits = F.interpolate(
                    logits[None].float(), (height, width), mode='bilinear'
                )[0].flatten(1)
                target = target.flatten(1)
            losses['loss_mask'].append(self.loss_mask(logits, target))
            losses['loss_dice'].append(self.loss_dice(logits, target))
        if not losses['loss_mask']:  # no annotation: zero, with a graph
            nothing = sum(
                p.sum() * 0 for p in self.segmenter.parameters() if p.requires_grad
            )
            return dict(loss_mask=nothing, loss_dice=nothing)
        return {name: torch.stack(values).mean() for name, values in losses.items()}

    def _moved(self, boxes: Tensor) -> Tensor:
        """Return boxes (n, 4) with noise; one that would vanish stays."""
        if not self.box_noise:
            return boxes
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        noise = self.box_noise * torch.rand_like(boxes[:, :1])
        moved = boxes + noise * sides * torch.randn_like(boxes)
        good = (moved[:, 2:] - moved[:, :2] >= 1).all(1, keepdim=True)
        return torch.where(good, moved, boxes)

    def _roughened(self, masks: BitmapMasks) -> Tensor:
        """Return rough masks of some objects, float (n, H, W): 1, -1, or 0 for none."""
        random = np.random.default_rng(int(torch.randint(2**31, (1,))))
        found = torch.zeros(len(masks), masks.height, masks.width)
        for i, mask in enumerate(masks.masks.astype(bool)):
            if random.random() < self.rough_masks and mask.any():
                found[i] = torch.from_numpy(rough_mask(mask, random)) * 2.0 - 1
        return found

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
