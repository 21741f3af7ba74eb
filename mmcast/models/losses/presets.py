"""Named settings of the pixel contrast: arguments of ``PixelContrastLoss``.

``default`` is this project's. ``paper`` follows CAST's text (arXiv 2505.21904); T, R
and lambda are from the family of its research code, because the text available to us
does not give them. ``research_code`` is that code in its last public state.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    'default': dict(),
    'paper': dict(
        candidates='same_image',
        negatives='sampled',
        max_anchors=None,
        max_candidates=None,
    ),
    'research_code': dict(
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
}
