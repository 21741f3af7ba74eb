"""Pre-trained weights: read from a file or address, loaded whole or not at all."""

from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import load_file
from torch import Tensor, nn


def load_pretrained(source: str) -> dict:
    """Load a checkpoint from a path or URL, or say where the file belongs.

    Args:
        source: A path (also of a ``.safetensors`` file), or a URL that mmengine's
            checkpoint loader understands.

    Returns:
        The checkpoint as stored, on the CPU.

    Raises:
        FileNotFoundError: Nothing there, or the network does not answer.
    """
    is_url = '://' in source
    try:
        if source.endswith('.safetensors') and not is_url:
            return load_file(source)
        return CheckpointLoader.load_checkpoint(source, map_location='cpu')
    except OSError as error:  # URLError is one, too
        if is_url:
            folder = Path(torch.hub.get_dir()) / 'checkpoints'
            remedy = (
                f'could not be downloaded ({error}): fetch it elsewhere and put '
                f'it at {folder / source.rsplit("/", 1)[-1]}'
            )
        else:
            remedy = 'does not exist: put the file there'
        raise FileNotFoundError(
            f'pretrained weights {source}: {remedy}, or point '
            'init_cfg.checkpoint at your copy'
        ) from error


def load_whole(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict that has every weight of a module, in its shape.

    What it holds beyond them (SAM 2's memory, say) is left out.

    Args:
        module: Whose weights are replaced.
        state: Names to tensors.
        source: Where they come from, for messages.

    Raises:
        ValueError: Weights are missing or of another shape; none is loaded.
    """
    own = module.state_dict()
    wrong = [f'{name} is missing' for name in own if name not in state]
    wrong += [
        f'{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}'
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if wrong:
        raise ValueError(
            f'{source} is not a checkpoint of this {type(module).__name__}: '
            f'{len(wrong)} of its {len(own)} weights differ ({"; ".join(wrong[:3])}'
            f'{"; ..." if len(wrong) > 3 else ""}): choose the file that belongs to '
            'the configured architecture'
        )
    module.load_state_dict({name: state[name] for name in own})
    MMLogger.get_current_instance().info(
        f'{type(module).__name__}: weights loaded from {source}'
    )
