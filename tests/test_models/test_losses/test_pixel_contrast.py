import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from scipy import stats

import mmcast  # noqa: F401
from mmcast.models.losses import PixelContrastLoss, functional

B, K, C1, D, h, w = 3, 4, 3, 5, 2, 3
N = h * w
SCORES = ('fused', 'mask', 'class', 'uniform')
CANDIDATES = ('all', 'same_image', 'other_images')


@pytest.fixture
def batch():
    """z_weak, z_strong, mask_logits, class_logits of a random batch, float32."""
    g = torch.Generator().manual_seed(3)
    return (
        torch.randn(B, D, h, w, generator=g),
        torch.randn(B, D, h, w, generator=g),
        torch.randn(B, K, 4 * h, 4 * w, generator=g) * 2,
        torch.randn(B, K, C1, generator=g) * 2,
    )


def softmax(x):
    e = np.exp(np.asarray(x, dtype=np.float64))
    return e / e.sum()


def unit(x):
    return np.asarray(x) / np.linalg.norm(x)


def oracle_scores(mask_logits, class_logits, score, candidates):
    """(B * N, B * N) scores, one pair after another, as the paper writes them."""
    b, k = mask_logits.shape[:2]
    logits = F.interpolate(mask_logits, (h, w), mode='bilinear').reshape(b, k, N)
    p_m = [[softmax(logits[i, :, p]) for p in range(N)] for i in range(b)]
    p_c = [[softmax(class_logits[i, q]) for q in range(k)] for i in range(b)]
    f_c = [
        [sum(p_m[i][p][q] * p_c[i][q] for q in range(k)) for p in range(N)]
        for i in range(b)
    ]
    out = np.zeros((b * N, b * N))
    for a in range(b * N):
        for c in range(b * N):
            (i, p), (j, q) = divmod(a, N), divmod(c, N)
            if a == c:
                continue
            if i == j and candidates == 'other_images':
                continue
            if i != j and candidates == 'same_image':
                continue
            use_m = score in ('fused', 'mask') and i == j
            use_c = score in ('fused', 'class')
            y = np.concatenate(([*p_m[i][p]] * use_m, [*f_c[i][p]] * use_c))
            z = np.concatenate(([*p_m[j][q]] * use_m, [*f_c[j][q]] * use_c))
            out[a, c] = max(0.0, 1.0 - unit(y) @ unit(z)) if len(y) else 1.0
    return out


def our_scores(mask_logits, class_logits, score, candidates, chunk=4):
    """The same matrix from the code under test, chunk by chunk."""
    p, f = functional.aggregate_predictions(mask_logits, class_logits, (h, w))
    same, cross = functional.score_features(p, f, score)
    b = len(mask_logits)
    out = torch.zeros(b * N, b * N, dtype=p.dtype)
    for i in range(b):
        for start in range(0, N, chunk):
            rows = slice(start, min(start + chunk, N))
            s = functional.anchor_scores(same, cross, i, rows, candidates)
            at = i * N if candidates == 'same_image' else 0
            out[i * N + rows.start : i * N + rows.stop, at : at + s.shape[1]] = s
    return out


def test_aggregate_predictions_sums_over_queries(batch):
    _, _, masks, classes = batch
    p_BNK, f_BNC = functional.aggregate_predictions(masks, classes, (h, w))
    assert p_BNK.shape == (B, N, K)
    assert f_BNC.shape == (B, N, C1)
    ones = torch.ones(B, N)
    torch.testing.assert_close(p_BNK.sum(-1), ones)
    torch.testing.assert_close(f_BNC.sum(-1), ones)
    # One query that owns a pixel gives it its own class distribution.
    masks = torch.full((1, 2, h, w), -30.0)
    masks[0, 0, 0, 0] = masks[0, 1, 1, 2] = 30.0
    _, f_BNC = functional.aggregate_predictions(masks, classes[:1, :2], (h, w))
    torch.testing.assert_close(f_BNC[0, 0], classes[0, 0].softmax(0))
    torch.testing.assert_close(f_BNC[0, N - 1], classes[0, 1].softmax(0))


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('candidates', CANDIDATES)
def test_scores_equal_the_pairwise_oracle(batch, score, candidates):
    _, _, masks, classes = batch
    expected = oracle_scores(masks, classes, score, candidates)
    ours = our_scores(masks, classes, score, candidates)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)
    assert expected.any()


@pytest.mark.parametrize('score', SCORES)
def test_scores_do_not_know_the_order_of_an_images_queries(batch, score):
    _, _, masks, classes = (x.double() for x in batch)
    before = our_scores(masks, classes, score, 'all')
    order = torch.tensor([2, 0, 3, 1])
    masks[1], classes[1] = masks[1, order], classes[1, order]
    after = our_scores(masks, classes, score, 'all')
    torch.testing.assert_close(after, before, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize('score', ['fused', 'mask', 'class'])
def test_scores_of_equal_predictions_are_exactly_zero(score):
    """Rounding noise would make an instance its own negative."""
    g = torch.Generator().manual_seed(0)
    masks = torch.randn(1, 100, 1, 1, generator=g).expand(1, 100, h, w) * 5
    classes = torch.randn(1, 100, 101, generator=g)
    assert not our_scores(masks, classes, score, 'all').any()


@pytest.mark.parametrize(
    ('score', 'candidates'),
    [('fused', 'all'), ('mask', 'same_image'), ('class', 'other_images')],
)
def test_negatives_are_drawn_in_proportion(batch, score, candidates):
    _, _, masks, classes = batch
    draws = 20_000
    scores = our_scores(masks, classes, score, candidates)
    torch.manual_seed(0)
    u = torch.rand(len(scores), draws)
    index, has_negatives = functional.sample_negatives(scores, u)
    assert has_negatives.all()
    expected = oracle_scores(masks, classes, score, candidates)
    for anchor, drawn in enumerate(index):
        counts = np.bincount(drawn.numpy(), minlength=len(scores))
        share = expected[anchor] / expected[anchor].sum()
        assert not counts[share == 0].any()
        used = share * draws > 5
        p = stats.chisquare(
            counts[used], share[used] / share[used].sum() * counts[used].sum()
        ).pvalue
        assert p > 1e-4, (anchor, p)


def test_sampling_never_leaves_the_support():
    """The extremes of u, where rounding could reach a candidate of score 0."""
    scores = torch.tensor([[0.0, 0.3, 0.0, 0.1, 0.0], [0.0] * 5])
    u = torch.tensor([0.0, 1 - 2**-24, 0.75, 0.7499]).repeat(2, 1)
    index, has_negatives = functional.sample_negatives(scores, u)
    assert has_negatives.tolist() == [True, False]
    assert set(index[0].tolist()) <= {1, 3}
    assert index[0, :2].tolist() == [1, 3]
    assert ((index >= 0) & (index < 5)).all()
    totals = torch.rand(100_000, generator=torch.Generator().manual_seed(0)) + 1
    scores = torch.stack([totals, torch.zeros_like(totals)], dim=1)
    index, _ = functional.sample_negatives(scores, u[:1, 1:2].expand(100_000, 1))
    assert not index.any()


def oracle_loss(z_w, z_s, index, temperature):
    """Loss of each anchor, one after another, with math.exp alone."""
    losses = []
    for a, negatives in enumerate(index.tolist()):
        pos = math.exp(float(z_w[a] @ z_s[a]) / temperature)
        neg = sum(math.exp(float(z_w[a] @ z_w[q]) / temperature) for q in negatives)
        losses.append(-math.log(pos / (pos + neg)))
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize('temperature', [0.07, 0.2, 1.0])
def test_loss_of_given_negatives_equals_the_oracle(temperature):
    torch.manual_seed(0)
    z_w, z_s = F.normalize(torch.randn(2, 12, D, dtype=torch.float64), dim=-1)
    index = torch.randint(12, (12, 7))
    ours = functional.contrast_anchors(z_w, z_s, z_w, index, temperature)
    torch.testing.assert_close(ours, oracle_loss(z_w, z_s, index, temperature))


def test_gradients_of_given_negatives():
    torch.manual_seed(0)
    z_w, z_s = torch.randn(2, 6, D, dtype=torch.float64)
    index = torch.randint(6, (4, 3))

    def loss(z_w, z_s):
        z_w, z_s = F.normalize(z_w, dim=-1), F.normalize(z_s, dim=-1)
        return functional.contrast_anchors(z_w[:4], z_s[:4], z_w, index, 0.2)

    inputs = (z_w.requires_grad_(), z_s.requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize('candidates', CANDIDATES)
def test_gradients_through_chunks_and_checkpoints(candidates):
    """float64 gradcheck of the whole loss; draws fixed, scores constant."""
    torch.manual_seed(0)
    z_w, z_s = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    same = F.normalize(torch.rand(2, 4, 3, dtype=torch.float64), dim=-1)

    def loss(z_w, z_s):
        torch.manual_seed(1)
        return functional.pixel_contrast(
            F.normalize(z_w, dim=-1),
            F.normalize(z_s, dim=-1),
            same,
            same,
            candidates=candidates,
            num_negatives=5,
            temperature=0.3,
            chunk_size=3,
        )

    inputs = (z_w.requires_grad_(), z_s.requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize('candidates', CANDIDATES)
def test_module_equals_the_oracle_end_to_end(batch, candidates, monkeypatch):
    """Scores, draws, indices of candidates and the mean, with the module's draws."""
    drawn = []
    sample = functional.sample_negatives

    def record(scores, u):
        index, has_negatives = sample(scores, u)
        drawn.append(index)
        return index, has_negatives

    monkeypatch.setattr(functional, 'sample_negatives', record)
    loss = PixelContrastLoss(
        0.3, 11, candidates=candidates, chunk_size=4, loss_weight=0.5
    )
    ours = loss(*batch)
    index = torch.cat(drawn)
    if candidates == 'same_image':
        index = index + torch.arange(B).repeat_interleave(N)[:, None] * N
    z_w, z_s = (
        F.normalize(z.permute(0, 2, 3, 1).reshape(B * N, D).double(), dim=-1)
        for z in batch[:2]
    )
    image = torch.arange(B * N) // N
    if candidates == 'other_images':
        assert (image[index] != image[:, None]).all()
    assert (index != torch.arange(B * N)[:, None]).all()
    expected = 0.5 * oracle_loss(z_w, z_s, index, 0.3).mean()
    torch.testing.assert_close(ours, expected.float())


def test_closed_forms():
    R, T = 200, 0.2
    zeros = torch.zeros(3, R, dtype=torch.float64)
    equal = functional.info_nce(zeros[:, 0], zeros)
    torch.testing.assert_close(equal, torch.full_like(equal, math.log(1 + R)))
    floor = functional.info_nce(zeros[:, 0] + 1 / T, zeros)
    expected = math.log(1 + R * math.exp(-1 / T))
    torch.testing.assert_close(floor, torch.full_like(floor, expected))
    assert expected == pytest.approx(0.85, abs=0.01)  # cast.md's published reading


def test_closed_forms_of_the_module(batch):
    """All embeddings equal: ln(1 + R). One orthonormal vector a pixel: the floor."""
    _, _, masks, classes = batch
    loss = PixelContrastLoss(temperature=0.2, num_negatives=50, loss_weight=1.0)
    same = torch.ones(B, D, h, w)
    assert loss(same, same, masks, classes).item() == pytest.approx(math.log(51))
    eye = torch.eye(B * N).view(B, N, B * N).transpose(1, 2).reshape(B, B * N, h, w)
    floor = math.log(1 + 50 * math.exp(-1 / 0.2))
    assert loss(eye, eye, masks, classes).item() == pytest.approx(floor, rel=1e-5)


@pytest.mark.parametrize('candidates', CANDIDATES)
def test_chunk_size_changes_nothing(batch, candidates):
    results = []
    for chunk_size in (1, 4, 1024):
        z_weak, z_strong = (z.clone().requires_grad_() for z in batch[:2])
        torch.manual_seed(5)
        loss = PixelContrastLoss(candidates=candidates, chunk_size=chunk_size)(
            z_weak, z_strong, *batch[2:]
        )
        loss.backward()
        results.append((loss.detach(), z_weak.grad, z_strong.grad))
    assert results[0][1].any()
    assert results[0][2].any()
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-5, atol=1e-7)


def test_similarities_of_all_pairs_are_never_held(batch):
    """No tensor of the graph or of the forward pass has N * M entries."""
    big_h, big_w, chunk_size = 16, 24, 32
    n_pixels, candidates = big_h * big_w, 2 * big_h * big_w
    z = torch.randn(2, D, big_h, big_w, requires_grad=True)
    largest = 0

    def pack(t):
        nonlocal largest
        largest = max(largest, t.numel())
        return t

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, tuple | list) else [out]:
                if isinstance(t, torch.Tensor):
                    pack(t)
            return out

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), Largest():
        loss = PixelContrastLoss(num_negatives=7, chunk_size=chunk_size)(
            z, z, torch.randn(2, 3, big_h, big_w), torch.randn(2, 3, 4)
        )
        loss.backward()
    assert largest == chunk_size * candidates
    assert largest < n_pixels * candidates


def test_seed_determines_the_loss(batch):
    loss = PixelContrastLoss()
    torch.manual_seed(0)
    first, second = loss(*batch), loss(*batch)
    torch.manual_seed(0)
    assert torch.equal(loss(*batch), first)
    assert not torch.equal(second, first)


def test_no_gradient_into_predictions(batch):
    for x in batch:
        x.requires_grad_()
    z_weak, z_strong, masks, classes = batch
    PixelContrastLoss()(*batch).backward()
    assert masks.grad is None
    assert classes.grad is None
    assert z_weak.grad.any()
    assert z_strong.grad.any()


def test_gradient_flows_through_negatives(batch):
    """One anchor moves its negatives too: they come from the weak view, attached."""
    z = F.normalize(torch.randn(3, D), dim=-1).requires_grad_()
    index = torch.tensor([[1, 1, 2]])
    functional.contrast_anchors(z[:1], z[:1], z, index, 0.2).sum().backward()
    assert z.grad[1].any()
    assert z.grad[2].any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(batch, dtype):
    half = [x.to(dtype) for x in batch]
    half[0].requires_grad_()
    loss = PixelContrastLoss(temperature=0.07, loss_weight=1.0)
    torch.manual_seed(0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        ours = loss(*half)
    ours.backward()
    assert ours.dtype == torch.float32
    assert half[0].grad.isfinite().all()
    torch.manual_seed(0)
    expected = loss(*(x.detach().float() for x in half))
    torch.testing.assert_close(ours, expected)


def test_one_image(batch):
    one = [x[:1] for x in batch]
    for candidates in ('all', 'same_image'):
        assert PixelContrastLoss(candidates=candidates)(*one) > 0


def test_one_query_has_negatives_in_other_images_only(batch):
    """K = 1: within an image every pixel has the same prediction."""
    z_weak, z_strong, masks, classes = batch
    one = (z_weak, z_strong, masks[:, :1], classes[:, :1])
    assert PixelContrastLoss(candidates='same_image')(*one) == 0
    assert PixelContrastLoss(candidates='all')(*one) > 0


@pytest.mark.parametrize('case', ['equal', 'one_pixel', 'other_images'])
def test_without_negatives_the_loss_is_zero_with_a_graph(batch, case):
    z_weak, z_strong, masks, classes = (x[:1] for x in batch)
    candidates = 'all'
    if case == 'equal':
        masks = torch.zeros_like(masks)
    elif case == 'one_pixel':
        z_weak, z_strong = z_weak[..., :1, :1], z_strong[..., :1, :1]
    else:
        candidates = 'other_images'
    z_weak, z_strong = z_weak.clone().requires_grad_(), z_strong.requires_grad_()
    loss = PixelContrastLoss(candidates=candidates)(z_weak, z_strong, masks, classes)
    assert loss.item() == 0
    loss.backward()
    for z in (z_weak, z_strong):
        assert z.grad.shape == z.shape
        assert not z.grad.any()


def test_anchors_without_negatives_are_left_out_of_the_mean():
    """Image 1's pixels are all alike: only image 0's anchors count."""
    torch.manual_seed(0)
    z_w, z_s = F.normalize(torch.randn(2, 2, 4, D), dim=-1)
    same = F.normalize(torch.rand(2, 4, 3), dim=-1)
    same[1] = same[1, :1]
    options = {'candidates': 'same_image', 'num_negatives': 9, 'temperature': 0.2}
    torch.manual_seed(1)
    both = functional.pixel_contrast(z_w, z_s, same, same, chunk_size=3, **options)
    torch.manual_seed(1)
    first = functional.pixel_contrast(
        z_w[:1], z_s[:1], same[:1], same[:1], chunk_size=3, **options
    )
    torch.testing.assert_close(both, first)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('which', range(4))
@pytest.mark.parametrize('candidates', CANDIDATES)
def test_not_finite_inputs_make_the_loss_nan(batch, value, which, candidates):
    batch[which].view(-1)[5] = value
    z_weak = batch[0].requires_grad_()
    loss = PixelContrastLoss(candidates=candidates)(*batch)
    assert loss.isnan()
    loss.backward()
    assert z_weak.grad.isnan().any()


def test_optimising_separates_the_instances():
    """Two queries own half of the pixels each: their embeddings drift apart."""
    torch.manual_seed(0)
    masks = torch.full((1, 2, 4, 4), -9.0)
    masks[0, 0, :, :2] = masks[0, 1, :, 2:] = 9.0
    classes = torch.tensor([[[5.0, 0.0], [5.0, 0.0]]])
    z = torch.randn(1, 8, 4, 4).requires_grad_()
    optimiser = torch.optim.SGD([z], lr=20.0)
    loss = PixelContrastLoss(num_negatives=32, loss_weight=1.0)
    for _ in range(60):
        optimiser.zero_grad()
        loss(z, z.detach(), masks, classes).backward()
        optimiser.step()
    unit_z = F.normalize(z.detach()[0], dim=0)
    left, right = unit_z[:, :, :2].flatten(1), unit_z[:, :, 2:].flatten(1)
    assert (left.T @ right).mean() < -0.6
    assert (left.T @ left).mean() > 0.6
    assert (right.T @ right).mean() > 0.6


def test_built_from_the_registry():
    loss = MODELS.build({'type': 'PixelContrastLoss', 'temperature': 0.07})
    assert isinstance(loss, PixelContrastLoss)
    assert loss.temperature == 0.07


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'temperature': 0}, 'temperature=0 must be positive; 0.07 to 0.4 is usual.'),
        ({'temperature': math.nan}, 'must be positive'),
        ({'num_negatives': 0}, 'num_negatives=0 must be an integer of at least 1.'),
        ({'chunk_size': 2.5}, 'chunk_size=2.5 must be an integer'),
        ({'score': 'both'}, r"score='both' is unknown; choose one of \('fused'"),
        ({'candidates': 'some'}, r"candidates='some' is unknown; choose one of"),
        ({'loss_weight': -1}, '0 disables the loss'),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        PixelContrastLoss(**arguments)


def test_shapes_are_checked(batch):
    z_weak, z_strong, masks, classes = batch
    loss = PixelContrastLoss()
    with pytest.raises(ValueError, match='photometric only'):
        loss(z_weak, z_strong[..., :2], masks, classes)
    with pytest.raises(ValueError, match='non-empty'):
        loss(z_weak[:0], z_strong[:0], masks[:0], classes[:0])
    with pytest.raises(ValueError, match="one decoder layer's predictions"):
        loss(z_weak, z_strong, masks, classes[:, 1:])
    with pytest.raises(ValueError, match='of the same batch'):
        loss(z_weak, z_strong, masks[:2], classes[:2])
