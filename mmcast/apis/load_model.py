"""Build a model that predicts, from a config and a plain checkpoint."""

from pathlib import Path

import torch
from mmdet.apis import init_detector
from mmengine.config import Config
from torch import nn

from mmcast.checkpoints import check_fits

# Only training needs them, so a checkpoint may lack them.
_OF_TRAINING = ('pixel_contrast', 'critic')


def load_model(
    config: str | Path, checkpoint: str | Path, device: str | torch.device = 'cpu'
) -> nn.Module:
    """Build the network that predicts, with its weights.

    mmdet's ``init_detector`` leaves weights random if the checkpoint lacks them.

    Args:
        config: Config of a detector or of SwinMTL. From a config with a teacher it
            takes the student.
        checkpoint: Plain checkpoint, as training exports it.
        device: Where the model goes.

    Returns:
        The model with ``cfg`` and ``dataset_meta``.

    Raises:
        FileNotFoundError: One of the files does not exist.
        ValueError: The checkpoint does not fit.
    """
    for path in (config, checkpoint):
        if not Path(path).is_file():
            raise FileNotFoundError(f'{path} does not exist: correct the path')
    cfg = Config.fromfile(config)
    if 'student' in cfg.model:
        cfg.model = cfg.model.student
    for unused in _OF_TRAINING:
        if unused in cfg.model:
            cfg.model[unused] = None
    # Without cfg_options mmdet expects `model.backbone`, which composites lack.
    model = init_detector(cfg, str(checkpoint), device=str(device), cfg_options={})
    check_fits(model, checkpoint)
    return model
