"""Mask logits of a masked decoder as a product that is computed where it is needed.

Mask2Former (arXiv 2112.01527) predicts a mask as ``embedding . features``. Resizing and
reading points are linear, too. So they are applied to the features, once for all
queries and all decoder layers, or to the masks of a few queries.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNELS = 8  # that are upsampled together: they fit into a cache


class FactoredMasks:
    """Mask logits ``(B, K, H, W)``, kept as queries times features.

    Args:
        features: Mask features ``(B, C, h, w)`` float.
        embed: Mask embeddings of the queries ``(B, K, C)`` float. None makes each
            channel of ``features`` a mask of its own, as for logits that are there
            already.
        scale: The logits have ``scale`` times the features' height and width. Values
            between are bilinear, with aligned corners.
    """

    def __init__(
        self, features: Tensor, embed: Tensor | None = None, scale: int = 1
    ) -> None:
        self.features = features
        self.embed = embed
        self.scale = scale

    @property
    def shape(self) -> torch.Size:
        """Shape of the logits, (B, K, H, W)."""
        batch, channels, height, width = self.features.shape
        queries = channels if self.embed is None else self.embed.shape[1]
        return torch.Size((batch, queries, self.scale * height, self.scale * width))

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """The tensors that the logits are made of."""
        return (self.features,) if self.embed is None else (self.embed, self.features)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.features)

    def __getitem__(self, part: slice) -> 'FactoredMasks':
        """Return the masks of some images."""
        embed = None if self.embed is None else self.embed[part]
        return FactoredMasks(self.features[part], embed, self.scale)

    def detach(self) -> 'FactoredMasks':
        """Return the same masks without gradient."""
        embed = None if self.embed is None else self.embed.detach()
        return FactoredMasks(self.features.detach(), embed, self.scale)

    def of(self, queries: Sequence[Tensor]) -> Tensor:
        """Compute the whole masks of some queries.

        Args:
            queries: For each image, indices of queries, int64 (n_b,).

        Returns:
            Logits (sum n_b, H, W), image after image.
        """
        low = torch.cat(self._products(queries))
        # One channel each: interpolate takes any number of images, even none.
        return self._full(low[:, None])[:, 0]

    def computed(self, queries: Sequence[Tensor]) -> 'FactoredMasks':
        """Compute the product for some queries, without the scale.

        Args:
            queries: For each image, indices of n queries, int64 (n,).

        Returns:
            Masks (B, n, H, W).
        """
        return FactoredMasks(torch.stack(self._products(queries)), None, self.scale)

    def dense(self) -> Tensor:
        """Compute all logits (B, K, H, W)."""
        low = self.features
        if self.embed is not None:
            low = (self.embed @ low.flatten(2)).unflatten(2, low.shape[2:])
        return self._full(low)

    def at(self, size: tuple[int, int]) -> Tensor:
        """Compute all logits, resized bilinearly without aligned corners.

        Args:
            size: Height and width of the result.

        Returns:
            Logits (B, K, *size).
        """
        # Some channels at a time, because the features at full size are large.
        count = CHANNELS if self.scale > 1 else self.features.shape[1]
        small = torch.cat(
            [
                F.interpolate(self._full(maps), size, mode='bilinear')
                for maps in self.features.split(count, dim=1)
            ],
            dim=1,
        )
        if self.embed is None:
            return small
        return (self.embed @ small.flatten(2)).unflatten(2, size)

    def at_points(self, points: Tensor, padding_mode: str = 'zeros') -> Tensor:
        """Read all logits bilinearly at points.

        Args:
            points: (B, P, 2) as (x, y), 0 to 1 over the map.
            padding_mode: What is outside, as in ``grid_sample``.

        Returns:
            Logits (B, K, P), at least float32.
        """
        # A place is not exact in half precision.
        dtype = torch.promote_types(self.features.dtype, torch.float32)
        # One image at a time, because the features at full size are large.
        read = torch.cat(
            [
                F.grid_sample(
                    self._full(maps[None].to(dtype)),
                    places[None, None].to(dtype) * 2 - 1,
                    padding_mode=padding_mode,
                    align_corners=False,
                )[:, :, 0]
                for maps, places in zip(self.features, points, strict=True)
            ]
        )
        if self.embed is None:
            return read
        with torch.autocast(read.device.type, enabled=False):
            return self.embed.to(dtype) @ read.to(dtype)

    def _products(self, queries: Sequence[Tensor]) -> list[Tensor]:
        """Return for each image (n_b, h, w), at the features' size."""
        if self.embed is None:
            return [
                maps[index] for maps, index in zip(self.features, queries, strict=True)
            ]
        return [
            (embed[index] @ maps.flatten(1)).unflatten(1, maps.shape[1:])
            for embed, maps, index in zip(
                self.embed, self.features, queries, strict=True
            )
        ]

    def _full(self, maps: Tensor) -> Tensor:
        if self.scale == 1:
            return maps
        size = [self.scale * side for side in maps.shape[2:]]
        return F.interpolate(maps, size, mode='bilinear', align_corners=True)


def joined(layers: Sequence[FactoredMasks]) -> FactoredMasks:
    """Return the masks of several decoder layers as more queries of one.

    Args:
        layers: Masks (B, K, H, W) of each layer, with the same features.

    Returns:
        Masks (B, L * K, H, W), layer after layer.
    """
    first = layers[0]
    if first.embed is None:
        features = torch.cat([masks.features for masks in layers], dim=1)
        return FactoredMasks(features, scale=first.scale)
    embeds = [masks.embed for masks in layers if masks.embed is not None]
    return FactoredMasks(first.features, torch.cat(embeds, dim=1), first.scale)


def as_factored(masks: 'Tensor | FactoredMasks') -> FactoredMasks:
    """Return masks as they are, or logits (B, K, H, W) as masks."""
    return masks if isinstance(masks, FactoredMasks) else FactoredMasks(masks)


def read_bool_masks(
    masks: Tensor, points: Tensor, which: Tensor | None = None
) -> Tensor:
    """Read masks bilinearly at points; outside is 0.

    The same as ``grid_sample`` of the masks as floats, which would need four bytes for
    every pixel.

    Args:
        masks: (G, H, W) bool.
        points: (P, 2) or (N, P, 2) float, as (x, y), 0 to 1.
        which: The mask of each row of points, int64 (N,); None to read all masks at
            the same points.

    Returns:
        (N, P), or (G, P), of the points' dtype.
    """
    height, width = masks.shape[1:]
    # A frame of zeros, so that all four neighbours exist.
    framed = F.pad(masks, (1, 1, 1, 1))
    places = points * points.new_tensor([width, height]) + 0.5
    x, y = places.clamp(min=0).unbind(-1)
    left, top = x.floor().clamp(max=width), y.floor().clamp(max=height)
    x, y = (x - left).clamp(max=1), (y - top).clamp(max=1)
    rows = torch.arange(len(masks), device=masks.device) if which is None else which
    corner = top.long() * (width + 2) + left.long()
    corner = corner + rows[:, None] * ((height + 2) * (width + 2))
    above = framed.take(corner).to(x).lerp(framed.take(corner + 1).to(x), x)
    corner += width + 2
    below = framed.take(corner).to(x).lerp(framed.take(corner + 1).to(x), x)
    return above.lerp(below, y)
