"""The teacher-student wrapper: one objective over two sources of images.

    J = L_sup(labelled) + lambda_semi * L_semi(unlabelled) + lambda_pxl * L_pxl(both)

Source: CAST (arXiv 2505.21904), its unified objective. The student runs once
over the union of both batches, and the predictions are sliced.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmengine.structures import InstanceData
from torch import Tensor, nn


@MODELS.register_module()
class SemiSupervisedSegmentor(BaseDetector):
    """A student trained on labelled and pseudo-labelled images together.

    Batches come from mmdet's ``MultiBranch`` with the branches ``sup`` and
    ``unsup``. Without ``teacher`` the unlabelled samples carry pseudo-labels
    (offline, from a store); with it, the teacher labels each batch's own view.

    Args:
        student: Config of a ``PixelContrastMask2Former``, whose
            ``pixel_contrast.loss.loss_weight`` is lambda_pxl.
        data_preprocessor: Config of mmdet's ``MultiBranchDataPreprocessor``.
        teacher: Config of a detector that labels online and never trains here.
        score_thr: Score above which an online pseudo-label is kept.
        semi_weight: lambda_semi, the weight of the losses on unlabelled images.
    """

    def __init__(
        self,
        student: dict,
        data_preprocessor: dict,
        teacher: dict | None = None,
        score_thr: float = 0.3,
        semi_weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        # Under DDP, too, every training batch goes through the preprocessor first.
        self.data_preprocessor.register_forward_pre_hook(_check_both_sources)
        self.student = MODELS.build(student)
        self.teacher: Any = MODELS.build(teacher) if teacher else None
        if self.teacher is not None:
            self.teacher.requires_grad_(False)
        self.score_thr = score_thr
        self.semi_weight = semi_weight

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
            ``sup_*``, ``unsup_*`` (already times ``semi_weight``) and ``loss_pxl``.
        """
        labeled, unlabeled = batch_data_samples['sup'], batch_data_samples['unsup']
        if self.teacher is not None:
            unlabeled = self.pseudo_label(batch_inputs['unsup'], unlabeled)
        inputs = pad_and_join(
            [batch_inputs['sup'], batch_inputs['unsup']], [*labeled, *unlabeled]
        )
        predictions = self.student.forward_train(inputs, [*labeled, *unlabeled])
        count = len(labeled)
        sup = self.student.supervised_loss(predictions, slice(None, count), labeled)
        semi = self.student.supervised_loss(predictions, slice(count, None), unlabeled)
        return {
            **{f'sup_{name}': value for name, value in sup.items()},
            **{f'unsup_{name}': self.semi_weight * v for name, v in semi.items()},
            **self.student.contrast_loss(predictions),
        }

    @torch.no_grad()
    def pseudo_label(self, inputs: Tensor, samples: SampleList) -> SampleList:
        """Label a batch with the online teacher.

        Args:
            inputs: Weak views (B, 3, H, W).
            samples: Their samples; not changed.

        Returns:
            New samples whose ``gt_instances`` hold labels and bool masks
            (n, H, W) of the teacher's instances above ``score_thr``.
        """
        bare = [DetDataSample(metainfo=sample.metainfo) for sample in samples]
        labelled = []
        for sample in self.teacher.predict(inputs, bare, rescale=False):
            found = sample.pred_instances
            found = found[found.scores > self.score_thr]
            height, width = found.masks.shape[-2:]
            margin = (0, inputs.shape[-1] - width, 0, inputs.shape[-2] - height)
            sample = DetDataSample(metainfo=sample.metainfo)
            sample.gt_instances = InstanceData(
                labels=found.labels, masks=F.pad(found.masks, margin)
            )
            labelled.append(sample)
        return labelled

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """The student's predictions."""
        return self.student.predict(batch_inputs, batch_data_samples, rescale=rescale)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Any:
        return self.student._forward(batch_inputs, batch_data_samples)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """The student's features."""
        return self.student.extract_feat(batch_inputs)


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
