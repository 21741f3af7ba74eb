"""The teacher-student wrapper: one objective over two sources of images.

    J = L_sup(labelled) + lambda_semi * L_semi(unlabelled) + lambda_pxl * L_pxl(both)

Source: CAST (arXiv 2505.21904), its unified objective. The student runs once
over the union of both batches, and the predictions are sliced. With a teacher inside,
``query_rule`` and ``strong_view`` it is Guided Distillation (arXiv 2308.02668), whose
own code runs the student on one batch after the other, for batch norm's statistics.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector, MaskFormer
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmcast.models.pseudo_labels import (
    blank_margin,
    count_found,
    masks_on_grid,
    query_pseudo_labels,
)
from mmcast.models.views import build_strong_view


@MODELS.register_module()
class SemiSupervisedSegmentor(BaseDetector):
    """A student trained on labelled and pseudo-labelled images together.

    Batches come from mmdet's ``MultiBranch`` with the branches ``sup`` and
    ``unsup``. Without ``teacher`` the unlabelled samples carry pseudo-labels
    (offline, from a store); with it, the teacher labels each batch's own view, in full
    precision. A batch on which it finds nothing adds nothing to the loss.

    Args:
        student: Config of a ``PixelContrastMask2Former``, whose
            ``pixel_contrast.loss.loss_weight`` is lambda_pxl.
        data_preprocessor: Config of mmdet's ``MultiBranchDataPreprocessor``.
        teacher: Config of a detector that labels online and never trains here; see
            ``TeacherUpdateHook`` for one that follows the student. Without a ``type``,
            ``dict(checkpoint=FILE)``: a network like the student, see
            :func:`like_the_student`.
        score_thr: Score above which an online pseudo-label is kept.
        query_rule: Arguments of :func:`query_pseudo_labels`, by which a MaskFormer or
            Mask2Former teacher's logits become labels; ``score_thr`` and the teacher's
            own post-processing play no part then.
        strong_view: Config of the photometric view that the student has of the
            unlabelled images; None for the one that the teacher has. A pixel contrast
            makes its second view of this one.
        semi_weight: lambda_semi, the weight of the losses on unlabelled images.
        predict_on: ``'student'`` or ``'teacher'``: which one predicts.

    Raises:
        ValueError: The arguments need a teacher, or another one.
    """

    def __init__(
        self,
        student: dict,
        data_preprocessor: dict,
        teacher: dict | None = None,
        score_thr: float = 0.3,
        query_rule: dict | None = None,
        strong_view: dict | None = None,
        semi_weight: float = 1.0,
        predict_on: str = 'student',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        # Under DDP, too, every training batch goes through the preprocessor first.
        self.data_preprocessor.register_forward_pre_hook(_check_both_sources)
        if teacher and 'type' not in teacher:
            teacher = like_the_student(student, teacher)
        self.student = MODELS.build(student)
        self.teacher: Any = MODELS.build(teacher) if teacher else None
        if self.teacher is not None:
            self.teacher.requires_grad_(False)
        if query_rule is not None and not isinstance(self.teacher, MaskFormer):
            raise ValueError(
                'query_rule reads the logits of a MaskFormer or Mask2Former teacher: '
                'give such a teacher, or query_rule=None for its predictions above '
                'score_thr'
            )
        if predict_on not in ('student', 'teacher') or not getattr(self, predict_on):
            raise ValueError(
                f"predict_on={predict_on!r} must be 'student', or 'teacher' where "
                'there is one'
            )
        self.score_thr = score_thr
        self.query_rule = query_rule
        self.strong_view = (
            build_strong_view(strong_view, self.data_preprocessor.data_preprocessor)
            if strong_view
            else None
        )
        self.semi_weight = semi_weight
        # TeacherUpdateHook has it wait for a teacher; no option of the model.
        self.teacher_labels = True
        # By this name mmdet's TeacherStudentValLoop changes it.
        self.semi_test_cfg = dict(predict_on=predict_on)

    @property
    def num_classes(self) -> int:
        """Number of classes the student tells apart."""
        return self.student.num_classes

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
    ) -> dict[str, Tensor]:
        """The weighted losses of both branches.

        Args:
            batch_inputs: Images of ``sup`` (B_l, 3, H_l, W_l) and ``unsup``.
            batch_data_samples: Their samples.

        Returns:
            ``sup_*``, ``unsup_*`` (already times ``semi_weight``) and ``loss_pxl``;
            with a teacher also ``teacher_*``, see :meth:`health`.
        """
        labeled, unlabeled = batch_data_samples['sup'], batch_data_samples['unsup']
        inputs = pad_and_join(
            [batch_inputs['sup'], batch_inputs['unsup']], [*labeled, *unlabeled]
        )
        count = len(labeled)
        semi_weight = self.semi_weight
        health: dict[str, Tensor] = {}
        if self.teacher is not None and not self.teacher_labels:
            semi_weight = 0.0
        elif self.teacher is not None:
            truth = unlabeled
            unlabeled = self.pseudo_label(inputs[count:], truth)
            health = self.health(inputs[count:], unlabeled, truth)
            # Else an unsure teacher would teach that there is nothing.
            if not any(len(sample.gt_instances) for sample in unlabeled):
                semi_weight = 0.0
        if self.strong_view is not None:
            strong = self.strong_view(inputs[count:])
            inputs = torch.cat([inputs[:count], strong])
        predictions = self.student.forward_train(inputs, [*labeled, *unlabeled])
        sup = self.student.supervised_loss(predictions, slice(None, count), labeled)
        semi = self.student.supervised_loss(predictions, slice(count, None), unlabeled)
        return {
            **{f'sup_{name}': value for name, value in sup.items()},
            **{f'unsup_{name}': semi_weight * value for name, value in semi.items()},
            **self.student.contrast_loss(predictions),
            **health,
        }

    @torch.no_grad()
    def pseudo_label(self, inputs: Tensor, samples: SampleList) -> SampleList:
        """Label a batch with the online teacher.

        Args:
            inputs: Weak views (B, 3, H, W).
            samples: Their samples; not changed.

        Returns:
            New samples whose ``gt_instances`` hold labels and bool masks (n, h, w) over
            the padded image: of the image's size, or of the logits' with
            ``query_rule``. No mask reaches into the margin. Their ``proposed`` is how
            many instances the teacher had to choose from.
        """
        bare = [DetDataSample(metainfo=sample.metainfo) for sample in samples]
        label = self._label_by_score if self.query_rule is None else self._label_queries
        labelled = []
        with torch.autocast(inputs.device.type, enabled=False):
            for sample, (found, proposed) in zip(
                samples, label(inputs, bare), strict=True
            ):
                new = DetDataSample(metainfo={**sample.metainfo, 'proposed': proposed})
                new.gt_instances = found
                labelled.append(new)
        return labelled

    def _label_by_score(
        self, inputs: Tensor, samples: SampleList
    ) -> Iterator[tuple[InstanceData, int]]:
        for sample in self.teacher.predict(inputs, samples, rescale=False):
            every = sample.pred_instances
            found = every[every.scores > self.score_thr]
            height, width = found.masks.shape[-2:]
            margin = (0, inputs.shape[-1] - width, 0, inputs.shape[-2] - height)
            masks = F.pad(found.masks, margin)
            yield InstanceData(labels=found.labels, masks=masks), len(every)

    def _label_queries(
        self, inputs: Tensor, samples: SampleList
    ) -> Iterator[tuple[InstanceData, int]]:
        assert self.query_rule is not None
        every_class, every_mask = self.teacher._forward(inputs, samples)
        padded = (inputs.shape[-2], inputs.shape[-1])
        for classes, masks, sample in zip(
            every_class[-1], every_mask[-1], samples, strict=True
        ):
            # At the logits' resolution, as published: the loss takes points, by
            # coordinates relative to the padded image.
            masks = blank_margin(masks, sample.img_shape, padded)
            labels, masks, _ = query_pseudo_labels(classes, masks, **self.query_rule)
            yield InstanceData(labels=labels, masks=masks), len(classes)

    @staticmethod
    def health(
        inputs: Tensor, labelled: SampleList, truth: SampleList
    ) -> dict[str, Tensor]:
        """What the log shows of the teacher, so that its collapse is seen early.

        Args:
            inputs: The batch (B, 3, H, W).
            labelled: What :meth:`pseudo_label` returned.
            truth: The samples as they were loaded.

        Returns:
            ``teacher_labels_per_image`` and ``teacher_share_kept``, of what it
            proposed. Over the images whose samples have annotated instances, if any:
            ``teacher_recall``, and ``teacher_precision`` if there are pseudo-labels, at
            an intersection over union of 0.5 with an instance of the same class.
        """
        made = sum(len(sample.gt_instances) for sample in labelled)
        proposed = sum(sample.proposed for sample in labelled)
        figures = {
            'labels_per_image': made / len(labelled),
            'share_kept': made / max(proposed, 1),
        }
        padded = (inputs.shape[-2], inputs.shape[-1])
        found = guesses = instances = 0
        for sample, true in zip(labelled, truth, strict=True):
            annotated = true.get('gt_instances', ())
            if not len(annotated):
                continue
            guess = sample.gt_instances
            masks = masks_on_grid(annotated.masks, padded, guess.masks.shape[-2:])
            found += count_found(
                guess.labels,
                guess.masks,
                annotated.labels,
                masks.to(guess.masks.device),
            )
            guesses += len(guess)
            instances += len(annotated)
        if instances:
            figures['recall'] = found / instances
        if instances and guesses:
            figures['precision'] = found / guesses
        return {f'teacher_{k}': inputs.new_tensor(v) for k, v in figures.items()}

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Predictions of the student, or of the teacher by ``predict_on``."""
        detector = getattr(self, self.semi_test_cfg['predict_on'])
        return detector.predict(batch_inputs, batch_data_samples, rescale=rescale)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Any:
        return self.student._forward(batch_inputs, batch_data_samples)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """The student's features."""
        return self.student.extract_feat(batch_inputs)


def like_the_student(student: dict, teacher: dict) -> ConfigDict:
    """Config of a teacher of the student's architecture.

    Args:
        student: The student's config.
        teacher: ``dict(checkpoint=FILE)``, a checkpoint of the whole network, or None
            in the file's place for random weights.

    Returns:
        The student's config with the file to load in place of the student's own files,
        and without what only training needs.

    Raises:
        ValueError: Something else is given.
    """
    if set(teacher) != {'checkpoint'}:
        raise ValueError(
            f'model.teacher has {", ".join(map(repr, teacher))} and no type: give '
            "dict(checkpoint=FILE) for a network of the student's architecture, or "
            'the config of another detector, with its type'
        )

    def without_files(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: without_files(v) for k, v in node.items() if k != 'init_cfg'}
        if isinstance(node, list | tuple):
            return type(node)(without_files(each) for each in node)
        return node

    config = ConfigDict(without_files(student))
    for part in ('pixel_contrast', 'strong_view'):
        config.pop(part, None)
    if teacher['checkpoint'] is not None:
        config.init_cfg = dict(type='Pretrained', checkpoint=teacher['checkpoint'])
    return config


def _check_both_sources(_: nn.Module, arguments: tuple) -> None:
    images = arguments[0]['inputs']
    if not isinstance(images, dict):
        return  # a batch to predict
    for branch, source in (('sup', 'labelled'), ('unsup', 'unlabelled')):
        if all(image is None for image in images.get(branch, [])):
            raise ValueError(
                f'a batch without {source} images: give the sampler a source_ratio and '
                'a batch_size with room for both sources, and train_dataloader the '
                'same batch_size'
            )


def pad_and_join(batches: list[Tensor], samples: SampleList) -> Tensor:
    """Pad batches at the right and bottom to one size and concatenate them.

    Args:
        batches: Images (B_i, 3, H_i, W_i), normalised.
        samples: Samples of all images; their masks and ``batch_input_shape``
            are brought to the common size.

    Returns:
        The union batch (sum B_i, 3, max H_i, max W_i).
    """
    height = max(batch.shape[-2] for batch in batches)
    width = max(batch.shape[-1] for batch in batches)
    if any(tuple(batch.shape[-2:]) != (height, width) for batch in batches):
        for sample in samples:
            masks = sample.gt_instances.masks
            if isinstance(masks, Tensor):
                margin = (0, width - masks.shape[-1], 0, height - masks.shape[-2])
                sample.gt_instances.masks = F.pad(masks, margin)
            else:
                sample.gt_instances.masks = masks.pad((height, width))
            sample.set_metainfo({'batch_input_shape': (height, width)})
    return torch.cat(
        [
            F.pad(batch, (0, width - batch.shape[-1], 0, height - batch.shape[-2]))
            for batch in batches
        ]
    )
