"""Lists of the names and shapes of published weights, short enough to be read.

A line has a name and a shape. ``blocks.{0-11}.norm1.weight 384`` are twelve weights.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import groupby, product
from pathlib import Path

import torch
from torch import Tensor

LISTS = Path(__file__).parent / 'published_weights'


def fold(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the lines of a list, sorted."""
    found = {
        (tuple(re.split(r'(\d+)', name)), ' '.join(map(str, w.shape)))
        for name, w in weights.items()
    }
    numbers = max(len(parts) for parts, _ in found) // 2
    for place in reversed(range(1, 2 * numbers, 2)):
        groups: dict[tuple, set[int]] = {}
        kept = set()
        for parts, shape in found:
            if place >= len(parts):
                kept.add((parts, shape))
                continue
            rest = (parts[:place], parts[place + 1 :], shape)
            groups.setdefault(rest, set()).add(int(parts[place]))
        for (before, after, shape), values in groups.items():
            kept.add(((*before, _ranges(values), *after), shape))
        found = kept
    return sorted(f'{"".join(parts)} {shape}'.strip() for parts, shape in found)


def unfold(lines: Iterable[str]) -> dict[str, Tensor]:
    """Return the weights of a list, without values."""
    weights = {}
    for line in lines:
        name, *shape = line.split()
        parts = re.split(r'\{(.*?)\}', name)
        choices = [_values(p) if i % 2 else [p] for i, p in enumerate(parts)]
        for chosen in product(*choices):
            weights[''.join(chosen)] = torch.empty(
                [int(side) for side in shape], device='meta'
            )
    return weights


def read(name: str) -> dict[str, Tensor]:
    """Return the weights of ``published_weights/NAME.txt``, without values."""
    return unfold((LISTS / f'{name}.txt').read_text().splitlines())


def _ranges(values: set[int]) -> str:
    if len(values) == 1:
        return str(*values)
    runs = [
        [value for _, value in run]
        for _, run in groupby(enumerate(sorted(values)), lambda pair: pair[1] - pair[0])
    ]
    texts = [f'{run[0]}-{run[-1]}' if len(run) > 1 else f'{run[0]}' for run in runs]
    return f'{{{",".join(texts)}}}'


def _values(text: str) -> list[str]:
    ends = [run.split('-') for run in text.split(',')]
    return [
        str(value) for run in ends for value in range(int(run[0]), int(run[-1]) + 1)
    ]
