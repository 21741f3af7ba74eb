"""How unlike two pixels are, from a masked decoder's predictions: pure functions.

Source: CAST (arXiv 2505.21904), section "Instance-aware pixel-wise contrastive loss".
A pixel has a distribution over queries and an expected distribution over classes. The
less two pixels agree in these, the likelier they belong to different instances. Query
indices mean nothing across images, so pixels of different images are compared by class.

Letters in names give the axes: B images, K queries, C class columns (the last one
is "no object"), P pixels taken of an image, D embedding dimensions, F score
features, A anchors and M candidates in all, n anchors and m candidates of a block,
R negatives of an anchor.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SCORES = ('fused', 'mask', 'class', 'uniform')


def pixel_predictions(masks_KP: Tensor, classes_KC: Tensor) -> tuple[Tensor, Tensor]:
    """Compute query and expected class distributions of pixels of one image.

    Args:
        masks_KP: Mask logits ``(K, P)`` float.
        classes_KC: Class logits ``(K, C)`` float, "no object" among the C; the result
            has its dtype.

    Returns:
        ``p_PK``, the softmax over queries of the mask logits, and ``f_PC``, the class
        distributions of the queries averaged with these weights. The rows of both sum
        to one.
    """
    p_PK = masks_KP.to(classes_KC.dtype).T.softmax(1)
    return p_PK, p_PK @ classes_KC.softmax(1)


def score_features(
    p_AK: Tensor, f_AC: Tensor, score: str, unit: bool = True
) -> tuple[Tensor, Tensor]:
    """Return vectors; the inner product of two measures their pixels' similarity.

    Args:
        p_AK: Query distributions, see :func:`pixel_predictions`.
        f_AC: Expected class distributions.
        score: One of :data:`SCORES`.
        unit: Whether vectors are scaled to unit length, so that every pixel has a
            similarity of 1 to itself. Otherwise they stay distributions; the similarity
            of two equal ones grows with their certainty.

    Returns:
        ``same_AF`` for pairs within an image and ``cross_AF`` for pairs from
        different images. Features of zero width mean "all pairs are unlike":
        their inner products are 0, so their debiased scores are 1.
    """
    none_A0 = f_AC[..., :0]
    if score == 'uniform':
        return none_A0, none_A0
    same_AF, cross_AF = f_AC, f_AC
    if score == 'mask':
        same_AF, cross_AF = p_AK, none_A0
    elif score == 'fused':
        same_AF = torch.cat([p_AK, f_AC], dim=-1)
    if unit:
        return F.normalize(same_AF, dim=-1), F.normalize(cross_AF, dim=-1)
    # Two certain, equal pixels of "fused" have an inner product of 2 before this.
    return same_AF / 2**0.5 if score == 'fused' else same_AF, cross_AF


def debiased_scores(y_nF: Tensor, y_mF: Tensor, out: Tensor | None = None) -> Tensor:
    """Compute debiased scores ``max(0, 1 - <y, y'>)`` of all pairs, ``(n, m)``.

    A score that is positive by rounding alone becomes 0: pixels with equal predictions
    must never be each other's negatives.
    """
    floor = 8 * torch.finfo(y_nF.dtype).eps
    one = y_nF.new_ones(())
    s_nm = torch.addmm(one, y_nF, y_mF.T, alpha=-1, out=out)
    return F.threshold(s_nm, floor, 0.0, inplace=True)
