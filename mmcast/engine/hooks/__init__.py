"""Hooks that join the stages."""

from .contrast_monitor_hook import ContrastMonitorHook
from .export_hook import ExportHook
from .preflight_hook import PreflightHook
from .pseudo_label_hook import PseudoLabelHook
from .random_state_hook import RandomStateHook
from .teacher_update_hook import TeacherUpdateHook

__all__ = [
    'ContrastMonitorHook',
    'ExportHook',
    'PreflightHook',
    'PseudoLabelHook',
    'RandomStateHook',
    'TeacherUpdateHook',
]
