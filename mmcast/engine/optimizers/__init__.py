"""Optimiser constructors and learning rate schedules."""

from .critic_constructor import CriticOptimWrapperConstructor
from .no_norm_decay import NoNormDecayConstructor
from .rise_and_fall_lr import RiseAndFallLR
from .student_constructor import StudentOptimWrapperConstructor

__all__ = [
    'CriticOptimWrapperConstructor',
    'NoNormDecayConstructor',
    'RiseAndFallLR',
    'StudentOptimWrapperConstructor',
]
