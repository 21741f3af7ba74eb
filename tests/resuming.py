"""Train until a stop, and compare what two runs leave."""

import pytest
import torch
from mmengine.runner import Runner


def train_until(stop, config, hook, **changes):
    """Train with a hook that raises KeyboardInterrupt unless ``stop`` is None."""
    config.update(changes)
    runner = Runner.from_cfg(config)
    runner.register_hook(hook)
    if stop is None:
        runner.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    return runner


def differences(found, wanted, where=''):
    """Yield the names of all values that differ, tensors bit by bit."""
    if type(found) is not type(wanted):
        yield f'{where} is {type(found).__name__}'
    elif isinstance(wanted, torch.Tensor):
        if not torch.equal(found, wanted):
            yield where
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted), where
        for key in wanted:
            yield from differences(found[key], wanted[key], f'{where}.{key}')
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), where
        for index, pair in enumerate(zip(found, wanted, strict=True)):
            yield from differences(*pair, f'{where}.{index}')
    elif found != wanted:
        yield where


def assert_same_end(found, wanted):
    """Compare weights, optimiser, schedulers and the losses in the log."""
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert [*differences(found[part], wanted[part], part)] == []
    logs = [each['message_hub']['log_scalars'] for each in (found, wanted)]
    names = [name for name in logs[1] if 'loss' in name]
    assert names
    for name in names:
        one, other = (log[name].current() for log in logs)
        assert one == other, name


def assert_identical(found, wanted):
    """Compare nested dicts and lists; tensors bit by bit."""
    assert [*differences(found, wanted)] == []
