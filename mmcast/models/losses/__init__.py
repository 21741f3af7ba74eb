"""Losses: pure functions of tensors and the registered modules over them."""

from .pixel_contrast_loss import PixelContrastLoss
from .presets import PRESETS

__all__ = ['PRESETS', 'PixelContrastLoss']
