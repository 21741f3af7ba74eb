"""CAST's teacher: a text-prompted box detector and a box-prompted segmenter.

CAST (arXiv 2505.21904) joins Grounding-DINO and SAM 2 one after the other: label and
score are the detector's, the mask is the segmenter's for that box; nothing is
multiplied, averaged or suppressed beyond what the detector does itself. The detector
learns, the segmenter is frozen (``BoxPromptedSegmentor`` fine-tunes it by itself).
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmcast.models.detectors.pixel_contrast_mask2former import kept_statistics
from mmcast.models.prompts import Prompts, check_text_encoder
from mmcast.models.segmenters.masks import predict_masks, remove_overlap
from mmcast.models.soft_instances import soft_instances
from mmcast.models.views import build_strong_view
from mmcast.models.weights import load_pretrained, load_whole


@dataclass
class TeacherPass:
    """A training pass over a batch of B images.

    Attributes:
        inputs: The batch, float (B, 3, H, W).
        samples: Its samples.
        encoder: The backbone's maps, each (b, C_i, h_i, w_i), of the slices that
            losses were taken of so far, which cover the batch in order.
    """

    inputs: Tensor
    samples: SampleList
    encoder: list[Sequence[Tensor]] = field(default_factory=list)


@MODELS.register_module()
class GroundedSam2(BaseDetector):
    """Boxes by text, masks by box.

    It trains, predicts and is evaluated as any detector of mmdet's, by itself and as
    ``student`` of :class:`SemiSupervisedSegmentor` (stage 1, step 2). The test pipeline
    resizes images as the detector wants them and keeps the loaded ones with
    ``KeepImage``, from which masks are predicted.

    Args:
        classes: Class names in label order.
        detector: Config of an mmdet detector. One with a ``language_model``
            (``GroundingDINO``, ``GLIP``) is prompted; any other has to know the
            classes. With ``init_cfg=dict(type='Pretrained', checkpoint=FILE)`` it
            starts from the weights of FILE, all of them.
        segmenter: Config of a :class:`mmcast.models.segmenters.BoxSegmenter`.
        prompts: Class name to the words that describe it to the detector; classes that
            are not in it are called by name.
        score_thr: Boxes of a score at or below it are dropped.
        max_per_img: Boxes of an image at most, the best.
        box_chunk: Boxes that the segmenter takes at a time.
        remove_overlap: Whether a pixel belongs to the best-scored instance only.
            Pseudo-labels are stored with their overlaps, and
            ``LoadPseudoAnnotations`` removes these on reading.
        pixel_contrast: Config of a ``PixelContrastHead`` on the detector's backbone, or
            None; see :meth:`contrast_loss`.
        strong_view: Config of the strong view; needed with ``pixel_contrast``.
        data_preprocessor: The detector's, RGB.

    Raises:
        FileNotFoundError: The text encoder's files are not where ``name`` says.
        ImportError: The segmenter's package is missing.
        ValueError: Prompts are unfit, or ``pixel_contrast`` comes without
            ``strong_view``.
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
        remove_overlap: bool = False,
        pixel_contrast: dict | None = None,
        strong_view: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if (pixel_contrast is None) != (strong_view is None):
            raise ValueError(
                'pixel_contrast and strong_view belong together: give both or none'
            )
        if 'language_model' in detector:
            check_text_encoder(detector['language_model']['name'])
        self.classes = tuple(classes)
        self.segmenter = MODELS.build(segmenter).requires_grad_(False)
        # A copy: mmdet's DETRs write into their config, which may be built from again.
        self.detector = MODELS.build(copy.deepcopy(detector))
        language_model = getattr(self.detector, 'language_model', None)
        if prompts and language_model is None:
            raise ValueError(
                f'{type(self.detector).__name__} reads no text: remove prompts.'
            )
        self.prompts: Prompts | None = None
        if language_model is not None:
            self.prompts = Prompts(self.classes, prompts, language_model)
        self.score_thr = score_thr
        self.max_per_img = max_per_img
        self.box_chunk = box_chunk
        self.remove_overlap = remove_overlap
        self.pixel_contrast = MODELS.build(pixel_contrast) if pixel_contrast else None
        self.strong_view = (
            build_strong_view(strong_view, self.data_preprocessor)
            if strong_view
            else None
        )

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
        init_cfg = self.detector.init_cfg
        if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
            # Not through the detector's own init_weights: mmdet's DETRs draw random
            # weights after they have loaded the file.
            source = init_cfg['checkpoint']
            content = load_pretrained(source)
            state = {
                name.removeprefix('detector.'): tensor
                for name, tensor in content.get('state_dict', content).items()
            }
            load_whole(self.detector, state, source)
        else:
            self.detector.init_weights()
        if self.pixel_contrast is not None:
            self.pixel_contrast.init_weights()

    def train(self, mode: bool = True) -> 'GroundedSam2':
        """Set the detector's mode; the segmenter stays in evaluation mode."""
        super().train(mode)
        self.segmenter.eval()
        return self

    # Prediction

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Boxes, and a mask for each.

        Args:
            batch_inputs: The detector's, float (B, 3, H, W).
            batch_data_samples: With ``image`` in their meta information if
                ``rescale``; it is removed, as nobody needs it any more.
            rescale: Whether results are in the loaded image's size; else in that of
                the detector's input, without padding.

        Returns:
            The samples with ``pred_instances``, n in descending score: ``bboxes``
            (n, 4) float, ``labels`` (n,) int64, ``scores`` (n,) float and ``masks``
            (n, H, W) bool. An instance without a pixel is left out.

        Raises:
            ValueError: The pipeline kept no image.
        """
        if rescale and any('image' not in sample for sample in batch_data_samples):
            raise ValueError(
                'GroundedSam2 needs the image as loaded: put '
                "dict(type='KeepImage') behind LoadImageFromFile in the test pipeline "
                "and 'image' into meta_keys of PackDetInputs."
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
        """The detector's best boxes, over all chunks of classes.

        Args:
            inputs: Float (B, 3, H, W).
            samples: Of the B images; not changed.
            rescale: Whether boxes are in the loaded image's size.

        Returns:
            For each image ``bboxes``, ``labels`` and ``scores`` in descending score;
            boxes lie within the image and have an area.
        """
        parts: list[list[InstanceData]] = [[] for _ in samples]
        labels = (
            self.prompts.chunks if self.prompts else [list(range(self.num_classes))]
        )
        with _features_once(self.detector, inputs):
            for chunk in labels:
                names = inputs.new_tensor(chunk, dtype=torch.long)
                asked = [self._bare(sample, chunk) for sample in samples]
                answered = self.detector.predict(inputs, asked, rescale=rescale)
                for part, sample in zip(parts, answered, strict=True):
                    found = sample.pred_instances
                    part.append(
                        InstanceData(
                            bboxes=found.bboxes,
                            scores=found.scores,
                            labels=names[found.labels],
                        )
                    )
        sizes = [s.ori_shape[:2] if rescale else s.img_shape[:2] for s in samples]
        return [
            self._best(InstanceData.cat(part), size)
            for part, size in zip(parts, sizes, strict=True)
        ]

    def _best(self, found: InstanceData, size: tuple[int, int]) -> InstanceData:
        """The best boxes that have an area inside the image."""
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
        masks = predict_masks(self.segmenter, image, found.bboxes, self.box_chunk)
        if self.remove_overlap:
            masks = remove_overlap(masks)
        found.masks = masks
        return found[masks.flatten(1).any(1)]

    def _bare(self, sample: DetDataSample, labels: Sequence[int]) -> DetDataSample:
        """A new sample of the same image, prompted with some classes."""
        meta = {k: v for k, v in sample.metainfo.items() if k != 'image'}
        if self.prompts is not None:
            meta.update(text=self.prompts.of(labels), custom_entities=True)
        return DetDataSample(metainfo=meta)

    def _pixels(self, image: Tensor, sample: DetDataSample) -> Tensor:
        """A normalised, padded input as RGB in [0, 255], without padding."""
        height, width = sample.img_shape[:2]
        preprocessor = self.data_preprocessor
        pixels = image[:, :height, :width] * preprocessor.std + preprocessor.mean
        return pixels.clamp(0, 255)

    # Training

    def forward_train(self, inputs: Tensor, samples: SampleList) -> TeacherPass:
        """Begin a training pass; the detector runs on each part's own loss.

        Args:
            inputs: Normalised, padded images, float (B, 3, H, W).
            samples: Data samples of the B images.
        """
        return TeacherPass(inputs, samples)

    def supervised_loss(
        self, predictions: TeacherPass, part: slice, samples: SampleList
    ) -> dict[str, Tensor]:
        """The detector's own losses on a slice of the batch.

        Args:
            predictions: Of the whole batch.
            part: The images that ``samples`` describe.
            samples: With ``gt_instances.bboxes`` and ``.labels``.
        """
        asked = [self._annotated(sample) for sample in samples]
        with _outputs_of(self.detector.backbone) as maps:
            losses = self.detector.loss(predictions.inputs[part], asked)
        predictions.encoder += maps
        return {
            name: value if isinstance(value, Tensor) else sum(v.mean() for v in value)
            for name, value in losses.items()
        }

    def _annotated(self, sample: DetDataSample) -> DetDataSample:
        """A new sample with a prompt, and with labels that count in it."""
        given = sample.gt_instances
        labels = given.labels
        shown = list(range(self.num_classes))
        if self.prompts is not None:
            shown = self.prompts.draw(labels.tolist())
            place = labels.new_zeros(self.num_classes)
            place[shown] = torch.arange(len(shown), device=labels.device)
            labels = place[labels]
        asked = self._bare(sample, shown)
        asked.gt_instances = InstanceData(bboxes=given.bboxes, labels=labels)
        return asked

    def contrast_loss(self, predictions: TeacherPass) -> dict[str, Tensor]:
        """``loss_pxl`` over the whole batch; nothing without ``pixel_contrast``.

        Embeddings are those of the detector's backbone;
        :mod:`mmcast.models.soft_instances` tells where negatives come from.
        """
        if self.pixel_contrast is None or self.strong_view is None:
            return {}
        with torch.no_grad(), kept_statistics(self.detector.backbone):
            strong = self.detector.backbone(self.strong_view(predictions.inputs))
        weak = [torch.cat(maps) for maps in zip(*predictions.encoder, strict=True)]
        masks, classes = self._soft_instances(predictions)
        return self.pixel_contrast.loss(weak, strong, masks, classes)

    @torch.no_grad()
    def _soft_instances(self, predictions: TeacherPass) -> tuple[Tensor, Tensor]:
        """What the whole teacher, as it predicts, says of the weak view."""
        inputs, samples = predictions.inputs, predictions.samples
        training = self.detector.training
        self.detector.eval()
        found = self.detect(inputs, samples, rescale=False)
        self.detector.train(training)
        return soft_instances(
            self.segmenter,
            [self._pixels(*each) for each in zip(inputs, samples, strict=True)],
            found,
            (inputs.shape[2], inputs.shape[3]),
            self.num_classes,
            self.box_chunk,
        )

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """The detector's losses, and lambda_pxl * L_pxl, on a labelled batch."""
        predictions = self.forward_train(batch_inputs, batch_data_samples)
        return {
            **self.supervised_loss(predictions, slice(None), batch_data_samples),
            **self.contrast_loss(predictions),
        }

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Any:
        return self.detect(batch_inputs, batch_data_samples, rescale=False)

    def extract_feat(self, batch_inputs: Tensor) -> Any:
        """The detector's features."""
        return self.detector.extract_feat(batch_inputs)


def _rgb(image: np.ndarray) -> Tensor:
    """(H, W, 3) BGR to (3, H, W) RGB."""
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)


@contextmanager
def _features_once(detector: Any, inputs: Tensor) -> Iterator[None]:
    """Let several predictions on one batch share the detector's image features."""
    features = detector.extract_feat(inputs)
    detector.extract_feat = lambda _: tuple(level.clone() for level in features)
    try:
        yield
    finally:
        del detector.extract_feat


@contextmanager
def _outputs_of(module: nn.Module) -> Iterator[list[Any]]:
    """Collect what a module returns in the meantime."""
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda _, __, out: outputs.append(out))
    try:
        yield outputs
    finally:
        handle.remove()
