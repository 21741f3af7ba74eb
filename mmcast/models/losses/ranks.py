"""Pixels of all ranks as candidates."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(count: Tensor) -> tuple[Tensor, int]:
    """Sum a tensor over all ranks; return the sum and the number of ranks."""
    count = count.clone()
    if _world() > 1:
        dist.all_reduce(count)
    return count, _world()


def gather_rows(z: Tensor, cross: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Gather the other ranks' rows of two tensors; their number of rows may differ.

    Args:
        z: ``(M, D)`` float; its gradient, if any, flows back to its rank.
        cross: ``(M, F)`` float, without gradient.

    Returns:
        A pair like the arguments for each other rank; empty if there is none.
    """
    if _world() == 1:
        return []
    count = torch.tensor(len(z), device=z.device)
    counts = [torch.zeros_like(count) for _ in range(_world())]
    dist.all_gather(counts, count)
    rows_of = torch.stack(counts).tolist()
    width = z.shape[1]
    rows = torch.cat([z, cross.detach()], dim=1)
    rows = torch.cat([rows, rows.new_zeros(max(rows_of) - len(rows), rows.shape[1])])
    gathered = _AllGather.apply(rows)
    return [
        (each[:total, :width], each[:total, width:].detach())
        for rank, (each, total) in enumerate(zip(gathered, rows_of, strict=True))
        if rank != dist.get_rank()
    ]


class _AllGather(torch.autograd.Function):
    """Gather same-shape tensors; each rank gets the summed gradient of its tensor."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(_world())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[dist.get_rank()]
