"""Nested settings as Python text, laid out as ``ruff format`` does."""

from collections.abc import Mapping
from typing import Any

WIDTH = 88


class Code(str):
    """A Python expression, written as it is."""

    __slots__ = ()


def assignment(name: str, value: Any) -> str:
    """Return ``name = value`` with its newline.

    Args:
        name: What is left of the equals sign.
        value: Dicts, lists and tuples of values; `Code`; anything else by its ``repr``.
            A dict becomes ``dict(...)``; its keys '' and '**' are arguments without a
            name, `Code` of other dicts.
    """
    start = f'{name} = '
    return f'{start}{_layout(value, 0, len(start), 0)}\n'


def _layout(value: Any, indent: int, column: int, tail: int) -> str:
    """Write a value that starts at a column and is followed by some characters."""
    line = _one_line(value)
    brackets = _brackets(value)
    if brackets is None or column + len(line) + tail <= WIDTH:
        return line
    start, end = brackets
    items = _items(value)
    inside = indent + 4
    body = ', '.join(f'{key}{_one_line(each)}' for key, each in items)
    if inside + len(body) > WIDTH:
        comma = ',' if len(items) > 1 else ''
        lines = [
            f'{key}{_layout(each, inside, inside + len(key), len(comma))}{comma}'
            for key, each in items
        ]
        body = f'\n{" " * inside}'.join(lines)
    return f'{start}\n{" " * inside}{body}\n{" " * indent}{end}'


def _one_line(value: Any) -> str:
    brackets = _brackets(value)
    if brackets is None:
        return value if isinstance(value, Code) else repr(value)
    start, end = brackets
    body = ', '.join(f'{key}{_one_line(each)}' for key, each in _items(value))
    comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    return f'{start}{body}{comma}{end}'


def _brackets(value: Any) -> tuple[str, str] | None:
    if isinstance(value, Mapping):
        return 'dict(', ')'
    if isinstance(value, list | tuple):
        return ('[', ']') if isinstance(value, list) else ('(', ')')
    return None


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [
            (key if key in ('', '**') else f'{key}=', each)
            for key, each in value.items()
        ]
    return [('', each) for each in value]
