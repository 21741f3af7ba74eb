"""Mask2Former's masked decoder layer with fused attention, on mmdet's modules.

Source: Mask2Former (arXiv 2112.01527), section 3.2. The result is that of mmdet's
layer. One attention mask serves all heads, and attention weights are never stored.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def attended(logits: Tensor) -> Tensor:
    """Turn mask logits into the places that each query looks at.

    Args:
        logits: (B, K, P) float, masks at the P places of a level.

    Returns:
        Bool (B, 1, K, P), True where the mask is; everywhere for an empty mask.
    """
    inside = logits >= 0
    return (inside | ~inside.any(-1, keepdim=True))[:, None]


def attend(
    block: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """Compute what an mmcv ``MultiheadAttention`` adds to its queries.

    Args:
        block: The module, with equal widths of query, key and value.
        query: (B, K, C) with its position.
        key: (B, P, C) with its position.
        value: (B, P, C).
        mask: Bool (B, 1, K, P), True where a query may look; None for everywhere.

    Returns:
        (B, K, C), without the residual.
    """
    attention: nn.MultiheadAttention = block.attn
    weights = attention.in_proj_weight.chunk(3)
    biases: Any = (None, None, None)
    if attention.in_proj_bias is not None:
        biases = attention.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, weight, bias)
        .unflatten(2, (attention.num_heads, attention.head_dim))
        .transpose(1, 2)
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    dropout = attention.dropout if attention.training else 0.0
    out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
    out = attention.out_proj(out.transpose(1, 2).flatten(2))
    return block.dropout_layer(block.proj_drop(out))


def masked_decoder_layer(
    layer: Any,
    query: Tensor,
    position: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
) -> Tensor:
    """Run mmdet's ``Mask2FormerTransformerDecoderLayer``.

    Args:
        layer: The module.
        query: (B, K, C).
        position: Positions of the queries, (B, K, C) or (K, C).
        key: The level's features with their positions, (B, P, C).
        value: The level's features (B, P, C).
        mask: See :func:`attend`.

    Returns:
        The new queries (B, K, C).
    """
    found = attend(layer.cross_attn, query + position, key, value, mask)
    query = layer.norms[0](query + found)
    placed = query + position
    found = attend(layer.self_attn, placed, placed, query, None)
    query = layer.norms[1](query + found)
    return layer.norms[2](layer.ffn(query))
