"""Classes whose names say left or right: a flip swaps their meaning."""

import re
from collections.abc import Sequence

_WORD = re.compile(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+')
_OTHER = {'left': 'right', 'right': 'left'}


def sided_classes(classes: Sequence[str]) -> list[str]:
    """List the classes that have the word left or right in their name.

    >>> sided_classes(['left_eye', 'LeftHand', 'REAR RIGHT', 'leftover', 'bright'])
    ['left_eye', 'LeftHand', 'REAR RIGHT']
    """
    return [name for name in classes if _mirrored(name) != name]


def mirror_pairs(classes: Sequence[str]) -> list[tuple[str, str]] | None:
    """Pair each left class with the right class of the same name.

    Args:
        classes: All class names.

    Returns:
        The pairs, in the order of the classes; none if no name says left or right. None
        if a class lacks its partner, so that a flip has no label to swap it with.

    >>> mirror_pairs(['left_eye', 'mouth', 'right_eye'])
    [('left_eye', 'right_eye')]
    >>> mirror_pairs(['left_eye', 'mouth'])
    """
    sided = sided_classes(classes)
    partners = {name: _mirrored(name) for name in sided}
    if not set(partners.values()) <= set(sided):
        return None
    place = {name: i for i, name in enumerate(sided)}
    return [(a, b) for a, b in partners.items() if place[a] < place[b]]


def _mirrored(name: str) -> str:
    """Replace left by right, and right by left, in the letters' own case."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        found = _OTHER.get(word.lower())
        if found is None:
            return word
        if word.isupper():
            return found.upper()
        return found.title() if word[0].isupper() else found

    return _WORD.sub(other, name)
