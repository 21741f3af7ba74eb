"""Losses: pure functions of tensors and the registered modules over them."""

from .pixel_contrast_loss import PixelContrastLoss

__all__ = ['PixelContrastLoss']
