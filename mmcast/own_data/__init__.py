"""A user's own data: the configs of all stages, with the user's own detectors."""

from .caps import find_caps, most_labels, raised
from .configs import check_configs, config_files
from .detectors import Detector, read_detector, trained_classes
from .lengths import StageLength, seen_sizes, stage_length
from .plan import STAGES, Files, Plan

__all__ = [
    'STAGES',
    'Detector',
    'Files',
    'Plan',
    'StageLength',
    'check_configs',
    'config_files',
    'find_caps',
    'most_labels',
    'raised',
    'read_detector',
    'seen_sizes',
    'stage_length',
    'trained_classes',
]
