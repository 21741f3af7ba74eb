"""SAM 2.1 as a box-prompted segmenter, with transformers' model.

SAM 2 (arXiv 2408.00714). CAST prompts its image predictor with boxes only and takes
one mask per box (``multimask_output=False``; the best of three replaces an unstable
mask). To refine a mask, points and a mask are prompts, too.
"""

import copy
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from mmcast.checkpoints import State, load_strict, pretrained_source

from .mask_prompts import Prompts

# Image encoders of SAM 2.1 as published (sam2's configs/sam2.1/*.yaml), as differences
# from the tiny one, which is transformers' default.
ENCODERS: dict[str, dict[str, Any]] = {
    'tiny': {},
    'small': dict(blocks_per_stage=[1, 2, 11, 2], global_attention_blocks=[7, 10, 13]),
    'base-plus': dict(
        hidden_size=112,
        embed_dim_per_stage=[112, 224, 448, 896],
        num_attention_heads_per_stage=[2, 4, 8, 16],
        blocks_per_stage=[2, 3, 16, 3],
        global_attention_blocks=[12, 16, 20],
        window_positional_embedding_background_size=[14, 14],
    ),
    'large': dict(
        hidden_size=144,
        embed_dim_per_stage=[144, 288, 576, 1152],
        num_attention_heads_per_stage=[2, 4, 8, 16],
        blocks_per_stage=[2, 6, 36, 4],
        global_attention_blocks=[23, 33, 43],
        window_size_per_stage=[8, 4, 16, 8],
    ),
}
_TIED = 'prompt_encoder.shared_embedding.positional_embedding'


def sam2_config(arch: str | dict) -> Any:
    """Return transformers' ``Sam2Config`` for a published size or a dict of arguments.

    Raises:
        ImportError: transformers is missing or too old.
        ValueError: No such size.
    """
    try:
        from transformers import Sam2Config
    except ImportError as error:
        raise ImportError(
            'SAM 2 needs transformers >= 4.56.1, < 5, but it is not installed: '
            "pip install 'transformers>=4.56.1,<5'"
        ) from error
    if isinstance(arch, dict):
        return Sam2Config(**copy.deepcopy(arch))  # it changes its arguments
    if arch not in ENCODERS:
        raise ValueError(f'arch={arch!r} is unknown; choose one of {tuple(ENCODERS)}.')
    # transformers 5 does not know its kind without the name.
    encoder = copy.deepcopy(ENCODERS[arch])
    encoder['model_type'] = 'sam2_hiera_det_model'
    channels = encoder.get('embed_dim_per_stage', [96, 192, 384, 768])
    return Sam2Config(
        vision_config=dict(
            backbone_config=encoder, backbone_channel_list=channels[::-1]
        )
    )


@MODELS.register_module()
class Sam2Segmenter(BaseModule):
    """transformers' ``Sam2Model`` behind :class:`BoxSegmenter`.

    All of it is frozen until :meth:`unfreeze`.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base-plus'``, ``'large'``, or a dict of
            ``Sam2Config``'s arguments.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)`` with the
            ``model.safetensors`` of ``facebook/sam2.1-hiera-*`` or the
            ``segmenter.pth`` of a fine-tuning; None for random weights.

    Raises:
        ImportError: transformers is missing or too old.
    """

    def __init__(
        self, arch: str | dict = 'large', init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        config = sam2_config(arch)
        from transformers import Sam2ImageProcessorFast, Sam2Model

        self.sam2 = Sam2Model(config)
        self.sam2.requires_grad_(False)
        self.side = config.prompt_encoder_config.image_size
        self.processor = Sam2ImageProcessorFast(
            size=dict(height=self.side, width=self.side)
        )

    def unfreeze(self) -> None:
        """Let the prompt encoder and the mask decoder train, as in CAST."""
        self.sam2.prompt_encoder.requires_grad_(True)
        decoder = self.sam2.mask_decoder.requires_grad_(True)
        # These two see the image before any prompt, so they belong to the encoder.
        decoder.conv_s0.requires_grad_(False)
        decoder.conv_s1.requires_grad_(False)

    def init_weights(self) -> None:
        """Load ``init_cfg.checkpoint``; without it keep random weights.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not of this architecture.
        """
        source = pretrained_source(self)
        if source is not None:
            load_strict(self.sam2, source, _rename)

    @torch.no_grad()
    def encode(self, image: Tensor) -> list[Tensor]:
        """Embed an image, stretched to SAM 2's square (1024x1024).

        Args:
            image: RGB, (3, H, W), uint8 or float in [0, 255].

        Returns:
            Feature maps of three resolutions, each float (1, C_i, s_i, s_i).
        """
        pixels = self.processor(
            image, input_data_format='channels_first', return_tensors='pt'
        )['pixel_values']
        return self.sam2.get_image_embeddings(pixels.to(self.sam2.dtype))

    def segment(
        self, encoded: list[Tensor], boxes: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return one mask per box; see :class:`BoxSegmenter`.

        Returns:
            Logits, float (n, s, s), s a quarter of SAM 2's square, and the IoU with the
            true mask that SAM 2 expects, (n,).
        """
        height, width = size
        scale = boxes.new_tensor([self.side / width, self.side / height] * 2)
        # A new tensor, since transformers shifts its input boxes in place.
        prompts = (boxes * scale).to(self.sam2.dtype)[None]
        output = self.sam2(
            image_embeddings=encoded, input_boxes=prompts, multimask_output=False
        )
        return output.pred_masks[0, :, 0], output.iou_scores[0, :, 0]

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of a mask as prompt; others are resized to it."""
        return self.sam2.prompt_encoder.mask_input_size

    @torch.no_grad()
    def best_of_three(
        self, encoded: list[Tensor], prompts: Prompts, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return, of SAM 2's three masks of each object, the one it thinks best.

        Args:
            encoded: What :meth:`encode` returned.
            prompts: Of n objects, n >= 1. They are not changed.
            size: The image's height and width in pixels.

        Returns:
            Logits, float (n, s, s), s a quarter of SAM 2's square, and the IoU with the
            true mask that SAM 2 expects, (n,).
        """
        height, width = size
        dtype = self.sam2.dtype
        scale = prompts.points.new_tensor([self.side / width, self.side / height])
        # transformers takes the first pixel's centre for 0, 0.
        points = (prompts.points * scale - 0.5).to(dtype)[:, None]
        boxes = prompts.boxes
        if boxes is not None:
            boxes = (boxes * scale.repeat(2)).to(dtype)[:, None]
        count = len(points)
        masks = prompts.masks
        # Each object is a row of the batch, since a row has one mask as prompt.
        output = self.sam2(
            image_embeddings=[each.expand(count, -1, -1, -1) for each in encoded],
            input_points=points,
            input_labels=prompts.labels[:, None],
            input_boxes=boxes,
            input_masks=None if masks is None else masks.to(dtype)[:, None],
            multimask_output=True,
        )
        scores = output.iou_scores[:, 0]
        best = scores.argmax(1)
        row = torch.arange(count, device=best.device)
        return output.pred_masks[row, 0, best], scores[row, best]


def _rename(state: State) -> State:
    found = {
        name.removeprefix('segmenter.').removeprefix('sam2.'): tensor
        for name, tensor in state.items()
    }
    # One tensor with two names; published files have one of them.
    shared = found.get('shared_image_embedding.positional_embedding')
    if shared is not None:
        found.setdefault(_TIED, shared)
    return found
