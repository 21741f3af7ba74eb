"""Compute the pixel contrast slowly and plainly, one pair of pixels at a time."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def softmax(x):
    x = np.asarray(x, dtype=np.float64)
    e = np.exp(x - x.max())
    return e / e.sum()


def unit(x):
    return np.asarray(x) / np.linalg.norm(x)


def read(mask_logits, size):
    """Read mask logits at the centres of evenly spaced cells, (B, K, N)."""
    return F.interpolate(mask_logits, size, mode='bilinear').flatten(2)


def scores(
    mask_logits,
    class_logits,
    size,
    *,
    score,
    candidates,
    unit_scores=True,
    floor=0.0,
    logits=None,
):
    """Compute (B * N, B * N) scores as in the paper, with 0 for excluded pairs.

    ``logits`` (B, K, N) are the mask logits at the cells. They are needed only if the
    cells are not evenly spaced.
    """
    h, w = size
    N = h * w
    b, k = mask_logits.shape[:2]
    logits = read(mask_logits, (h, w)) if logits is None else logits
    p_m = [[softmax(logits[i, :, p]) for p in range(N)] for i in range(b)]
    p_c = [[softmax(class_logits[i, q]) for q in range(k)] for i in range(b)]
    f_c = [
        [sum(p_m[i][p][q] * p_c[i][q] for q in range(k)) for p in range(N)]
        for i in range(b)
    ]
    out = np.zeros((b * N, b * N))
    allowed = np.zeros((b * N, b * N), bool)
    for a in range(b * N):
        for c in range(b * N):
            (i, p), (j, q) = divmod(a, N), divmod(c, N)
            excluded = (
                a == c
                or (i == j and candidates == 'other_images')
                or (i != j and candidates == 'same_image')
            )
            if excluded:
                continue
            allowed[a, c] = True
            parts = []
            if score in ('fused', 'mask') and i == j:
                parts.append((p_m[i][p], p_m[j][q]))
            if score in ('fused', 'class'):
                parts.append((f_c[i][p], f_c[j][q]))
            if not parts:
                out[a, c] = 1.0
                continue
            y, z = (np.concatenate(side) for side in zip(*parts, strict=True))
            if unit_scores:
                y, z = unit(y), unit(z)
            elif len(parts) == 2:
                y, z = y / math.sqrt(2), z / math.sqrt(2)
            out[a, c] = max(0.0, 1.0 - y @ z)
    if floor:
        # As in CAST's research code: normalise, then add the floor a second time.
        weights = np.where(allowed, out + floor, 0.0)
        total = weights.sum(1, keepdims=True)
        out = np.where(allowed, (weights / np.maximum(total, 1e-30) + floor) * total, 0)
    return out


def rows(z):
    """Return unit embeddings (B * N, D) in float64."""
    flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]).double()
    return F.normalize(flat, dim=-1)


def logits(z_weak, temperature, margin):
    """Return (B * N, B * N) similarities divided by T, with the margin's hinge."""
    weak = rows(z_weak)
    out = weak @ weak.T / temperature
    return out if margin is None else (out - margin).clamp(min=0)


def loss_of_draws(z_weak, z_strong, index, temperature, margin=None):
    """Return the mean loss for given negatives: a list of indices per anchor."""
    negatives = logits(z_weak, temperature, margin)
    pos = (rows(z_weak) * rows(z_strong)).sum(1) / temperature
    losses = []
    for a, drawn in enumerate(index):
        if len(drawn):
            sum_neg = sum(negatives[a, q].exp() for q in drawn)
            losses.append(-(pos[a].exp() / (pos[a].exp() + sum_neg)).log())
    return torch.stack(losses).mean() if losses else pos.sum() * 0


def expected_loss(z_weak, z_strong, weights, temperature, R, margin=None):
    """Return the mean loss with the expected sum of negatives in the denominator."""
    negatives = logits(z_weak, temperature, margin)
    pos = (rows(z_weak) * rows(z_strong)).sum(1) / temperature
    losses = []
    for a, weight in enumerate(torch.as_tensor(weights)):
        if weight.sum() > 0:
            share = weight / weight.sum()
            sum_neg = R * sum(
                share[q] * negatives[a, q].exp() for q in range(len(share))
            )
            losses.append(-(pos[a].exp() / (pos[a].exp() + sum_neg)).log())
    return torch.stack(losses).mean() if losses else pos.sum() * 0


def floor_of_loss(R, temperature):
    """Return the loss for equal views and orthogonal negatives."""
    return math.log(1 + R * math.exp(-1 / temperature))
