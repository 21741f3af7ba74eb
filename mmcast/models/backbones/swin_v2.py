"""Swin Transformer V2 (arXiv 2111.09883) as the encoder of SwinMTL.

The network is mmpretrain's. It differs in four ways, as in Swin V2's own code and in
SwinMTL's research code:

* stochastic depth drops a branch after its norm; mmpretrain drops before it, so the
  norm undoes the scale and a dropped branch still adds the norm's bias
* the last two stages do not shift their windows (SwinMTL)
* norms have epsilon 1e-6 (SwinMTL)
* norms of the branches start at 1e-5, so that a block starts as the identity (SwinMTL;
  Swin V2's own code starts at 0)
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn.bricks.drop import drop_path
from mmdet.registry import MODELS
from mmpretrain.models.backbones import SwinTransformerV2
from torch import Tensor, nn

from mmcast.checkpoints import State

from .strict_init import StrictInit

# Names of Swin V2's own files (also SimMIM's) and mmpretrain's, in this order.
_OWN_TO_MMPRETRAIN = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^layers\.', 'stages.'),
    (r'\.attn\.', '.attn.w_msa.'),
    (r'\.(rpe|cpb)_mlp\.', '.cpb_mlp.'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
)
_MERGE = re.compile(r'^stages\.(\d+)\.downsample\.')
_TABLES = ('relative_position_index', 'relative_coords_table')


class DropPathLayerNorm(nn.LayerNorm):
    """Layer norm whose output is dropped for whole samples while training.

    Args:
        num_features: Channels.
        drop_prob: Probability of dropping a sample.
        eps: Added to the variance.
    """

    def __init__(self, num_features: int, drop_prob: float, eps: float) -> None:
        super().__init__(num_features, eps=eps)
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of ``x``, float (N, L, C)."""
        return drop_path(super().forward(x), self.drop_prob, self.training)


@MODELS.register_module()
class SwinV2(StrictInit, SwinTransformerV2):
    """Swin V2 with stochastic depth after the norm.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, ``'large'``, ``'huge'``, or
            mmpretrain's dict.
        window_size: Side of the attention windows in tokens, by stage.
        pretrained_window_sizes: The same of the weights to start from; 0 without.
        shift: Whether every other block of a stage shifts its windows.
        drop_path_rate: Of the last block; it grows from 0 with depth.
        out_indices: Stages whose output is returned, normalised.
        kwargs: As mmpretrain's ``SwinTransformerV2``.
    """

    def __init__(
        self,
        arch: str | dict = 'base',
        window_size: Sequence[int] = (22, 22, 22, 11),
        pretrained_window_sizes: Sequence[int] = (12, 12, 12, 6),
        shift: Sequence[bool] = (True, True, False, False),
        drop_path_rate: float = 0.3,
        out_indices: Sequence[int] = (3,),
        **kwargs: Any,
    ) -> None:
        settings = self.arch_zoo[arch] if isinstance(arch, str) else arch
        depths = settings['depths']
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths)).tolist())
        eps = dict(eps=1e-6)  # mmcv's default is 1e-5
        norm = dict(type='LN', **eps)
        stages = []
        for depth, shifts in zip(depths, shift, strict=True):
            blocks = [
                dict(
                    norm_cfg=dict(type=DropPathLayerNorm, drop_prob=next(rates), **eps),
                    shift=shifts and index % 2 == 1,
                )
                for index in range(depth)
            ]
            stages.append(
                dict(
                    block_cfgs=blocks,
                    downsample_cfg=dict(use_post_norm=True, norm_cfg=norm),
                )
            )
        super().__init__(
            arch=arch,
            window_size=list(window_size),
            pretrained_window_sizes=list(pretrained_window_sizes),
            drop_path_rate=0.0,  # mmpretrain's, before the norm
            pad_small_map=True,
            out_indices=tuple(out_indices),
            norm_cfg=norm,
            stage_cfgs=stages,
            **{'patch_cfg': dict(norm_cfg=norm), **kwargs},
        )
        for stage in self.stages:
            for block in stage.blocks:
                nn.init.constant_(block.norm1.weight, 1e-5)
                nn.init.constant_(block.norm2.weight, 1e-5)
                if block.extra_norm:  # of the sum, not of a branch
                    block.norm3.drop_prob = 0.0

    def layer_depth(self, name: str) -> tuple[int, int]:
        """Return a weight's layer and the number of layers, for layer decay.

        The embedding, every block and every patch merging is a layer of its own;
        everything after them is the last one.

        Args:
            name: Name of the weight in this module.
        """
        first = [0]  # layers before each stage's first block
        for depth in self.depths:
            first.append(first[-1] + depth + 1)
        last = first[-1]
        if name.startswith('patch_embed.'):
            layer = 0
        elif match := re.match(r'stages\.(\d+)\.blocks\.(\d+)\.', name):
            layer = first[int(match[1])] + int(match[2]) + 1
        elif match := re.match(r'stages\.(\d+)\.downsample\.', name):
            layer = first[int(match[1])]
        else:
            layer = last
        return layer, last + 1

    def _delete_reinit_params(self, state_dict: State, prefix: str, *_: Any) -> None:
        """Load this module's own tables, whatever window a file is of.

        Called before loading. mmpretrain deletes the tables; then no strict loading
        works.
        """
        for name, table in self.named_buffers():
            if name.endswith(_TABLES):
                state_dict[prefix + name] = table

    def rename(self, state: State) -> State:
        """Give the weights of a file this module's names.

        mmpretrain's files have the prefix ``backbone.``, files of this module none. The
        authors have other names; SimMIM's and SwinMTL's files have them after
        ``encoder.``. Tables that depend on the window's size are this module's own.
        """
        for prefix in ('backbone.', 'encoder.'):
            if any(name.startswith(prefix) for name in state):
                state = {
                    name.removeprefix(prefix): tensor
                    for name, tensor in state.items()
                    if name.startswith(prefix)
                }
        if any(name.startswith('layers.') for name in state):
            state = _from_original(state, self.num_layers)
        own = self.state_dict()
        return {
            **{
                name: tensor
                for name, tensor in state.items()
                if not name.endswith(_TABLES)
                # Only pre-training hides tokens.
                and (name != 'mask_token' or name in own)
            },
            **{name: table for name, table in own.items() if name.endswith(_TABLES)},
        }


def _from_original(state: State, stages: int) -> State:
    """Rename the weights of Swin V2's authors, of SimMIM or of SwinMTL's encoder.

    Their patch merging is at the end of a stage, and its input has another order.
    """
    renamed = {}
    for name, tensor in state.items():
        if name.startswith('head.'):
            continue  # of the classifier
        if name.endswith('.attn_mask') or name.endswith('.k_bias'):
            continue  # fixed values
        for pattern, replacement in _OWN_TO_MMPRETRAIN:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r'^norm(\d?)\.', f'norm{stages - 1}.', name)
        if match := _MERGE.match(name):
            name = _MERGE.sub(f'stages.{int(match[1]) + 1}.downsample.', name)
            if name.endswith('reduction.weight'):
                tensor = _merge_columns(tensor)
        renamed[name] = tensor
    return renamed


def _merge_columns(weight: Tensor) -> Tensor:
    """Reorder the input of a patch merging, float (2 C, 4 C), to mmpretrain's.

    The authors concatenate the four pixels (0, 0), (1, 0), (0, 1), (1, 1) with C
    channels each. mmpretrain unfolds: channel by channel, the pixels row by row.
    """
    out, channels = weight.shape[0], weight.shape[1] // 4
    pixels = weight.reshape(out, 4, channels)[:, [0, 2, 1, 3]]
    return pixels.transpose(1, 2).reshape(out, 4 * channels)
