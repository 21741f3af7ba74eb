"""A critic of predicted maps, trained as in WGAN-GP (arXiv 1704.00028).

It tells predicted maps from true ones by a score, without seeing the image. SwinMTL
(arXiv 2403.10662) uses it to improve depth and labels together.
"""

import itertools

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule, initialize
from torch import Tensor, nn


@MODELS.register_module()
class WassersteinCritic(BaseModule):
    """Score maps patch by patch with five convolutions; a true map scores high.

    Args:
        in_channels: Channels of a map.
        channels: Channels after the first convolution; they double twice and once more.
        out_channels: Scores of a patch.
        batch_norm: Whether the three inner convolutions have batch norm. It makes a
            score depend on the whole batch, which a gradient penalty does not expect.
        penalty_weight: Factor on the gradient penalty.
        init_std: Standard deviation of the first weights.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 64,
        out_channels: int = 1,
        batch_norm: bool = False,
        penalty_weight: float = 10.0,
        init_std: float = 0.001,
    ) -> None:
        super().__init__()
        widths = [in_channels, channels, 2 * channels, 4 * channels, 8 * channels]
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(itertools.pairwise(widths)):
            stride = 2 if index < 3 else 1
            layers.append(nn.Conv2d(before, after, 4, stride=stride, padding=1))
            if batch_norm and index:
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.LeakyReLU(0.2))
        layers.append(nn.Conv2d(widths[-1], out_channels, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        self.penalty_weight = penalty_weight
        initialize(self, dict(type='Normal', layer='Conv2d', std=init_std))

    def score(self, maps: Tensor) -> Tensor:
        """Return the scores of all patches.

        Args:
            maps: float32 (N, in_channels, H, W), H and W at least 24.

        Returns:
            float32 (N, out_channels, h, w), h and w about an eighth.

        Raises:
            ValueError: The maps are too small.
        """
        if min(maps.shape[-2:]) < 24:
            raise ValueError(
                f'the critic got maps of {maps.shape[-2]}x{maps.shape[-1]} pixels, it '
                'needs at least 24x24: take a larger crop, or model.critic=None'
            )
        return self.layers(maps)

    def forward(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Return the critic's own loss.

        Args:
            fake: Predicted maps without gradient, float32 (N, in_channels, H, W).
            real: True maps, the same shape.

        Returns:
            ``critic_loss``, mean(score(fake)) - mean(score(real)) plus the weighted
            penalty; ``critic_distance``, mean(score(real)) - mean(score(fake));
            ``critic_penalty``, the mean over samples of (norm - 1) ** 2, where norm is
            that of the gradient of the sum of scores at a random point between the two.
        """
        distance = self.score(real).mean() - self.score(fake).mean()
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        mixed = (share * real + (1 - share) * fake).detach().requires_grad_()
        with torch.enable_grad():
            total = self.score(mixed).sum()
        (gradient,) = torch.autograd.grad(total, mixed, create_graph=True)
        # sqrt has no gradient at 0, where a critic of constant scores is.
        norm = (gradient.flatten(1).square().sum(1) + 1e-12).sqrt()
        penalty = (norm - 1).square().mean()
        return {
            'critic_loss': self.penalty_weight * penalty - distance,
            'critic_distance': distance,
            'critic_penalty': penalty,
        }
