"""What happens around training."""

from . import hooks, loops, optimizers

__all__ = ['hooks', 'loops', 'optimizers']
