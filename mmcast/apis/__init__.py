"""Functions that users call from Python."""

from .label_images import LabelSummary, label_images
from .load_model import load_model
from .model_files import model_files

__all__ = ['LabelSummary', 'label_images', 'load_model', 'model_files']
