"""Match the queries of all decoder layers with the annotated instances."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.task_modules import CrossEntropyLossCost, HungarianAssigner
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmcast.models.factored_masks import FactoredMasks, joined, read_bool_masks

Match = tuple[Tensor, Tensor]


@torch.no_grad()
def match(
    assigner: HungarianAssigner,
    classes: Sequence[Tensor],
    masks: Sequence[FactoredMasks],
    targets: Sequence[InstanceData],
    num_points: int,
) -> list[list[Match]]:
    """Find the cheapest one-to-one matching for every decoder layer and image.

    Costs compare masks at random points, as in Mask2Former (arXiv 2112.01527), section
    3.3. All layers share an image's points. All costs go to the host together.

    Args:
        assigner: Its ``match_costs`` are used.
        classes: Class logits of each layer, (B, K, C + 1).
        masks: Masks of each layer, (B, K, H, W).
        targets: For each image, ``labels`` int64 (g,) and ``masks`` bool (g, H', W') of
            any resolution.
        num_points: Points of an image.

    Returns:
        For each layer and image, indices of matched queries, ascending, and of their
        instances, int64 (n,).
    """
    layers, queries = len(classes), classes[0].shape[1]
    device = classes[0].device
    every = joined(masks)
    costs = []
    # A sum over thousands of points overflows float16.
    with torch.autocast(device.type, enabled=False):
        for i, target in enumerate(targets):
            points = torch.rand((1, num_points, 2), device=device)
            if not len(target):
                continue
            found = InstanceData(
                scores=torch.cat([of_layer[i] for of_layer in classes]).float(),
                masks=every[i : i + 1].at_points(points)[0].float(),
            )
            true = InstanceData(
                labels=target.labels, masks=read_bool_masks(target.masks, points[0])
            )
            parts = [_cost(cost, found, true) for cost in assigner.match_costs]
            costs.append(torch.stack(parts).sum(0))
    on_host = None
    if costs:
        # scipy refuses NaN. The loss is NaN with any match: training skips the step.
        every_cost = torch.cat([cost.flatten() for cost in costs])
        on_host = every_cost.nan_to_num(1e6, 1e6, -1e6).cpu()
    pairs, start = [], 0
    for target in targets:
        count = len(target)
        for _ in range(layers):
            if on_host is None or not count:
                pairs.append(torch.zeros(2, 0, dtype=torch.int64))
                continue
            end = start + queries * count
            cost = on_host[start:end].reshape(queries, count)
            start = end
            rows, columns = linear_sum_assignment(cost.numpy())
            pairs.append(torch.stack([torch.as_tensor(rows), torch.as_tensor(columns)]))
    on_device = torch.cat(pairs, dim=1).to(device)
    split = on_device.split([pair.shape[1] for pair in pairs], dim=1)
    return [
        [(pair[0], pair[1]) for pair in split[layer::layers]] for layer in range(layers)
    ]


def _cost(cost: Any, found: InstanceData, true: InstanceData) -> Tensor:
    """Return mmdet's cost (K, g); cross entropy with one softplus instead of two."""
    if not isinstance(cost, CrossEntropyLossCost) or not cost.use_sigmoid:
        return cost(found, true)
    # -log(sigmoid(x)) = softplus(x) - x, -log(1 - sigmoid(x)) = softplus(x).
    both = F.softplus(found.masks).sum(1, keepdim=True)
    entropy = both - found.masks @ true.masks.to(found.masks).T
    return cost.weight * entropy / found.masks.shape[1]
