"""CAST's teacher: a text-prompted box detector and a box-prompted segmenter.

CAST (arXiv 2505.21904) runs Grounding-DINO and then SAM 2: label and score are the
detector's, the mask is the segmenter's for that box. Nothing is multiplied, averaged or
suppressed beyond what the detector does itself. The detector learns, the segmenter is
frozen (``BoxPromptedSegmentor`` fine-tunes it separately).
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmcast.checkpoints import State, load_strict, pretrained_source
from mmcast.models.prompts import Prompts, check_text_encoder
from mmcast.models.segmenters.masks import (
    check_takes_masks,
    predict_masks,
    remove_overlap,
)

from .student import Losses, given_features, stock_losses


@MODELS.register_module()
class GroundedSam2(BaseDetector):
    """Boxes by text, masks by box.

    It trains, predicts and is evaluated like any detector of mmdet, alone and as
    ``student`` of :class:`SemiSupervisedSegmentor` (stage 1, step 2). The test pipeline
    resizes images for the detector and keeps the loaded ones with ``KeepImage``; masks
    are predicted from these.

    Args:
        classes: Class names in label order.
        detector: Config of an mmdet detector. One with a ``language_model``
            (``GroundingDINO``, ``GLIP``) is prompted; any other must have the same
            classes. With ``init_cfg=dict(type='Pretrained', checkpoint=FILE)`` it
            starts from FILE, which must hold all its weights.
        segmenter: Config of a :class:`mmcast.models.segmenters.BoxSegmenter`.
        prompts: Class name to the words that describe it to the detector; other
            classes are called by name.
        score_thr: Boxes with a score at or below it are dropped.
        max_per_img: Most boxes of an image; the best are kept.
        box_chunk: Boxes that the segmenter takes at a time.
        mask_prompts: Whether the detector's masks are prompts, too: for a detector that
            predicts masks and a segmenter that takes them, as `CropSegmenter`.
        remove_overlap: Whether a pixel belongs to the best-scored instance only.
            Pseudo-labels are stored with their overlaps;
            ``LoadPseudoAnnotations`` removes these on reading.
        data_preprocessor: The detector's, RGB.

    Raises:
        FileNotFoundError: The text encoder's files are not in its folder.
        ImportError: The segmenter's package is missing.
        ValueError: A prompt cannot be used.
    """

    def __init__(
        self,
        classes: Sequence[str],
        detector: dict,
        segmenter: dict,
        prompts: dict[str, str] | None = None,
        score_thr: float = 0.05,
        max_per_img: int = 100,
        box_chunk: int = 32,
        mask_prompts: bool = False,
        remove_overlap: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if 'language_model' in detector:
            check_text_encoder(detector['language_model']['name'])
        self.classes = tuple(classes)
        self.segmenter = MODELS.build(segmenter).requires_grad_(False)
        # A copy: mmdet's DETRs change their config, and it may be used again.
        self.detector = MODELS.build(copy.deepcopy(detector))
        language_model = getattr(self.detector, 'language_model', None)
        if prompts and language_model is None:
            raise ValueError(
                f'{type(self.detector).__name__} reads no text: remove prompts.'
            )
        self.prompts: Prompts | None = None
        if language_model is not None:
            self.prompts = Prompts(self.classes, prompts, language_model)
        if mask_prompts:
            check_takes_masks(self.segmenter, 'mask_prompts')
        self.score_thr = score_thr
        self.max_per_img = max_per_img
        self.box_chunk = box_chunk
        self.mask_prompts = mask_prompts
        self.remove_overlap = remove_overlap

    @property
    def backbone(self) -> nn.Module:
        """The detector's backbone."""
        return self.detector.backbone

    @property
    def num_classes(self) -> int:
        """Number of classes the teacher tells apart."""
        return len(self.classes)

    def init_weights(self) -> None:
        """Load the files of both parts' ``init_cfg``, each whole or not at all.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: It is not of the configured architecture.
        """
        self.segmenter.init_weights()
        source = pretrained_source(self.detector)
        if source is not None:
            # Not through the detector's own init_weights: mmdet's DETRs draw random
            # weights after they have loaded the file.
            load_strict(self.detector, source, _of_detector)
        else:
            self.detector.init_weights()

    def train(self, mode: bool = True) -> 'GroundedSam2':
        """Set the detector's mode; the segmenter stays in evaluation mode."""
        super().train(mode)
        self.segmenter.eval()
        return self

    # Prediction

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Predict boxes, and a mask for each.

        Args:
            batch_inputs: The detector's, float (B, 3, H, W).
            batch_data_samples: With ``image`` in their meta information if
                ``rescale``; it is removed afterwards.
            rescale: Whether results are in the loaded image's size; else in that of
                the detector's input, without padding.

        Returns:
            The samples with ``pred_instances``, n in descending score: ``bboxes``
            (n, 4) float, ``labels`` (n,) int64, ``scores`` (n,) float and ``masks``
            (n, H, W) bool. An instance without a pixel is left out. ``class_scores``
            are the scores again; ``mask_qualities`` (n,) are the segmenter's, if it
            has them.

        Raises:
            ValueError: The pipeline kept no image.
        """
        if rescale and any('image' not in sample for sample in batch_data_samples):
            raise ValueError(
                'GroundedSam2 needs the image as loaded: put '
                "dict(type='KeepImage') after LoadImageFromFile in the test pipeline, "
                "and add 'image' to meta_keys of PackDetInputs."
            )
        found = self.detect(batch_inputs, batch_data_samples, rescale=rescale)
        for i, sample in enumerate(batch_data_samples):
            if rescale:
                image = _rgb(sample.image).to(batch_inputs.device)
                del sample.image
            else:
                image = self._pixels(batch_inputs[i], sample)
            sample.pred_instances = self._segment(image, found[i])
        return batch_data_samples

    def detect(
        self, inputs: Tensor, samples: SampleList, rescale: bool
    ) -> list[InstanceData]:
        """Return the detector's best boxes, over all chunks of classes.

        Args:
            inputs: Float (B, 3, H, W).
            samples: Of the B images; not changed.
            rescale: Whether boxes are in the loaded image's size.

        Returns:
            For each image ``bboxes``, ``labels`` and ``scores`` in descending score;
            boxes are inside the image and have an area. With ``mask_prompts`` also
            ``masks``, bool (n, H, W).
        """
        parts: list[list[InstanceData]] = [[] for _ in samples]
        labels = (
            self.prompts.chunks if self.prompts else [list(range(self.num_classes))]
        )
        features = self.detector.extract_feat(inputs)
        for chunk in labels:
            names = inputs.new_tensor(chunk, dtype=torch.long)
            asked = [self._bare(sample, chunk) for sample in samples]
            # Clones, since the detector changes features in place.
            with given_features(self.detector, [level.clone() for level in features]):
                answered = self.detector.predict(inputs, asked, rescale=rescale)
            for part, sample in zip(parts, answered, strict=True):
                found = sample.pred_instances
                if self.mask_prompts and 'masks' not in found:
                    raise ValueError(
                        f'{type(self.detector).__name__} predicts no masks: remove '
                        'mask_prompts.'
                    )
                masks = dict(masks=found.masks) if self.mask_prompts else {}
                part.append(
                    InstanceData(
                        bboxes=found.bboxes,
                        scores=found.scores,
                        labels=names[found.labels],
                        **masks,
                    )
                )
        sizes = [s.ori_shape[:2] if rescale else s.img_shape[:2] for s in samples]
        return [
            self._best(InstanceData.cat(part), size)
            for part, size in zip(parts, sizes, strict=True)
        ]

    def _best(self, found: InstanceData, size: tuple[int, int]) -> InstanceData:
        """Return the best boxes that have an area inside the image."""
        height, width = size
        boxes = found.bboxes.clone()
        boxes[:, 0::2].clamp_(0, width)
        boxes[:, 1::2].clamp_(0, height)
        found.bboxes = boxes
        area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
        found = found[(found.scores > self.score_thr) & (area > 0)]
        order = torch.argsort(found.scores, descending=True, stable=True)
        return found[order[: self.max_per_img]]

    def _segment(self, image: Tensor, found: InstanceData) -> InstanceData:
        masks, qualities = predict_masks(
            self.segmenter,
            image,
            found.bboxes,
            self.box_chunk,
            found.get('masks'),
        )
        if qualities is not None:
            found.class_scores = found.scores
            found.mask_qualities = qualities
        if self.remove_overlap:
            masks = remove_overlap(masks)
        found.masks = masks
        return found[masks.flatten(1).any(1)]

    def _bare(self, sample: DetDataSample, labels: Sequence[int]) -> DetDataSample:
        """Make a new sample of the same image, prompted with some classes."""
        meta = {k: v for k, v in sample.metainfo.items() if k != 'image'}
        if self.prompts is not None:
            meta.update(text=self.prompts.of(labels), custom_entities=True)
        return DetDataSample(metainfo=meta)

    def _pixels(self, image: Tensor, sample: DetDataSample) -> Tensor:
        """Turn a normalised, padded input into RGB in [0, 255], without padding."""
        height, width = sample.img_shape[:2]
        preprocessor = self.data_preprocessor
        pixels = image[:, :height, :width] * preprocessor.std + preprocessor.mean
        return pixels.clamp(0, 255)

    # Training

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Losses:
        """Compute the detector's losses on images and their boxes.

        Args:
            batch_inputs: Float (B, 3, H, W).
            batch_data_samples: With ``gt_instances``: ``bboxes``, ``labels`` and, for a
                detector that learns them, ``masks``; they are not changed.
        """
        # Clones, since the detector changes features in place.
        features = [level.clone() for level in self.extract_feat(batch_inputs)]
        asked = [self._annotated(sample) for sample in batch_data_samples]
        return stock_losses(self.detector, batch_inputs, asked, features)

    def _annotated(self, sample: DetDataSample) -> DetDataSample:
        """Make a new sample with a prompt, and with labels that index its classes."""
        given = sample.gt_instances
        labels = given.labels
        shown = list(range(self.num_classes))
        if self.prompts is not None:
            shown = self.prompts.draw(labels.tolist())
            place = labels.new_zeros(self.num_classes)
            place[shown] = torch.arange(len(shown), device=labels.device)
            labels = place[labels]
        asked = self._bare(sample, shown)
        masks = dict(masks=given.masks) if 'masks' in given else {}
        asked.gt_instances = InstanceData(bboxes=given.bboxes, labels=labels, **masks)
        return asked

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Any:
        return self.detect(batch_inputs, batch_data_samples, rescale=False)

    def extract_feat(self, batch_inputs: Tensor) -> Any:
        """Return the detector's features."""
        return self.detector.extract_feat(batch_inputs)


def _rgb(image: np.ndarray) -> Tensor:
    """Turn (H, W, 3) BGR into (3, H, W) RGB."""
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)


def _of_detector(state: State) -> State:
    return {name.removeprefix('detector.'): value for name, value in state.items()}
