"""Named settings of the contrast: what the head and its loss take where not told.

``default`` is this project's; ``paper`` is CAST's text (arXiv 2505.21904), with T, R
and lambda from the family of its research code, since the text at hand tells none;
``author`` is that code at its last public state.
"""

from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    'default': dict(head=dict(), loss=dict()),
    'paper': dict(
        head=dict(),
        loss=dict(
            candidates='same_image',
            negatives='sampled',
            max_anchors=None,
            max_candidates=None,
        ),
    ),
    'author': dict(
        head=dict(frozen_strong_mlp=True),
        loss=dict(
            score='class',
            unit_scores=False,
            score_floor=1e-6,
            candidates='other_images',
            negatives='sampled',
            replacement=False,
            temperature=dict(start=0.3, end=0.07, iters=90000),
            margin=0.5,
            max_anchors=None,
            max_candidates=None,
        ),
    ),
}
