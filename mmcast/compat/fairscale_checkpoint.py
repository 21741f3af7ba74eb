"""Let `num_cp` of mmdet's transformer encoders work without fairscale.

What breaks: mmdet (3.3, the maintained forks too) recomputes the activations of the
first `num_cp` encoder layers with fairscale's `checkpoint_wrapper`, and MM-Grounding-
DINO's configs ask for all six. fairscale has had no release since 2022. Without it the
detector cannot be built; with it a second pass through the encoder fails under
`DistributedDataParallel`.

The cure: use torch's own wrapper instead. It does not change the names in the state
dict, and allows several passes.

Remove it when mmdet no longer uses fairscale for `num_cp`.
"""

import importlib

_USERS = ('detr_layers', 'deformable_detr_layers', 'grounding_dino_layers')


def apply() -> None:
    """Give mmdet's encoders torch's checkpoint wrapper."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
        checkpoint_wrapper,
    )

    for name in _USERS:
        module = importlib.import_module(f'mmdet.models.layers.transformer.{name}')
        module.checkpoint_wrapper = checkpoint_wrapper  # type: ignore[attr-defined]
