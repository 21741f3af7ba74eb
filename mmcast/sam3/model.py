"""SAM 3 (transformers 5) for many classes of one image.

SAM 3 (arXiv 2511.16719) takes one noun phrase and finds all its instances. Here the
image is encoded once for all phrases, and masks of one object are suppressed within and
between classes, which SAM 3 does not do: a rider is a person, too. Everything else is
the library's own: pixels, scores and masks are those of ``Sam3Processor``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Sam3Model, Sam3Processor  # type: ignore[attr-defined]
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import logging

from mmcast.models.mask_nms import mask_nms
from mmcast.sam3.job import Job

logging.set_verbosity_error()
logging.disable_progress_bar()

# Suppression compares all pairs: this many times the instances that are kept at most.
_CANDIDATES = 4


@dataclass(frozen=True)
class Found:
    """The instances of one image, n in descending score.

    Attributes:
        labels: Indices of the prompts, int64 (n,).
        scores: Probability of the phrase, for the image and the instance, float32 (n,).
        boxes: xyxy in pixels, float32 (n, 4).
        masks: Bool (n, H, W), none of them empty.
        qualities: Mean probability inside each mask, float32 (n,).
    """

    labels: Tensor
    scores: Tensor
    boxes: Tensor
    masks: Tensor
    qualities: Tensor


def load_model(weights: str | Path, device: str | torch.device) -> Sam3Model:
    """Load SAM 3, each of its weights.

    Args:
        weights: Folder with ``config.json`` and ``model.safetensors`` as published.
        device: The device.

    Raises:
        ValueError: The file lacks a weight, has another one, or one of another shape.
    """
    model, report = Sam3Model.from_pretrained(
        weights,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        ignore_mismatched_sizes=True,  # told below, with the others
        output_loading_info=True,
    )
    wrong = [
        f'{len(report[key])} weights are {what}, as {min(map(str, report[key]))}'
        for key, what in (
            ('missing_keys', 'missing'),
            ('unexpected_keys', 'unknown'),
            ('mismatched_keys', 'of another shape'),
        )
        if report[key]
    ]
    if wrong:
        raise ValueError(
            f'{weights}/model.safetensors is not SAM 3 as published ({"; ".join(wrong)}'
            '): download it again, with its config.json'
        )
    return model.eval().requires_grad_(False).to(device)


def load_labeller(job: Job) -> 'Sam3Labeller':
    """Make the labeller of a job."""
    return Sam3Labeller(
        load_model(job.weights, job.device),
        Sam3Processor.from_pretrained(job.weights, local_files_only=True),
        job.prompts,
        chunk=job.chunk,
        iou_thr=job.iou_thr,
    )


class Sam3Labeller:
    """SAM 3 with one prompt for each class.

    Args:
        model: The model.
        processor: Its processor.
        prompts: A noun phrase for each class.
        chunk: Prompts that run together; bounds the memory.
        iou_thr: A mask is suppressed if its intersection over union with a better one,
            of any class, is above this.
    """

    def __init__(
        self,
        model: Sam3Model,
        processor: Sam3Processor,
        prompts: Sequence[str],
        *,
        chunk: int,
        iou_thr: float,
    ) -> None:
        self.model = model
        self.processor = processor
        self.iou_thr = iou_thr
        self.chunk = chunk
        # As Meta runs it. Weights of this type would round boxes to 1/256 of the image.
        self.precision = torch.autocast(
            model.device.type, torch.bfloat16, enabled=model.device.type == 'cuda'
        )
        with torch.inference_mode(), self.precision:
            self.texts = [
                self._encode_text([*prompts[start : start + chunk]])
                for start in range(0, len(prompts), chunk)
            ]

    def _encode_text(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return features (n, 32, C) and mask (n, 32) of some prompts.

        Raises:
            ValueError: A prompt is too long.
        """
        limit = self.model.config.text_config.max_position_embeddings - 2
        for prompt in prompts:
            # Without the tokens of its start and end.
            length = len(self.processor.tokenizer(prompt).input_ids) - 2
            if length > limit:
                raise ValueError(
                    f'the phrase {prompt!r} has {length} tokens, and the text encoder '
                    f'reads {limit}: shorten it'
                )
        tokens = self.processor(text=prompts, return_tensors='pt')
        tokens = tokens.to(self.model.device)
        found = self.model.get_text_features(tokens.input_ids, tokens.attention_mask)
        return found.pooler_output, tokens.attention_mask

    @torch.inference_mode()
    def __call__(
        self, image: np.ndarray, min_score: float, max_instances: int
    ) -> Found:
        """Find the instances of all classes.

        Args:
            image: RGB uint8 (H, W, 3).
            min_score: Least score.
            max_instances: So many of the best at most.
        """
        with self.precision:
            labels, scores, boxes, logits = self._candidates(image, min_score)
        best = scores.argsort(descending=True, stable=True)
        best = best[: _CANDIDATES * max_instances]
        labels, scores, boxes = labels[best], scores[best], boxes[best]
        chances = logits[best].sigmoid()
        inside = chances > 0.5
        kept = mask_nms(inside, scores, self.iou_thr)[:max_instances]
        height, width = image.shape[:2]
        # One at a time: the masks of an image of 33 megapixels need much memory.
        masks = torch.zeros(len(kept), height, width, dtype=torch.bool)
        some: list[int] = []  # those that have a pixel; no copy leaves out the others
        for i, place in enumerate(kept.tolist()):
            chance = chances[place][None, None]
            masks[len(some)] = (
                F.interpolate(chance, (height, width), mode='bilinear')[0, 0] > 0.5
            )
            if masks[len(some)].any():
                some.append(i)
        kept = kept[some]
        area = inside[kept].sum((1, 2)).clamp(min=1)
        qualities = (chances[kept] * inside[kept]).sum((1, 2)) / area
        scale = boxes.new_tensor([width, height, width, height])
        return Found(
            labels=labels[kept].cpu(),
            scores=scores[kept].cpu(),
            boxes=(boxes[kept] * scale).cpu(),
            masks=masks[: len(some)],
            qualities=qualities.cpu(),
        )

    def _candidates(
        self, image: np.ndarray, min_score: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return labels, scores, boxes (in [0, 1]) and mask logits above a score."""
        # Without the format an image of 1, 3 or 4 rows has so many channels.
        inputs = self.processor(
            images=image, input_data_format='channels_last', return_tensors='pt'
        )
        pixels = inputs.pixel_values.to(self.model.device)
        seen = self.model.get_vision_features(pixels)
        found = []
        for i, (features, mask) in enumerate(self.texts):
            outputs: Any = self.model(
                vision_embeds=_repeated(seen, len(features)),
                text_embeds=BaseModelOutputWithPooling(pooler_output=features),  # type: ignore[arg-type]
                attention_mask=mask,
            )
            present = outputs.presence_logits.float().sigmoid()
            scores = outputs.pred_logits.float().sigmoid() * present
            prompt, query = (scores >= min_score).nonzero(as_tuple=True)
            found.append(
                (
                    prompt + i * self.chunk,
                    scores[prompt, query],
                    outputs.pred_boxes[prompt, query].float(),
                    outputs.pred_masks[prompt, query].float(),
                )
            )
        labels, scores, boxes, logits = map(torch.cat, zip(*found, strict=True))
        return labels, scores, boxes, logits


def _repeated(seen: Any, count: int) -> Any:
    """Return one image's features for several prompts, without copies."""
    return type(seen)(
        fpn_hidden_states=tuple(
            each.expand(count, -1, -1, -1) for each in seen.fpn_hidden_states
        ),
        fpn_position_encoding=tuple(
            each.expand(count, -1, -1, -1) for each in seen.fpn_position_encoding
        ),
    )
