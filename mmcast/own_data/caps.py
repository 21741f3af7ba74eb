"""How many objects of an image a detector can find, and a config that raises it."""

from collections.abc import Iterator, Mapping
from typing import Any

# Of mmdet's detectors, of Mask2Former, and of networks with a query for each object.
_KEYS = ('max_per_img', 'max_per_image', 'num_queries')
_OF_TRAINING = ('train_cfg',)


def find_caps(model: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield each limit on the objects of an image: its keys in the config, its value.

    Args:
        model: The config of a detector.
    """
    for key, value in model.items():
        if key in _KEYS and isinstance(value, int):
            yield (key,), value
        elif isinstance(value, Mapping) and key not in _OF_TRAINING:
            for keys, cap in find_caps(value):
                yield (key, *keys), cap


def raised(model: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return what to change in a detector's config so that it finds enough objects.

    A limit below ``most`` becomes half as many again as ``most``, in full hundreds: not
    every prediction is right.

    Args:
        model: The config of a detector.
        most: Objects of the fullest image.

    Returns:
        Nested keys, to be merged into the config; empty if nothing has to change.
    """
    changes: dict[str, Any] = {}
    for keys, cap in find_caps(model):
        if cap < most:
            node = changes
            for key in keys[:-1]:
                node = node.setdefault(key, {})
            node[keys[-1]] = enough(most)
    return changes


def enough(most: int) -> int:
    """Return half as many again as the objects of the fullest image, in hundreds."""
    return -(-most * 3 // 200) * 100


def most_labels(most: int) -> int:
    """Return how many pseudo-labels of an image are kept: 100, or `enough`."""
    return 100 if most <= 100 else enough(most)


def new_weights(changes: Mapping[str, Any]) -> list[str]:
    """Return the prefixes of weights that start at random with more queries.

    Args:
        changes: What `raised` returns.

    Returns:
        Prefixes for `PreflightHook`, with those of the classes; empty if the number of
        queries stays.
    """
    queries = [
        '.'.join((*keys[:-1], f'{name}.'))
        for keys, _ in find_caps(changes)
        if keys[-1] == 'num_queries'
        for name in ('query_embed', 'query_feat')
    ]
    return queries and ['panoptic_head.cls_embed.', *queries]
