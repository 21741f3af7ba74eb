"""Functions that users call from Python."""

from .label_images import LabelSummary, label_images

__all__ = ['LabelSummary', 'label_images']
