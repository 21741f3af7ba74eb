"""Losses: pure functions of tensors, and registered modules that use them."""

from .critic import WassersteinCritic
from .grid import Grid
from .pixel_contrast_loss import PixelContrastLoss
from .presets import PRESETS

__all__ = ['PRESETS', 'Grid', 'PixelContrastLoss', 'WassersteinCritic']
