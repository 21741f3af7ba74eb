"""Hooks that join the stages."""

from .checkpoint_fits_hook import CheckpointFitsHook
from .contrast_monitor_hook import ContrastMonitorHook
from .pseudo_label_hook import PseudoLabelHook
from .stage_inputs_hook import StageInputsHook
from .student_export_hook import StudentExportHook, export_student
from .teacher_update_hook import TeacherUpdateHook

__all__ = [
    'CheckpointFitsHook',
    'ContrastMonitorHook',
    'PseudoLabelHook',
    'StageInputsHook',
    'StudentExportHook',
    'TeacherUpdateHook',
    'export_student',
]
