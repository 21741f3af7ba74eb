"""The model inside a wrapper for distribution."""

from typing import Any

from mmengine.model import is_model_wrapper


def unwrapped(model: Any) -> Any:
    """Return the model inside a wrapper for distribution, or the model itself."""
    return model.module if is_model_wrapper(model) else model
