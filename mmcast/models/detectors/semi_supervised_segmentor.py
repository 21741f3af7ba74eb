"""The teacher-student wrapper: one objective over two sources of images.

    J = L_sup(labelled) + lambda_semi * L_semi(unlabelled) + lambda_pxl * L_pxl(both)

Source: CAST (arXiv 2505.21904), its unified objective. The student gets the union of
both batches and returns its losses by part. With a teacher inside, ``query_rule`` and
``strong_view`` the wrapper is Guided Distillation (arXiv 2308.02668); that method's own
code runs the student once per source, each time with its own batch norm statistics.
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

from mmcast.models.factored_masks import as_factored
from mmcast.models.losses import Grid
from mmcast.models.pseudo_labels import query_pseudo_labels, teacher_stats
from mmcast.models.views import normalization

from .student import Losses


@MODELS.register_module()
class SemiSupervisedSegmentor(BaseDetector):
    """A student trained on labelled and pseudo-labelled images together.

    Batches come from mmdet's ``MultiBranch`` with the branches ``sup`` and
    ``unsup``. Without ``teacher`` the unlabelled samples carry pseudo-labels
    (offline, from a store). With it, the teacher labels each batch's own view, in full
    precision; a batch on which it finds nothing adds nothing to the loss.

    Args:
        student: Config of a :class:`~mmcast.models.detectors.student.Student`. Its
            ``pixel_contrast.loss.loss_weight`` is lambda_pxl, its data preprocessor is
            used for both branches.
        teacher: Config of a detector that labels online and never trains here;
            ``TeacherUpdateHook`` makes it follow the student. Without a ``type``,
            ``dict(checkpoint=FILE)``: see :func:`teacher_config_from_student`.
        score_thr: Online pseudo-labels must have a higher score.
        query_rule: Arguments of :func:`query_pseudo_labels`, which turns the logits of
            a MaskFormer or Mask2Former teacher into labels. It replaces ``score_thr``
            and the teacher's post-processing.
        strong_view: Config of the photometric view that the student gets of the
            unlabelled images; None for the teacher's view. A pixel contrast makes its
            second view from this one.
        semi_weight: lambda_semi, the weight of the losses on unlabelled images.
        predict_on: ``'student'`` or ``'teacher'``: which one predicts.

    Raises:
        ValueError: The arguments need a teacher, or one of another kind.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict | None = None,
        score_thr: float = 0.3,
        query_rule: dict | None = None,
        strong_view: dict | None = None,
        semi_weight: float = 1.0,
        predict_on: str = 'student',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            data_preprocessor=dict(
                type='MultiBranchDataPreprocessor',
                data_preprocessor=student['data_preprocessor'],
            ),
            init_cfg=init_cfg,
        )
        # Every training batch passes the preprocessor first, also under DDP.
        self.data_preprocessor.register_forward_pre_hook(_check_both_sources)
        if teacher and 'type' not in teacher:
            teacher = teacher_config_from_student(student, teacher)
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
                f"predict_on={predict_on!r} must be 'student', or 'teacher' if there "
                'is one'
            )
        self.score_thr = score_thr
        self.query_rule = query_rule
        self.strong_view: nn.Module | None = None
        if strong_view is not None:
            self.strong_view = MODELS.build(
                strong_view,
                default_args=normalization(self.data_preprocessor.data_preprocessor),
            )
        self.semi_weight = semi_weight
        # TeacherUpdateHook sets it to False until there is a teacher to learn from.
        self.labeling_enabled = True
        # mmdet's TeacherStudentValLoop changes it by this name.
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
    ) -> Losses:
        """Compute the weighted losses of both branches.

        Args:
            batch_inputs: Images of ``sup`` (B_l, 3, H_l, W_l) and ``unsup``.
            batch_data_samples: Their samples.

        Returns:
            ``sup_*``, ``unsup_*`` (already times ``semi_weight``) and ``loss_pxl``;
            with a teacher also ``teacher_*``, see :func:`teacher_stats`.
        """
        labeled, unlabeled = batch_data_samples['sup'], batch_data_samples['unsup']
        inputs = pad_and_join(
            [batch_inputs['sup'], batch_inputs['unsup']], [*labeled, *unlabeled]
        )
        count = len(labeled)
        semi_weight = self.semi_weight
        stats: dict[str, Tensor] = {}
        if self.teacher is not None and not self.labeling_enabled:
            semi_weight = 0.0
        elif self.teacher is not None:
            truth = unlabeled
            unlabeled = self.pseudo_label(inputs[count:], truth)
            stats = teacher_stats(inputs[count:], unlabeled, truth)
            # Otherwise an unsure teacher would teach that there is nothing.
            if not any(len(sample.gt_instances) for sample in unlabeled):
                semi_weight = 0.0
        if self.strong_view is not None:
            sizes = [sample.img_shape[:2] for sample in unlabeled]
            strong = self.strong_view(inputs[count:], sizes)
            inputs = torch.cat([inputs[:count], strong])
        (sup, semi), of_batch = self.student.losses(
            inputs, [(slice(None, count), labeled), (slice(count, None), unlabeled)]
        )
        return {
            **{f'sup_{name}': value for name, value in sup.items()},
            **{f'unsup_{name}': semi_weight * value for name, value in semi.items()},
            **of_batch,
            **stats,
        }

    @torch.no_grad()
    def pseudo_label(self, inputs: Tensor, samples: SampleList) -> SampleList:
        """Label a batch with the online teacher.

        Args:
            inputs: Weak views (B, 3, H, W).
            samples: Their samples; not changed.

        Returns:
            New samples. Their ``gt_instances`` hold labels and bool masks (n, h, w)
            over the padded image, of the image's size, or of the logits' with
            ``query_rule``; no mask reaches into the margin. Their ``proposed`` is the
            number of instances that the teacher chose from.
        """
        bare = [DetDataSample(metainfo=sample.metainfo) for sample in samples]
        label = self._label_by_score if self.query_rule is None else self._label_queries
        labeled = []
        with torch.autocast(inputs.device.type, enabled=False):
            for sample, (found, proposed) in zip(
                samples, label(inputs, bare), strict=True
            ):
                new = DetDataSample(metainfo={**sample.metainfo, 'proposed': proposed})
                new.gt_instances = found
                labeled.append(new)
        return labeled

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
        masks = as_factored(every_mask[-1])
        cells = (masks.shape[2], masks.shape[3])
        padded = (inputs.shape[2], inputs.shape[3])
        sizes = [sample.img_shape[:2] for sample in samples]
        parts = Grid.of_map(cells, sizes, padded).parts
        for i, (classes, part) in enumerate(zip(every_class[-1], parts, strict=True)):
            # At the logits' resolution, as published: the loss reads points at
            # coordinates relative to the padded image.
            labels, found, _ = query_pseudo_labels(
                classes, masks[i : i + 1], **self.query_rule, part=part
            )
            yield InstanceData(labels=labels, masks=found), len(classes)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Predict with the network that ``predict_on`` names."""
        detector = getattr(self, self.semi_test_cfg['predict_on'])
        return detector.predict(batch_inputs, batch_data_samples, rescale=rescale)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Any:
        return self.student._forward(batch_inputs, batch_data_samples)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the student's features."""
        return self.student.extract_feat(batch_inputs)


def teacher_config_from_student(student: dict, teacher: dict) -> ConfigDict:
    """Make the config of a teacher with the student's architecture.

    Args:
        student: The student's config.
        teacher: ``dict(checkpoint=FILE)``, a checkpoint of the whole network;
            ``dict(checkpoint=None)`` for random weights.

    Returns:
        The student's config without the student's own files and without parts that only
        training needs, with FILE to start from.

    Raises:
        ValueError: ``teacher`` has other keys.
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
    config.pop('pixel_contrast', None)
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
                f'a batch without {source} images: set train_dataloader.batch_size to '
                "a multiple of the sum of the sampler's source_ratio"
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
