"""The pixel contrast of two views: strong view, projection, loss (CAST, section 2)."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmcast.models.factored_masks import FactoredMasks
from mmcast.models.losses import PRESETS, Grid
from mmcast.models.pseudo_labels import masks_on_grid

ABSENT = -30.0  # mask logit outside a mask, and of a slot that an image does not use
LEAST = 1e-6  # chance of a class, so that it has a logarithm


@MODELS.register_module()
class PixelContrastHead(BaseModule):
    """A pixel-wise MLP of three layers on one map of each view, and the loss on it.

    The weak view carries the gradient to the encoder. The strong view passes the
    encoder without gradient (as in CAST's research code) and then the same MLP.

    Args:
        in_channels: Channels of the encoder map.
        mean: Mean of the three channels that the data preprocessor subtracts.
        std: Standard deviation that it divides by.
        loss: Config of the loss on the embeddings; its ``loss_weight`` is the
            method's lambda_pxl. It overrides the preset.
        bgr: Whether the channels are blue, green, red.
        preset: Name of the settings in :data:`mmcast.models.losses.PRESETS`. With
            ``'research_code'`` the strong view passes a copy of the initial MLP that
            never learns, without gradient.
        strong_view: Config of the photometric strong view.
        embed_channels: Channels of hidden layers and embeddings.
        in_index: Which of the encoder's maps is used.
        downsample: Factor of average pooling before the MLP.

    Raises:
        ValueError: There is no such preset.
    """

    def __init__(
        self,
        in_channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        loss: dict[str, Any],
        bgr: bool = False,
        preset: str = 'default',
        strong_view: dict[str, Any] | None = None,
        embed_channels: int = 128,
        in_index: int = -1,
        downsample: int = 1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if preset not in PRESETS:
            raise ValueError(
                f'preset={preset!r} is unknown; choose one of {tuple(PRESETS)}.'
            )
        self.mlp = nn.Sequential(
            nn.Conv2d(in_channels, embed_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(embed_channels, embed_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(embed_channels, embed_channels, 1, bias=False),
        )
        self.strong_mlp: nn.Module | None = None
        if preset == 'research_code':
            self.strong_mlp = copy.deepcopy(self.mlp).requires_grad_(False)
        self.strong_view = MODELS.build(
            strong_view or dict(type='StrongView'),
            default_args=dict(mean=mean, std=std, bgr=bgr),
        )
        self.contrast = MODELS.build({**PRESETS[preset], **loss})
        self.in_index = in_index
        self.downsample = downsample

    def forward(self, features: Sequence[Tensor], strong: bool = False) -> Tensor:
        """Embed one encoder map: (B, C, h, w) to (B, D, h / s, w / s), rounded up."""
        x = features[self.in_index]
        if self.downsample > 1:
            x = F.avg_pool2d(x, self.downsample, ceil_mode=True)
        if strong and self.strong_mlp is not None:
            return self.strong_mlp(x.detach())
        return self.mlp(x)

    def grid(
        self,
        features: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        padded: tuple[int, int],
    ) -> Grid:
        """Return the positions of the embeddings' cells.

        Args:
            features: The encoder's maps of a batch.
            sizes: Height and width of each image in pixels, without padding.
            padded: Height and width of the batch in pixels.
        """
        height, width = features[self.in_index].shape[-2:]
        return Grid.of_map((height, width), sizes, padded, self.downsample)

    def loss(
        self,
        inputs: Tensor,
        samples: SampleList,
        encoder: Callable[[Tensor], Sequence[Tensor]],
        weak: Sequence[Tensor],
        masks: FactoredMasks | Tensor,
        class_logits: Tensor,
        may_be_alone: bool = False,
    ) -> dict[str, Tensor]:
        """Contrast a batch with its strong view.

        Args:
            inputs: The batch, the weak view, float (B, 3, H, W).
            samples: Its samples; their ``img_shape`` separates images from padding.
            encoder: The module that made ``weak`` from ``inputs``, or a module's method
                that did.
            weak: Encoder maps of the weak view.
            masks: Last masks of the weak view, or their logits (B, K, h, w).
            class_logits: Last class predictions, (B, K, C + 1).
            may_be_alone: Whether the loss of a single image is 0 if negatives come from
                other images only.

        Returns:
            ``loss_pxl``, already times its weight.

        Raises:
            ValueError: Negatives come from other images only, and there is none.
        """
        sizes = [sample.img_shape[:2] for sample in samples]
        with torch.no_grad(), _kept_statistics(getattr(encoder, '__self__', encoder)):
            strong = encoder(self.strong_view(inputs, sizes))
        alone = len(samples) == 1 and self.contrast.candidates == 'other_images'
        if alone and may_be_alone:
            # The encoder ran and T goes on, as on other ranks; DDP wants a gradient.
            if self.training:
                self.contrast.temperature.advance()
            return {'loss_pxl': 0 * self(weak).sum()}
        padded = (inputs.shape[2], inputs.shape[3])
        loss = self.contrast(
            self(weak),
            self(strong, strong=True),
            masks,
            class_logits,
            self.grid(weak, sizes, padded),
        )
        return {'loss_pxl': loss}


@torch.no_grad()
def labeled_instances(
    samples: SampleList,
    grid: Grid,
    padded: tuple[int, int],
    num_classes: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return a batch's labels and pseudo-labels in the form of a decoder's queries.

    No public code of CAST attaches the contrast to a network without queries; this is a
    design of this project. P_m is the softmax of the mask logits over instances and
    background. A pixel in no mask is background. One in several belongs to each by the
    same share. P_c has an instance's score at its label and the rest at "no object".

    Args:
        samples: With ``gt_instances``: ``labels``, ``masks`` of the padded image or of
            the image, and maybe ``scores``, as an online teacher gives; without them
            a label's score is 1.
        grid: Centres of the embeddings' cells, (h, w) of them.
        padded: Height and width of the padded batch in pixels.
        num_classes: C.
        device: Of the result.

    Returns:
        Mask logits (B, K, h, w) at these centres, and class logits (B, K, C + 1), both
        float32; slot 0 is the background.
    """
    slots = 1 + max(len(sample.gt_instances) for sample in samples)
    cells = (len(grid.y), len(grid.x))
    masks = torch.full((len(samples), slots, *cells), ABSENT, device=device)
    masks[:, 0] = 0
    chances = torch.zeros(len(samples), slots, num_classes + 1, device=device)
    chances[..., -1] = 1
    for i, sample in enumerate(samples):
        given = sample.gt_instances
        count = len(given)
        if not count:
            continue
        inside = masks_on_grid(given.masks, padded, grid).to(device)
        masks[i, 1 : 1 + count][inside] = -ABSENT
        scores = given.get('scores', torch.ones(count, device=device))
        at = torch.arange(1, 1 + count, device=device)
        chances[i, at, given.labels.to(device)] = scores
        chances[i, at, -1] = 1 - scores
    return masks, chances.clamp(min=LEAST).log()


@contextmanager
def _kept_statistics(module: Any) -> Iterator[None]:
    """Leave batch norm's running statistics as they are.

    The strong view is normalised by its own batch. The running statistics are for
    evaluation, which never sees a strong view.
    """
    norms = [
        m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
