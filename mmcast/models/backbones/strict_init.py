"""How this package's versions of backbones take the weights of a file."""

from abc import abstractmethod

from mmengine.model import BaseModule

from mmcast.checkpoints import State, load_strict, pretrained_source


class StrictInit(BaseModule):
    """A backbone that loads a file whole, or raises. The stock class comes after it.

    Attributes:
        exact: Whether a file with further weights is refused, too.
    """

    exact = True

    def init_weights(self) -> None:
        """Load ``init_cfg.checkpoint`` strictly, or draw random weights.

        Raises:
            FileNotFoundError: The checkpoint is neither on disk nor reachable.
            ValueError: It is not of this architecture.
        """
        source = pretrained_source(self)
        if source is None:
            super().init_weights()
        else:
            load_strict(self, source, self.rename, exact=self.exact)
            self._is_init = True

    @abstractmethod
    def rename(self, state: State) -> State:
        """Give the weights of a file this module's names."""
