"""What a store of pseudo-labels says about itself in ``manifest.json``."""

import json
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mmcast.files import sha256

# The layout of a store by its format.
_FORMATS = {'mmcast-pseudo-labels': 'folder', 'mmcast-pseudo-label-shards': 'shards'}
LAYOUTS = tuple(_FORMATS.values())
VERSION = 1


@dataclass(frozen=True)
class Teacher:
    """The model that made the labels: names for people, a digest to compare.

    Attributes:
        config: Config file name.
        checkpoint: Checkpoint file name.
        digest: SHA-256 of the checkpoint file, hexadecimal.
        settings: A digest of what else decides about the labels, network and test
            pipeline; '' if it is not known. Another one is no other teacher.
    """

    config: str
    checkpoint: str
    digest: str
    settings: str = ''

    @classmethod
    def from_files(cls, config: str | Path, checkpoint: str | Path) -> 'Teacher':
        """Describe the teacher in a checkpoint file."""
        return cls(Path(config).name, Path(checkpoint).name, sha256(checkpoint))


def format_manifest(store: Any) -> str:
    """Return the text of a store's manifest.

    Args:
        store: Has the attributes of a `PseudoLabelStore`.
    """
    formats = {layout: name for name, layout in _FORMATS.items()}
    manifest = {
        'format': formats[store.layout],
        'version': VERSION,
        'classes': list(store.classes),
        'teacher': vars(store.teacher),
        'min_score': store.min_score,
        'max_instances': store.max_instances,
        'views': list(store.views),
        'created': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
    }
    return json.dumps(manifest, indent=2) + '\n'


def parse_manifest(manifest: Any) -> dict[str, Any]:
    """Return the arguments of the store; raise a ValueError if they are not whole."""
    if not isinstance(manifest, dict):
        raise ValueError('it is no JSON object')
    layout = _FORMATS.get(str(manifest.get('format')))
    if layout is None or manifest.get('version') != VERSION:
        raise ValueError(
            f'format {str(manifest.get("format"))[:100]!r}, '
            f'version {str(manifest.get("version"))[:100]!r}'
        )
    classes: Any = manifest.get('classes')
    teacher: Any = manifest.get('teacher')
    if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise ValueError('its classes are no list of names')
    if (
        not isinstance(teacher, dict)
        # Older stores have no settings.
        or {*teacher, 'settings'} != {field.name for field in fields(Teacher)}
        or not all(isinstance(value, str) for value in teacher.values())
    ):
        raise ValueError('its teacher is not config, checkpoint and digest')
    min_score: Any = manifest.get('min_score')
    most: Any = manifest.get('max_instances')
    if type(min_score) not in (int, float) or not 0 <= min_score <= 1:
        raise ValueError('its min_score is no number from 0 to 1')
    if type(most) is not int or most < 0:
        raise ValueError('its max_instances is no count')
    views: Any = manifest.get('views', ['1'])  # older stores have none
    if not isinstance(views, list) or not all(isinstance(v, str) for v in views):
        raise ValueError('its views are no list of names')
    return dict(
        classes=classes,
        teacher=Teacher(**teacher),
        min_score=float(min_score),
        max_instances=most,
        views=views,
        layout=layout,
    )
