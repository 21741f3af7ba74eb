"""A tiny foundation-model teacher with random weights, without a download.

Swin, BERT, Grounding-DINO and SAM 2 run through the same code as at full size.
"""

from pathlib import Path
from typing import Any

import torch
from mmengine import Config
from transformers import BertConfig, BertModel

import mmcast

MODEL = (
    Path(mmcast.__file__).parent
    / '.mim/configs/mmcast/_base_/models/teacher_grounded_sam2.py'
)

SAM2 = dict(
    vision_config=dict(
        backbone_config=dict(
            hidden_size=8,
            image_size=[128, 128],
            blocks_per_stage=[1, 1, 2, 1],
            embed_dim_per_stage=[8, 16, 32, 64],
            num_attention_heads_per_stage=[1, 1, 2, 4],
            window_size_per_stage=[8, 4, 4, 2],
            global_attention_blocks=[3],
        ),
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=32,
    ),
    prompt_encoder_config=dict(hidden_size=32, image_size=128, mask_input_channels=4),
    mask_decoder_config=dict(
        hidden_size=32, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32
    ),
)
WORDS = (
    *('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle'),
    *('traffic', 'light', 'screen', 'door', 'a', 'on', 'thing', 'thin', '##g'),
)


def save_bert(folder: Path, **size: int) -> Path:
    """Save a BERT with random weights and few words, in transformers' own files.

    Args:
        folder: Where to.
        size: Arguments of transformers' ``BertConfig`` that are not tiny.
    """
    folder.mkdir(parents=True, exist_ok=True)
    letters = [mark + c for c in 'abcdefghijklmnopqrstuvwxyz' for mark in ('', '##')]
    special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', ',']
    vocabulary = dict.fromkeys([*special, *WORDS, *letters])
    (folder / 'vocab.txt').write_text('\n'.join(vocabulary) + '\n')
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(
            BertConfig(
                **dict(
                    vocab_size=len(vocabulary),
                    hidden_size=32,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    intermediate_size=32,
                    max_position_embeddings=256,
                )
                | size
            )
        )
    model.save_pretrained(folder)
    return folder


def shrink_detector(detector: Any, bert: Path | str) -> Any:
    """Make a Grounding-DINO small, in its config."""
    detector.update(num_queries=30, num_feature_levels=3, test_cfg=dict(max_per_img=30))
    detector.language_model.update(name=str(bert))
    detector.backbone.update(
        embed_dims=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 4, 8],
        window_size=4,
        pretrain_img_size=64,
        drop_path_rate=0.0,
        out_indices=(1, 2, 3),
        with_cp=False,
        init_cfg=None,
    )
    detector.neck.update(in_channels=[32, 64, 128], num_outs=3)
    encoder, decoder = detector.encoder, detector.decoder
    encoder.update(num_layers=1, num_cp=1)
    encoder.layer_cfg.self_attn_cfg.update(num_levels=3)
    encoder.layer_cfg.ffn_cfg.update(feedforward_channels=128)
    encoder.text_layer_cfg.ffn_cfg.update(feedforward_channels=128)
    encoder.fusion_layer_cfg.update(embed_dim=256)
    decoder.update(num_layers=2)
    decoder.layer_cfg.cross_attn_cfg.update(num_levels=3)
    decoder.layer_cfg.ffn_cfg.update(feedforward_channels=128)
    detector.dn_cfg.group_cfg.update(num_dn_queries=20)
    return detector


def teacher_config(
    bert: Path | str, classes: tuple[str, ...] = WORDS[:8], **changes: Any
) -> Any:
    """Make the config of a tiny GroundedSam2 from the published one's."""
    model = Config.fromfile(MODEL).model
    shrink_detector(model.detector, bert)
    model.detector.init_cfg = None
    model.segmenter = dict(type='Sam2Segmenter', arch=SAM2)
    model.classes = classes
    for name, value in changes.items():
        model[name] = value  # `update` would merge
    return model
