"""What happens around training."""

from . import hooks, optimizers

__all__ = ['hooks', 'optimizers']
