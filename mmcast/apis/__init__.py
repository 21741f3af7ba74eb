"""Functions that users call from Python; most are verbs of the command ``mmcast``.

`own_data` is imported when it is asked for, and the rest of `report` when it is called,
since training needs neither.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mmcast.datasets.store_coco import Imported, from_coco, to_coco
from mmcast.datasets.store_copy import (
    Copied,
    Verified,
    convert_store,
    merge_stores,
    verify_store,
)

from .export_onnx import export_onnx
from .label import label
from .label_images import label_images
from .label_summary import LabelSummary
from .label_with_ray import label_with_ray
from .label_with_sam3 import label_with_sam3
from .labeler import Labeler, Row
from .load_model import load_model
from .merged_views import Views
from .models import ModelEntry, model_files, models
from .refine import refine
from .report import report
from .split import split

if TYPE_CHECKING:
    from mmcast.own_data.prepare import own_data

_LATER = {'own_data': 'mmcast.own_data.prepare'}

__all__ = [
    'Copied',
    'Imported',
    'LabelSummary',
    'Labeler',
    'ModelEntry',
    'Row',
    'Verified',
    'Views',
    'convert_store',
    'export_onnx',
    'from_coco',
    'label',
    'label_images',
    'label_with_ray',
    'label_with_sam3',
    'load_model',
    'merge_stores',
    'model_files',
    'models',
    'own_data',
    'refine',
    'report',
    'split',
    'to_coco',
    'verify_store',
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_LATER[name]), name)
