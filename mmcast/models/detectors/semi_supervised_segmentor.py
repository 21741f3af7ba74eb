"""The teacher-student wrapper: one objective over two sources of images.

    J = L_sup(labelled) + lambda_semi * L_semi(unlabelled) + lambda_pxl * L_pxl(both)

Source: CAST (arXiv 2505.21904), its unified objective. Features of both batches are
computed once, together; each part then has its own losses. With a teacher inside,
``query_rule`` and ``strong_view`` the wrapper is Guided Distillation (arXiv
2308.02668); that method's own code runs the student once per source, each time with its
own batch norm statistics.

Labels that are unsure are dropped, never marked as ``ignored_instances``: the heads of
RTMDet-Ins, CondInst and SOLOv2 do not read these.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector, MaskFormer
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmcast.models.dense_heads.pixel_contrast_head import labeled_instances
from mmcast.models.factored_masks import as_factored
from mmcast.models.losses import Grid
from mmcast.models.mask_nms import mask_nms
from mmcast.models.pseudo_labels import (
    mask_boxes,
    query_pseudo_labels,
    teacher_stats,
)
from mmcast.models.views import normalization, renormalize

from .student import (
    Losses,
    Part,
    check_student,
    class_count,
    stock_losses,
    teacher_config_from_student,
)
from .two_sources import check_sources, pad_and_join


@MODELS.register_module()
class SemiSupervisedSegmentor(BaseDetector):
    """A student trained on labelled and pseudo-labelled images together.

    Batches come from mmdet's ``MultiBranch`` with the branches ``sup`` and
    ``unsup``; a batch without branches is labelled. Without ``teacher`` the unlabelled
    samples carry pseudo-labels (offline, from a store). With it, the teacher labels
    each batch's own view, in full precision; a batch on which it finds nothing adds
    nothing to the loss. A teacher with another normalisation sees the view as its own
    data preprocessor would give it.

    The student is any detector of mmdet that predicts masks. Backbone and neck, and so
    their batch norm, see both sources as one batch; batch norm in a head sees one
    after the other.

    Args:
        student: The detector's config. Its data preprocessor is used for both branches.
        teacher: Config of a detector that labels online and never trains here;
            ``TeacherUpdateHook`` makes it follow the student. Without a ``type``,
            ``dict(checkpoint=FILE)``: see :func:`teacher_config_from_student`.
        score_thr: Online pseudo-labels must have a higher score.
        min_area: Their masks must have at least so many pixels.
        query_rule: Arguments of :func:`query_pseudo_labels`, which turns the logits of
            a MaskFormer or Mask2Former teacher into labels. It replaces ``score_thr``,
            ``min_area`` and the teacher's post-processing.
        nms_thr: Of two online pseudo-labels whose masks have a higher intersection over
            union, the one with the lower score is dropped, also if its class is
            another; None keeps both.
        strong_view: Config of the photometric view that the student gets of the
            unlabelled images; None for the teacher's view. A pixel contrast makes its
            second view from this one.
        semi_weight: lambda_semi, the weight of the losses on unlabelled images.
        pixel_contrast: Config of a ``PixelContrastHead``; its ``loss.loss_weight`` is
            lambda_pxl. The labels of the batch stand for queries, see
            :func:`labeled_instances`: a design of this project, so it is off by
            default. A batch in which the teacher found nothing is contrasted without
            its unlabelled images; if one image is left then, it has no negatives of
            other images, and the loss is 0. A Mask2Former of this package has the key
            itself, and contrasts by its predictions, as published.
        contrast_on: ``'backbone'`` or ``'neck'``; ``pixel_contrast.in_index`` is one of
            its maps.
        predict_on: ``'student'`` or ``'teacher'``: which one predicts.
        data_preprocessor: Of a student that has none. A runner gives the one at the top
            level of a config, as some of mmdet's have.

    Raises:
        ValueError: The student cannot be trained here, or the arguments need a teacher,
            or one of another kind.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict | None = None,
        score_thr: float = 0.3,
        min_area: int = 1,
        query_rule: dict | None = None,
        nms_thr: float | None = None,
        strong_view: dict | None = None,
        semi_weight: float = 1.0,
        pixel_contrast: dict | None = None,
        contrast_on: str = 'neck',
        predict_on: str = 'student',
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        data_preprocessor = student.get('data_preprocessor') or data_preprocessor
        if not data_preprocessor:
            raise ValueError(
                'model.student has no data_preprocessor: give the one of its stock '
                "config, as dict(type='DetDataPreprocessor', mean=..., std=..., "
                'pad_mask=True)'
            )
        super().__init__(
            data_preprocessor=dict(
                type='MultiBranchDataPreprocessor',
                data_preprocessor=data_preprocessor,
            ),
            init_cfg=init_cfg,
        )
        # Every training batch passes the preprocessor first, also under DDP.
        self.data_preprocessor.register_forward_pre_hook(
            check_sources, with_kwargs=True
        )
        if teacher and 'type' not in teacher:
            teacher = teacher_config_from_student(student, teacher)
        self.student: Any = MODELS.build(student)
        check_student(self.student)
        self.is_stock = not hasattr(self.student, 'losses')
        self.teacher: Any = MODELS.build(teacher) if teacher else None
        if self.teacher is not None:
            self.teacher.requires_grad_(False)
            counts = class_count(self.teacher), self.num_classes
            if None not in counts and counts[0] != counts[1]:
                raise ValueError(
                    f'the teacher knows {counts[0]} classes and the student '
                    f'{counts[1]}, so its labels would mean other classes: give a '
                    'teacher of the same classes, in the same order'
                )
        # Whether the teacher takes other colours than the student.
        own = (teacher or {}).get('data_preprocessor') or data_preprocessor
        self._renormalize = _colours(own) != _colours(data_preprocessor)
        if query_rule is not None and not isinstance(self.teacher, MaskFormer):
            raise ValueError(
                'query_rule reads the logits of a MaskFormer or Mask2Former teacher: '
                'give such a teacher, or query_rule=None for its predictions above '
                'score_thr'
            )
        if predict_on not in ('student', 'teacher') or not getattr(self, predict_on):
            raise ValueError(
                f"predict_on={predict_on!r} must be 'student', or 'teacher' if there "
                'is one'
            )
        self.score_thr = score_thr
        self.min_area = min_area
        self.query_rule = query_rule
        self.nms_thr = nms_thr
        self.strong_view: nn.Module | None = None
        if strong_view is not None:
            self.strong_view = MODELS.build(
                strong_view,
                default_args=normalization(self.data_preprocessor.data_preprocessor),
            )
        self.semi_weight = semi_weight
        self.pixel_contrast: Any = None
        self.contrast_on = contrast_on
        if pixel_contrast is not None:
            self.pixel_contrast = self._contrast(pixel_contrast)
        # TeacherUpdateHook sets it to False until there is a teacher to learn from.
        self.labeling_enabled = True
        # mmdet's TeacherStudentValLoop changes it by this name.
        self.semi_test_cfg = dict(predict_on=predict_on)

    def _contrast(self, pixel_contrast: dict) -> nn.Module:
        if not self.is_stock:
            raise ValueError(
                f'{type(self.student).__name__} contrasts by its own predictions: give '
                'model.student.pixel_contrast, not model.pixel_contrast'
            )
        if self.contrast_on not in ('backbone', 'neck'):
            raise ValueError(
                f"contrast_on={self.contrast_on!r} must be 'backbone' or 'neck'"
            )
        if self.num_classes is None:
            raise ValueError(
                f'the heads of {type(self.student).__name__} have no num_classes, or '
                'different ones: the contrast needs it, so remove model.pixel_contrast'
            )
        return MODELS.build(
            pixel_contrast,
            default_args=normalization(self.data_preprocessor.data_preprocessor),
        )

    @property
    def num_classes(self) -> int | None:
        """Number of classes the student tells apart; None if its heads disagree."""
        return class_count(self.student)

    def train(self, mode: bool = True) -> 'SemiSupervisedSegmentor':
        """Set the student's mode; the teacher stays in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def loss(
        self,
        batch_inputs: dict[str, Tensor],
        batch_data_samples: dict[str, SampleList],
    ) -> Losses:
        """Compute the weighted losses of both branches.

        Args:
            batch_inputs: Images of ``sup`` (B_l, 3, H_l, W_l) and maybe of ``unsup``.
            batch_data_samples: Their samples.

        Returns:
            ``sup_*``, ``unsup_*`` (losses are already times ``semi_weight``) and maybe
            ``loss_pxl``; with a teacher also ``teacher_*``, see :func:`teacher_stats`.
        """
        labeled = batch_data_samples['sup']
        unlabeled = batch_data_samples.get('unsup', [])
        count = len(labeled)
        inputs = pad_and_join(
            [batch_inputs[each] for each in ('sup', 'unsup') if each in batch_inputs],
            [*labeled, *unlabeled],
            # Heads that crop masks would see another edge; others want one size.
            pad_masks=not hasattr(self.student, 'roi_head'),
        )
        has_labels = True  # the unlabelled part
        stats: dict[str, Tensor] = {}
        if self.teacher is not None and unlabeled:
            has_labels = self.labeling_enabled
            if has_labels:
                truth = unlabeled
                unlabeled = self.pseudo_label(inputs[count:], truth)
                stats = teacher_stats(inputs[count:], unlabeled, truth)
                # Otherwise an unsure teacher would teach that there is nothing.
                has_labels = any(len(sample.gt_instances) for sample in unlabeled)
        if unlabeled and self.strong_view is not None:
            sizes = [sample.img_shape[:2] for sample in unlabeled]
            strong = self.strong_view(inputs[count:], sizes)
            inputs = torch.cat([inputs[:count], strong])
        parts = [(slice(None, count), labeled)]
        if unlabeled:
            parts.append((slice(count, None), unlabeled))
        by_part, of_batch = self._losses(inputs, parts, has_labels)
        losses = {f'sup_{name}': value for name, value in by_part[0].items()}
        semi_weight = self.semi_weight if has_labels else 0.0
        for name, value in by_part[-1].items() if unlabeled else ():
            is_loss = 'loss' in name  # not an accuracy
            losses[f'unsup_{name}'] = semi_weight * value if is_loss else value
        return {**losses, **of_batch, **stats}

    def _losses(
        self, inputs: Tensor, parts: Sequence[Part], have_labels: bool
    ) -> tuple[list[Losses], Losses]:
        """Compute the student's losses by part, and those of the whole batch."""
        if not self.is_stock:
            return self.student.losses(inputs, parts)
        maps: list[Any] = []  # of the backbone
        hook = None
        if self.pixel_contrast is not None and self.contrast_on == 'backbone':
            hook = self.student.backbone.register_forward_hook(
                lambda _, __, output: maps.append(output)
            )
        features = self.student.extract_feat(inputs)
        if hook is not None:
            hook.remove()
        by_part = [
            stock_losses(
                self.student, inputs[part], samples, [level[part] for level in features]
            )
            for part, samples in parts
        ]
        if self.pixel_contrast is None:
            return by_part, {}
        encoder: Any = self.student.extract_feat
        weak = features
        if self.contrast_on == 'backbone':
            encoder, weak = self.student.backbone, maps[0]
        # Images without labels would pass for empty ones.
        used = parts if have_labels else parts[:1]
        samples = [sample for _, of_part in used for sample in of_part]
        inputs = inputs[: len(samples)]
        weak = [level[: len(samples)] for level in weak]
        padded = (inputs.shape[2], inputs.shape[3])
        sizes = [sample.img_shape[:2] for sample in samples]
        assert self.num_classes is not None  # checked in the constructor
        instances = labeled_instances(
            samples,
            self.pixel_contrast.grid(weak, sizes, padded),
            padded,
            self.num_classes,
            inputs.device,
        )
        return by_part, self.pixel_contrast.loss(
            *(inputs, samples, encoder, weak, *instances),
            may_be_alone=len(used) < len(parts),
        )

    @torch.no_grad()
    def pseudo_label(self, inputs: Tensor, samples: SampleList) -> SampleList:
        """Label a batch with the online teacher.

        Args:
            inputs: Weak views (B, 3, H, W).
            samples: Their samples; not changed.

        Returns:
            New samples. Their ``gt_instances`` hold ``labels``, ``scores``, ``bboxes``
            in pixels, which are the masks' own, and ``masks``: ``BitmapMasks`` of the
            padded image. A student of this package, whose head reads masks at points,
            gets a bool tensor (n, h, w) over the padded image, of the image's size, or
            of the logits' with ``query_rule``. No mask reaches into the margin. Their
            ``proposed`` is the number of instances that the teacher chose from.
        """
        # The view is the image: heads compute its size from the first two, and turn the
        # masks of a flipped image back.
        bare = [
            DetDataSample(
                metainfo={
                    **sample.metainfo,
                    'ori_shape': sample.img_shape[:2],
                    'scale_factor': (1.0, 1.0),
                    'flip': False,
                }
            )
            for sample in samples
        ]
        inputs = self._seen_by_teacher(inputs, samples)
        label = self._label_by_score if self.query_rule is None else self._label_queries
        labeled = []
        with torch.autocast(inputs.device.type, enabled=False):
            for sample, (found, proposed) in zip(
                samples, label(inputs, bare), strict=True
            ):
                if self.nms_thr is not None:
                    found = found[mask_nms(found.masks, found.scores, self.nms_thr)]
                new = DetDataSample(metainfo={**sample.metainfo, 'proposed': proposed})
                new.gt_instances = self._for_student(found, inputs)
                labeled.append(new)
        return labeled

    def _seen_by_teacher(self, inputs: Tensor, samples: SampleList) -> Tensor:
        if not self._renormalize:
            return inputs
        given = self.data_preprocessor.data_preprocessor
        seen = torch.zeros_like(inputs)  # padding
        for image, to, sample in zip(inputs, seen, samples, strict=True):
            part = (slice(None), *map(slice, sample.img_shape[:2]))
            to[part] = renormalize(image[part], given, self.teacher.data_preprocessor)
        return seen

    def _label_by_score(
        self, inputs: Tensor, samples: SampleList
    ) -> Iterator[tuple[InstanceData, int]]:
        for sample in self.teacher.predict(inputs, samples, rescale=False):
            every = sample.pred_instances
            found = every[every.scores > self.score_thr]
            height, width = sample.img_shape[:2]
            # Some heads give masks of the padded image.
            masks = found.masks[:, :height, :width].bool()
            large = masks.sum((1, 2)) >= max(self.min_area, 1)
            margin = (0, inputs.shape[-1] - width, 0, inputs.shape[-2] - height)
            yield (
                InstanceData(
                    labels=found.labels[large].long(),
                    scores=found.scores[large],
                    masks=F.pad(masks[large], margin),
                ),
                len(every),
            )

    def _label_queries(
        self, inputs: Tensor, samples: SampleList
    ) -> Iterator[tuple[InstanceData, int]]:
        assert self.query_rule is not None
        every_class, every_mask = self.teacher._forward(inputs, samples)
        masks = as_factored(every_mask[-1])
        cells = (masks.shape[2], masks.shape[3])
        padded = (inputs.shape[2], inputs.shape[3])
        sizes = [sample.img_shape[:2] for sample in samples]
        parts = Grid.of_map(cells, sizes, padded).parts
        for i, (classes, part) in enumerate(zip(every_class[-1], parts, strict=True)):
            # At the logits' resolution, as published: the loss reads points at
            # coordinates relative to the padded image.
            labels, found, scores = query_pseudo_labels(
                classes, masks[i : i + 1], **self.query_rule, part=part
            )
            yield InstanceData(labels=labels, masks=found, scores=scores), len(classes)

    def _for_student(self, found: InstanceData, inputs: Tensor) -> InstanceData:
        """Add boxes in pixels, and give masks the form that the student wants."""
        if self.is_stock:  # a query's probabilities may all be below 0.5
            found = found[found.masks.flatten(1).any(1)]
        masks = found.masks
        height, width = inputs.shape[-2:]
        steps = [height / masks.shape[1], width / masks.shape[2]]
        found.bboxes = mask_boxes(masks) * inputs.new_tensor(steps[::-1] * 2)
        if self.is_stock:
            if masks.shape[1:] != inputs.shape[2:] and len(masks):
                size = (height, width)
                masks = F.interpolate(masks[None].float(), size, mode='bilinear')[0]
                masks = masks > 0.5
            pixels = masks.cpu().numpy().astype('uint8').reshape(-1, height, width)
            found.masks = BitmapMasks(pixels, height, width)
        return found

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Predict with the network that ``predict_on`` names."""
        predict_on = self.semi_test_cfg['predict_on']
        if predict_on == 'teacher':
            batch_inputs = self._seen_by_teacher(batch_inputs, batch_data_samples)
        detector = getattr(self, predict_on)
        return detector.predict(batch_inputs, batch_data_samples, rescale=rescale)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Any:
        return self.student(batch_inputs, batch_data_samples, mode='tensor')

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the student's features."""
        return self.student.extract_feat(batch_inputs)


def _colours(data_preprocessor: dict) -> list[Any]:
    """Return what a data preprocessor's config says of colours."""
    values = [data_preprocessor.get(key) for key in ('mean', 'std')]
    turned = any(map(data_preprocessor.get, ('bgr_to_rgb', 'rgb_to_bgr')))
    return [*(value and [*map(float, value)] for value in values), turned]
