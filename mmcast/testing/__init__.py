"""Tiny models and reduced configs, for tests and benchmarks."""

from .reduced_configs import CONFIGS, THINGS, all_dicts, load_config, reduced, shrink
from .stock_detectors import FAMILIES, stock_detector
from .stock_head import stock_model
from .tiny_teacher import SAM2, WORDS, save_bert, shrink_detector, teacher_config

__all__ = [
    'CONFIGS',
    'FAMILIES',
    'SAM2',
    'THINGS',
    'WORDS',
    'all_dicts',
    'load_config',
    'reduced',
    'save_bert',
    'shrink',
    'shrink_detector',
    'stock_detector',
    'stock_model',
    'teacher_config',
]
