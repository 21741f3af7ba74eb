"""Hooks, loops and optimiser constructors."""

from . import hooks, loops, optimizers

__all__ = ['hooks', 'loops', 'optimizers']
