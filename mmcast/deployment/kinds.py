"""Which model is exported by which graph."""

from typing import Any

from mmdet.models import CondInst, MaskRCNN, RTMDet
from torch import nn

from mmcast.deployment.dense_graphs import CondInstGraph, RTMDetInsGraph
from mmcast.deployment.graphs import DepthSegGraph, Graph, Mask2FormerGraph
from mmcast.deployment.two_stage_graphs import MaskRCNNGraph
from mmcast.models.detectors import PixelContrastMask2Former, SwinMTL

KINDS: dict[type, Any] = {
    PixelContrastMask2Former: Mask2FormerGraph,
    RTMDet: RTMDetInsGraph,
    CondInst: CondInstGraph,
    MaskRCNN: MaskRCNNGraph,
    SwinMTL: DepthSegGraph,
}


def graph_of(model: nn.Module, raw: bool) -> Graph:
    """Return a model's graph, ready for export.

    Args:
        model: A detector of one of ``KINDS``.
        raw: See :class:`~mmcast.deployment.graphs.Graph`.

    Raises:
        ValueError: The model is of another kind, or has a part or an option that
            cannot be exported.
    """
    for kind, graph in KINDS.items():
        if type(model) is kind:
            return graph(model, raw).eval()
    names = ', '.join(kind.__name__ for kind in KINDS)
    raise ValueError(
        f'{type(model).__name__} cannot be exported: give a config whose model is one '
        f'of {names}'
    )
