"""Build a model that predicts, from a config and a plain checkpoint."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from mmdet.apis import init_detector
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, ConfigDict
from torch import nn

from mmcast.checkpoints import check_fits, read_checkpoint

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
        ValueError: The checkpoint does not fit or is none, or the config has no model.
    """
    for path in (config, checkpoint):
        if not Path(path).is_file():
            raise FileNotFoundError(f'{path} does not exist: correct the path')
    cfg = _read_config(config)
    cfg.model = _network(cfg)
    # A file that is none: torch's own errors advise to trust it.
    read_checkpoint(checkpoint, shapes_only=True)
    # Without cfg_options mmdet expects `model.backbone`, which composites lack.
    model = init_detector(cfg, str(checkpoint), device=str(device), cfg_options={})
    check_fits(model, checkpoint)
    return model


def device_of(name: str | None = None) -> torch.device:
    """Return a device by its name; for None a GPU if there is one, else the CPU.

    Raises:
        ValueError: There is no such device.
    """
    gpus = torch.cuda.device_count()
    try:
        found = torch.device(name or ('cuda' if gpus else 'cpu'))
    except RuntimeError:
        raise ValueError(f'device is {name!r}: give cpu, cuda or cuda:0') from None
    if found.type == 'cuda' and (found.index or 0) >= gpus:
        raise ValueError(
            f'device is {name}, and torch finds {gpus} GPUs: give another one, or cpu'
        )
    return found


def settings_digest(config: str | Path) -> str:
    """Return a digest of what decides about a model's predictions beside its weights.

    That is the network's config without what training alone needs, and the test
    pipeline.
    """
    cfg = _read_config(config, import_custom_modules=False)
    parts = [_network(cfg).to_dict(), get_test_pipeline_cfg(cfg)]
    text = json.dumps(_without_training(parts), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_config(path: str | Path, **options: Any) -> Config:
    if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise ValueError(f'{path} is no config: give a config, then its checkpoint')
    return Config.fromfile(path, **options)


def _network(cfg: Config) -> ConfigDict:
    if 'model' not in cfg:
        raise ValueError(f'{cfg.filename} has no model: give the config of a detector')
    network = cfg.model.get('student', cfg.model)
    for unused in _OF_TRAINING:
        if unused in network:
            network[unused] = None
    return network


def _without_training(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_training(value)
            for key, value in node.items()
            if key not in ('init_cfg', 'train_cfg') and not key.startswith('loss')
        }
    if isinstance(node, list | tuple):
        return [_without_training(each) for each in node]
    return node
