"""Hooks that join the stages."""

from .contrast_monitor_hook import ContrastMonitorHook
from .export_hook import ExportHook
from .preflight_hook import PreflightHook
from .pseudo_label_hook import PseudoLabelHook
from .random_state_hook import RandomStateHook
from .skip_invalid_loss_hook import SkipInvalidLossHook
from .teacher_update_hook import TeacherUpdateHook
from .unreadable_images_hook import UnreadableImagesHook

__all__ = [
    'ContrastMonitorHook',
    'ExportHook',
    'PreflightHook',
    'PseudoLabelHook',
    'RandomStateHook',
    'SkipInvalidLossHook',
    'TeacherUpdateHook',
    'UnreadableImagesHook',
]
