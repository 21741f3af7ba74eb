"""A small segmenter of boxes and rough masks: it sees their surroundings at one size.

It stands in for SAM 2 where a laptop has to train it. The architecture is this
project's: a U-Net (arXiv 1505.04597) on crops as Mask R-CNN cuts them (RoIAlign, arXiv
1703.06870).
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.ops import roi_align
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmcast.checkpoints import State, load_strict, pretrained_source

_MEAN, _STD = 128.0, 64.0
_RIM = 2.0  # pixels around a box that are seen in any case
_OUTSIDE = -10.0  # logit of pixels outside the crop


@MODELS.register_module()
class CropSegmenter(BaseModule):
    """A U-Net on the surroundings of each box, behind :class:`BoxSegmenter`.

    Args:
        channels: Channels of each level, multiples of 8. The first one has half the
            crop's size, and each other one half the size of the one before.
        side: Height and width of a crop.
        context: Height and width of what is seen, as a multiple of the box's.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)`` with the
            ``segmenter.pth`` of a training; None for random weights.
    """

    def __init__(
        self,
        channels: Sequence[int] = (48, 80, 112, 144),
        side: int = 64,
        context: float = 1.5,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.side = side
        self.context = context
        pairs = list(itertools.pairwise(channels))
        # Colour, box and mask of 2x2 pixels.
        self.stem = _Block(5 * 4, channels[0])
        self.down = nn.ModuleList(_Block(high, low, stride=2) for high, low in pairs)
        self.lateral = nn.ModuleList(nn.Conv2d(low, high, 1) for high, low in pairs)
        self.up = nn.ModuleList(_Block(high, high) for high, _ in pairs)
        self.head = nn.Conv2d(channels[0], 4, 3, padding=1)

    def init_weights(self) -> None:
        """Load ``init_cfg.checkpoint``; without it keep random weights.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not of this architecture.
        """
        source = pretrained_source(self)
        if source is not None:
            load_strict(self, source, _rename)

    def unfreeze(self) -> None:
        """Let all of it train."""
        self.requires_grad_(True)

    def encode(self, image: Tensor) -> Tensor:
        """Normalise an image.

        Args:
            image: RGB, (3, H, W), uint8 or float in [0, 255].

        Returns:
            Float (1, 3, H, W).
        """
        return (image[None].to(self.head.weight.dtype) - _MEAN) / _STD

    def segment(
        self,
        encoded: Tensor,
        boxes: Tensor,
        size: tuple[int, int],
        masks: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Return one mask per box; see :class:`BoxSegmenter`.

        Args:
            encoded: What :meth:`encode` returned.
            boxes: Float (n, 4), xyxy in pixels of the image; n >= 1. Not changed.
            size: The image's height and width in pixels.
            masks: What is known of each object, float (n, H, W): 1 inside, -1 outside,
                0 unknown. None for nothing.

        Returns:
            Logits, float (n, H, W), and None: it does not know how good they are.
        """
        windows = self._windows(boxes)
        logits = self._predict(self._look(encoded, boxes, windows, masks))
        return _paste(logits, windows, size), None

    def compare(
        self,
        encoded: Tensor,
        boxes: Tensor,
        target: Tensor,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return what a loss compares: in the crops, where small objects are large.

        Args:
            encoded: What :meth:`encode` returned.
            boxes: Float (n, 4), xyxy in pixels of the image; n >= 1. Not changed.
            target: The true masks, float (n, H, W), 0 or 1.
            masks: As in :meth:`segment`.

        Returns:
            Logits and true masks, each float (n, side * side).
        """
        windows = self._windows(boxes)
        logits = self._predict(self._look(encoded, boxes, windows, masks))
        cut = self._crop(target[:, None], windows) > 0.5
        return logits.flatten(1), cut.to(logits.dtype).flatten(1)

    def _look(
        self, encoded: Tensor, boxes: Tensor, windows: Tensor, masks: Tensor | None
    ) -> Tensor:
        """Return colour, box and mask of each window, float (n, 5, side, side)."""
        colour = self._crop(encoded, windows)
        place = (torch.arange(self.side, device=boxes.device) + 0.5) / self.side
        # Where the box is in its crop; the same for all but small boxes.
        x, y = (
            windows[:, None, i] + place * (windows[:, i + 2] - windows[:, i])[:, None]
            for i in (0, 1)
        )
        inside_x = (x > boxes[:, None, 0]) & (x < boxes[:, None, 2])
        inside_y = (y > boxes[:, None, 1]) & (y < boxes[:, None, 3])
        inside = (inside_y[:, :, None] & inside_x[:, None, :])[:, None].to(colour.dtype)
        known = torch.zeros_like(inside)
        if masks is not None:
            known = self._crop(masks[:, None], windows)
        return torch.cat([colour, inside, known], 1)

    def _crop(self, images: Tensor, windows: Tensor) -> Tensor:
        """Cut windows (n, 4) out of an image each, or all out of one (1, C, H, W)."""
        index = torch.arange(len(windows), device=windows.device) % len(images)
        rois = torch.cat([index[:, None].to(windows), windows], 1)
        # On a CPU it reads memory as if it were in order (mmcv 2.1).
        return roi_align(images.contiguous(), rois, self.side, 1.0, 0, 'avg', True)

    def _windows(self, boxes: Tensor) -> Tensor:
        """Return what is seen of each box, xyxy (n, 4)."""
        sides = boxes[:, 2:] - boxes[:, :2]
        more = torch.maximum(sides * (self.context - 1) / 2, sides.new_tensor(_RIM))
        return torch.cat([boxes[:, :2] - more, boxes[:, 2:] + more], 1)

    def _predict(self, crops: Tensor) -> Tensor:
        """Turn crops (n, 5, side, side) into logits (n, 1, side, side)."""
        levels = [self.stem(F.pixel_unshuffle(crops, 2))]
        for down in self.down:
            levels.append(down(levels[-1]))
        found = levels.pop()
        for lateral, up in zip(self.lateral[::-1], self.up[::-1], strict=True):
            level = levels.pop()
            found = F.interpolate(lateral(found), level.shape[-2:], mode='bilinear')
            found = up(level + found)
        return F.pixel_shuffle(self.head(found), 2)


class _Block(nn.Module):
    """Two convolutions beside a short cut (arXiv 1512.03385), with group norm."""

    def __init__(self, ins: int, outs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(ins, outs, 3, stride, 1, bias=False),
            nn.GroupNorm(8, outs),
            nn.ReLU(inplace=True),
        )
        self.second = nn.Sequential(
            nn.Conv2d(outs, outs, 3, 1, 1, bias=False), nn.GroupNorm(8, outs)
        )
        same = ins == outs and stride == 1
        self.short = nn.Identity() if same else nn.Conv2d(ins, outs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.short(x))


def _paste(logits: Tensor, windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Put crops (n, 1, s, s) where their windows (n, 4) are; (n, H, W)."""
    places = []
    for i, length in ((0, size[1]), (1, size[0])):
        low, high = windows[:, i, None], windows[:, i + 2, None]
        pixels = torch.arange(length, device=windows.device) + 0.5
        places.append(2 * (pixels - low) / (high - low) - 1)
    x, y = places
    shape = (len(x), *size)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], -1)
    # Samples outside are 0.
    found = F.grid_sample(logits - _OUTSIDE, grid.to(logits.dtype), align_corners=False)
    return found[:, 0] + _OUTSIDE


def _rename(state: State) -> State:
    return {name.removeprefix('segmenter.'): value for name, value in state.items()}
