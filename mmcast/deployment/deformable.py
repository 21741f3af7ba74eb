"""Mask2Former's own pixel decoder in a form that torch's exporter can follow.

mmdet keeps the sizes of the maps in tensors, and an exporter does not know what is in a
tensor. Here they are numbers. Everything else is computed as in mmdet.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttention,
    multi_scale_deformable_attn_pytorch,
)
from mmdet.models.layers import MSDeformAttnPixelDecoder
from torch import Tensor, nn

Size = tuple[int, int]


@contextmanager
def sizes_as_numbers(model: nn.Module) -> Iterator[None]:
    """Let the model's deformable pixel decoders compute through :func:`decode`.

    Raises:
        ValueError: The model has deformable attention elsewhere.
    """
    decoders: list[Any] = [
        part for part in model.modules() if isinstance(part, MSDeformAttnPixelDecoder)
    ]
    inside = {id(part) for decoder in decoders for part in decoder.modules()}
    for name, part in model.named_modules():
        if isinstance(part, MultiScaleDeformableAttention) and id(part) not in inside:
            raise ValueError(
                f"{name}: torch's exporter follows deformable attention in "
                "Mask2Former's pixel decoder alone: choose another student"
            )
    for decoder in decoders:
        decoder.forward = functools.partial(decode, decoder)
    try:
        yield
    finally:
        for decoder in decoders:
            del decoder.forward


def decode(decoder: Any, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Compute ``MSDeformAttnPixelDecoder.forward``.

    Args:
        decoder: A pixel decoder of mmdet, in evaluation mode.
        maps: The backbone's maps, fine to coarse, each (B, C, h, w).

    Returns:
        The mask features (B, C, h, w), and the maps for the transformer decoder, coarse
        to fine.
    """
    coarse = maps[::-1][: decoder.num_encoder_levels]
    sizes = [(each.shape[2], each.shape[3]) for each in coarse]
    tokens, positions, centres = [], [], []
    for i, (each, (height, width)) in enumerate(zip(coarse, sizes, strict=True)):
        nothing = each.new_zeros((each.shape[0], height, width), dtype=torch.bool)
        level = decoder.level_encoding.weight[i].view(1, -1, 1, 1)
        position = decoder.postional_encoding(nothing) + level
        positions.append(position.flatten(2).transpose(1, 2))
        tokens.append(decoder.input_convs[i](each).flatten(2).transpose(1, 2))
        centres.append(_centres(height, width))
    memory, position = torch.cat(tokens, 1), torch.cat(positions, 1)
    places = torch.cat(centres)
    for layer in decoder.encoder.layers:
        memory = _attend(layer.self_attn, memory, position, places, sizes)
        memory = layer.norms[1](layer.ffn(layer.norms[0](memory)))
    parts = memory.transpose(1, 2).split([h * w for h, w in sizes], dim=2)
    found = [part.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]
    finer = maps[: len(maps) - decoder.num_encoder_levels]
    for i, each in reversed(list(enumerate(finer))):
        side = decoder.lateral_convs[i](each)
        larger = F.interpolate(found[-1], side.shape[2:], mode='bilinear')
        found.append(decoder.output_convs[i](side + larger))
    return decoder.mask_feature(found[-1]), found[: decoder.num_outs]


def _centres(height: int, width: int) -> Tensor:
    """Return x and y of the pixels' centres, from 0 to 1, (height * width, 2)."""
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing='xy'), -1).flatten(0, 1)


def _attend(
    attention: Any,
    tokens: Tensor,
    positions: Tensor,
    centres: Tensor,
    sizes: Sequence[Size],
) -> Tensor:
    """Compute ``MultiScaleDeformableAttention.forward`` of tokens (B, N, C)."""
    batch, count, _ = tokens.shape
    heads, levels = attention.num_heads, attention.num_levels
    query = tokens + positions
    offsets = attention.sampling_offsets(query).view(batch, count, heads, levels, -1, 2)
    weights = attention.attention_weights(query).view(batch, count, heads, -1)
    weights = weights.softmax(-1).unflatten(-1, (levels, -1))
    x, y = centres[:, :1, None], centres[:, 1:, None]
    places = [
        torch.stack((x + each[..., 0] / width, y + each[..., 1] / height), -1)
        for each, (height, width) in zip(offsets.unbind(3), sizes, strict=True)
    ]
    values = attention.value_proj(tokens).unflatten(-1, (heads, -1))
    found = multi_scale_deformable_attn_pytorch(
        values, sizes, torch.stack(places, 3), weights
    )
    return attention.output_proj(found) + tokens
