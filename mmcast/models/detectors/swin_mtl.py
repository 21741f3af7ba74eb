"""SwinMTL: depth and semantic labels in one network, trained with a critic.

Source: Taghavi, Langari, Pandey, IROS 2024 (arXiv 2403.10662). One encoder, one
decoder, a head for each task. A critic sees the maps of both tasks and no image.

The paper's research code shows the critic metres and the most likely class, so its
gradient reaches depth alone. Here the critic sees the code of depth and class
probabilities, so it reaches both. ``preset='research_code'`` has the published way.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner.checkpoint import get_state_dict
from mmengine.structures import PixelData
from torch import Tensor
from torch.nn import functional as F

from mmcast.models.dense_heads.depth_seg_heads import IGNORED, one_hot
from mmcast.models.dense_prediction import (
    Maps,
    Predict,
    predict_flipped,
    predict_windows,
)
from mmcast.models.unwrapped import unwrapped

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    'default': dict(depth_head=dict(), critic=dict()),
    'research_code': dict(
        depth_head=dict(eps=0.0, cap_targets=False),
        critic=dict(batch_norm=True, out_channels=2, penalty_weight=100.0),
    ),
}


@MODELS.register_module()
class SwinMTL(BaseDetector):
    """Predict depth and semantic labels.

    Data samples have ``gt_depth`` and ``gt_sem_seg`` as :class:`PackDepthInputs` packs
    them, and get ``pred_depth`` (``depth``, float32 (1, H, W), metres) and
    ``pred_sem_seg`` (``sem_seg``, int64 (1, H, W)).

    Training needs ``optim_wrapper.constructor='CriticOptimWrapperConstructor'``, and on
    several devices ``model_wrapper_cfg.type='MMSeparateDistributedDataParallel'``.

    Args:
        backbone: Encoder.
        decoder: A :class:`DeconvDecoder` or :class:`MaskFeatures`, whose map has a
            quarter of the image's height and width.
        depth_head: A :class:`DepthHead`; None for labels alone.
        seg_head: A :class:`SemSegHead`; None for depth alone.
        head_stride: Pixels of the image per pixel of the heads' outputs, 1, 2 or 4. The
            published 1 runs the heads at full resolution; 4 runs them at a quarter of
            it, a 16th of their cost.
        critic: A :class:`WassersteinCritic` without ``in_channels``; None for none.
        adversarial_weight: Factor on the critic's score in the model's loss.
        preset: ``'default'`` or ``'research_code'``. It sets what ``depth_head`` and
            ``critic`` do not set, and whether the critic sees depth in metres and the
            most likely class.
        test_cfg: ``flip`` (bool): average with the mirrored image. ``window`` and
            ``stride`` (heights, widths): average over overlapping windows.
            ``classes``: predict only the first so many classes; the research code's
            last one is void.
        data_preprocessor: A :class:`DepthSegDataPreprocessor`.
        init_cfg: As in mmengine.

    Raises:
        ValueError: There is no head, or the preset is unknown.
    """

    def __init__(
        self,
        backbone: dict,
        decoder: dict,
        depth_head: dict | None = None,
        seg_head: dict | None = None,
        head_stride: int = 1,
        critic: dict | None = None,
        adversarial_weight: float = 0.1,
        preset: str = 'default',
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if preset not in PRESETS:
            raise ValueError(f'preset is {preset!r}: choose one of {list(PRESETS)}')
        if depth_head is None and seg_head is None:
            raise ValueError('SwinMTL has no head: give depth_head, seg_head or both')
        self.backbone = MODELS.build(backbone)
        self.decoder = MODELS.build(decoder)
        self.depth_head = self.seg_head = self.critic = None
        channels = 0
        if depth_head is not None:
            settings = {**PRESETS[preset]['depth_head'], **depth_head}
            self.depth_head = MODELS.build(settings)
            channels += 1
        self.soft = preset == 'default'
        if seg_head is not None:
            self.seg_head = MODELS.build(seg_head)
            self.num_classes = self.seg_head.num_classes
            channels += self.num_classes if self.soft else 1
        if critic is not None:
            settings = {**PRESETS[preset]['critic'], **critic}
            self.critic = MODELS.build({**settings, 'in_channels': channels})
        self._register_load_state_dict_pre_hook(self._keep_critic)
        self.adversarial_weight = adversarial_weight
        if head_stride not in (1, 2, 4):
            raise ValueError(f'head_stride is {head_stride}: give 1, 2 or 4')
        self.doublings = int(math.log2(4 / head_stride))
        self.head_stride = head_stride
        self.test_cfg: dict[str, Any] = dict(
            flip=False, window=None, stride=None, classes=None
        )
        self.test_cfg.update(test_cfg or {})

    # -- the network ------------------------------------------------------------

    def extract_feat(self, batch_inputs: Tensor) -> Tensor:
        """Return the shared map of images float (N, 3, H, W), at ``head_stride``."""
        shared = self.decoder(self.backbone(batch_inputs))
        for _ in range(self.doublings):
            shared = F.interpolate(shared, scale_factor=2, mode='bilinear')
        return shared

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Any = None) -> Maps:
        """Return the heads' outputs: ``depth`` and ``seg``, float32 (N, C, H, W)."""
        size = batch_inputs.shape[-2:]
        shared = self.extract_feat(batch_inputs)
        outputs = {}
        if self.depth_head is not None:
            outputs['depth'] = self.depth_head(shared, size, self.head_stride)
        if self.seg_head is not None:
            outputs['seg'] = self.seg_head(shared, size, self.head_stride)
        return outputs

    # -- training ---------------------------------------------------------------

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample]
    ) -> dict[str, Tensor]:
        """Compute the losses of the tasks, ``loss_depth`` and ``loss_seg``.

        Raises:
            ValueError: A sample lacks the depth or the labels.
        """
        outputs = self._forward(batch_inputs)
        return self._task_losses(outputs, self._targets(batch_data_samples))

    def train_step(
        self, data: dict, optim_wrapper: OptimWrapper | OptimWrapperDict
    ) -> dict[str, Tensor]:
        """Train the critic on the model's maps, then the model, on one batch.

        Args:
            data: A batch of the loader.
            optim_wrapper: With the keys ``model`` and, if there is a critic,
                ``critic``.

        Returns:
            Values for the log.
        """
        if not isinstance(optim_wrapper, OptimWrapperDict):
            raise ValueError(
                'SwinMTL trains with one optimiser for the model and one for the '
                "critic: set optim_wrapper.constructor='CriticOptimWrapperConstructor'"
            )
        data = self.data_preprocessor(data, True)
        targets = self._targets(data['data_samples'])
        with optim_wrapper['model'].optim_context(self):
            outputs = self._forward(data['inputs'])
        losses = self._task_losses(outputs, targets)
        log = {}
        if self.critic is not None:
            fake, real = self._critic_maps(outputs, targets)
            wrapper = optim_wrapper['critic']
            # A penalty on gradients needs float32, but AmpOptimWrapper's context
            # starts autocast.
            full_precision = torch.autocast(fake.device.type, enabled=False)
            with wrapper.optim_context(self.critic), full_precision:
                log = self.critic(fake.detach(), real)
            wrapper.update_params(log['critic_loss'])
            # Its weights get no gradient from here on.
            critic = unwrapped(self.critic).requires_grad_(False)
            score = critic.score(fake).mean()
            critic.requires_grad_(True)
            losses['loss_adversarial'] = -self.adversarial_weight * score
        total, log_vars = self.parse_losses(losses)
        optim_wrapper['model'].update_params(total)
        return {**log_vars, **{name: value.detach() for name, value in log.items()}}

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Keep the gradients of the network local: ``OptimWrapper`` accumulates them.

        Under ``MMSeparateDistributedDataParallel`` each part is wrapped by itself.
        """
        with ExitStack() as stack:
            for name, part in self.named_children():
                if name != 'critic' and hasattr(part, 'no_sync'):
                    stack.enter_context(part.no_sync())
            yield

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return the weights under plain names, without ``module.`` of wrapped parts.

        A runner saves these names, and finds no others when it loads.
        """
        return get_state_dict(self, *args, **kwargs)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return a weight's layer and the number of layers, for layer decay.

        A backbone that is no :class:`SwinV2` counts as one layer: it has no decay.
        """
        backbone = unwrapped(self.backbone)
        if not hasattr(backbone, 'layer_depth'):
            return 0, 1
        name = param_name.replace('.module.', '.')  # of a distributed part
        return backbone.layer_depth(name.removeprefix('backbone.'))

    def _keep_critic(self, state_dict: dict, prefix: str, *_: Any) -> None:
        """Keep the critic's weights if a file has none, as an exported model."""
        if not any(name.startswith(f'{prefix}critic.') for name in state_dict):
            for name, value in self.state_dict().items():
                if name.startswith('critic.'):
                    state_dict[prefix + name] = value

    def _targets(self, samples: Sequence[DetDataSample]) -> Maps:
        """Stack the truth: ``depth`` in metres and ``seg``, (N, 1, H, W)."""
        wanted = {}
        if self.depth_head is not None:
            wanted['depth'] = ('gt_depth', 'depth', 'LoadDepth')
        if self.seg_head is not None:
            wanted['seg'] = ('gt_sem_seg', 'sem_seg', 'LoadAnnotations(with_seg=True)')
        targets = {}
        for task, (field, key, transform) in wanted.items():
            if any(field not in sample for sample in samples):
                raise ValueError(
                    f'a training sample has no {field}: its pipeline needs '
                    f'{transform} and PackDepthInputs, or the model {task}_head=None'
                )
            targets[task] = torch.stack(
                [sample.get(field).get(key) for sample in samples]
            )
        return targets

    def _task_losses(self, outputs: Maps, targets: Maps) -> dict[str, Tensor]:
        losses = {}
        for task in outputs:
            head = unwrapped(getattr(self, f'{task}_head'))
            losses.update(head.loss(outputs[task], targets[task]))
        return losses

    def _critic_maps(self, outputs: Maps, targets: Maps) -> tuple[Tensor, Tensor]:
        """Return predicted and true maps, float32 (N, C, H, W).

        Where there is no truth both are 0, so that holes do not give predictions away.
        """
        fake, real = [], []
        if 'depth' in outputs:
            head, truth = unwrapped(self.depth_head), targets['depth']
            valid = head.valid(truth)
            if self.soft:
                pred, truth = outputs['depth'].sigmoid(), head.code.encode(truth)
            else:
                pred = head.depth(outputs['depth'])
            fake.append(pred * valid)
            real.append(truth * valid)
        if 'seg' in outputs:
            logits, truth = outputs['seg'], targets['seg']
            valid = truth != IGNORED
            if self.soft:
                pred, truth = logits.softmax(1), one_hot(truth, logits.shape[1])
            else:
                pred, truth = logits.argmax(1, keepdim=True).float(), truth.float()
            fake.append(pred * valid)
            real.append(truth * valid)
        return torch.cat(fake, 1), torch.cat(real, 1)

    # -- prediction -------------------------------------------------------------

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: list[DetDataSample],
        rescale: bool = True,
    ) -> list[DetDataSample]:
        """Predict depth and labels.

        Args:
            batch_inputs: Images, float (N, 3, H, W).
            batch_data_samples: Their ``img_shape`` cuts off padding.
            rescale: Whether results have the image's original size.

        Returns:
            The samples with ``pred_depth`` and ``pred_sem_seg``.
        """
        maps = self.predict_maps(batch_inputs)
        for index, sample in enumerate(batch_data_samples):
            height, width = sample.img_shape[:2]
            size = tuple(sample.ori_shape[:2]) if rescale else (height, width)
            for task, batch in maps.items():
                one = batch[index : index + 1, :, :height, :width]
                if one.shape[-2:] != size:
                    one = F.interpolate(one, size, mode='bilinear')
                if task == 'depth':
                    sample.pred_depth = PixelData(depth=one[0])
                else:
                    sample.pred_sem_seg = PixelData(sem_seg=one.argmax(1))
        return batch_data_samples

    def predict_maps(self, images: Tensor) -> Maps:
        """Return ``depth`` in metres and ``seg`` logits, float32 (N, C, H, W).

        Windows and the mirrored image are averaged, depth in metres.
        """
        predict: Predict = self._metres_and_logits
        if self.test_cfg['flip']:
            predict = partial(predict_flipped, predict)
        window, stride = self.test_cfg['window'], self.test_cfg['stride']
        if window is None:
            return predict(images)
        return predict_windows(predict, images, window, stride or window)

    def _metres_and_logits(self, images: Tensor) -> Maps:
        outputs = self._forward(images)
        if 'depth' in outputs:
            outputs['depth'] = unwrapped(self.depth_head).depth(outputs['depth'])
        if 'seg' in outputs:
            outputs['seg'] = outputs['seg'][:, : self.test_cfg['classes']]
        return outputs
