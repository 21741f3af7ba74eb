"""Test what Grounding-DINO's decoder reads under each mmdet."""

import torch
from mmdet.models.layers import DinoTransformerDecoder
from mmdet.models.layers.transformer.grounding_dino_layers import (
    GroundingDinoTransformerDecoder,
)
from mmdet.models.layers.transformer.utils import coordinate_to_encoding

from mmcast._requirements import mim_name
from mmcast.compat import box_encoding


def head():
    layer = dict(
        self_attn_cfg=dict(embed_dims=32, num_heads=2),
        cross_attn_text_cfg=dict(embed_dims=32, num_heads=2),
        cross_attn_cfg=dict(embed_dims=32, num_heads=2),
        ffn_cfg=dict(embed_dims=32, feedforward_channels=8),
    )
    decoder = GroundingDinoTransformerDecoder(
        num_layers=1, return_intermediate=True, layer_cfg=layer, post_norm_cfg=None
    )
    return decoder.ref_point_head


def test_a_wide_encoding_becomes_mmdets():
    boxes = torch.rand(2, 5, 4)
    narrow = coordinate_to_encoding(boxes, num_feats=16)
    wide = coordinate_to_encoding(boxes, num_feats=32)
    (found,) = box_encoding.every_second_frequency(head(), (wide,))
    assert found.equal(narrow)
    (same,) = box_encoding.every_second_frequency(head(), (narrow,))
    assert same is narrow


def test_decoder_takes_the_encoding_of_its_forward():
    """The forks encode a coordinate with the queries' width, mmdet with half of it."""
    encoding = coordinate_to_encoding(
        torch.rand(2, 5, 4), num_feats=16 if mim_name() == 'mmdet' else 32
    )
    assert head()(encoding).shape == (2, 5, 32)


def test_a_wide_forward_changes_the_decoder_once(monkeypatch):
    def forward(self, boxes):
        return coordinate_to_encoding(boxes, num_feats=32)

    make = GroundingDinoTransformerDecoder._init_layers
    monkeypatch.setattr(GroundingDinoTransformerDecoder, '_init_layers', make)
    monkeypatch.setattr(DinoTransformerDecoder, 'forward', forward)
    box_encoding.apply()
    box_encoding.apply()
    part = head()
    assert len(part._forward_pre_hooks) == 1
    assert part(forward(None, torch.rand(2, 5, 4))).shape == (2, 5, 32)
