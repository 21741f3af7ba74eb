"""Test the code of depth, the depth loss and the two heads against closed forms."""

import itertools
import math

import pytest
import torch
from mmdet.registry import MODELS

from mmcast.models.dense_heads.depth_seg_heads import one_hot
from mmcast.models.losses.depth import DepthCode, silog_loss

OUTDOORS, INDOORS = (1e-3, 80.0), (1e-3, 10.0)
both_codes = pytest.mark.parametrize('log', [True, False])
both_ranges = pytest.mark.parametrize('bounds', [OUTDOORS, INDOORS, (2.0, 3.0)])


def positive(*shape, seed=1, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=g, dtype=dtype) * 50 + 0.1


class TestDepthCode:
    @both_codes
    @both_ranges
    def test_decoding_inverts_encoding(self, bounds, log):
        code = DepthCode(*bounds, log)
        depth = torch.linspace(*bounds, 1001, dtype=torch.float64)
        torch.testing.assert_close(code.decode(code.encode(depth)), depth)
        share = torch.linspace(0, 1, 1001, dtype=torch.float64)
        torch.testing.assert_close(code.encode(code.decode(share)), share)

    @both_codes
    @both_ranges
    def test_bounds_have_the_codes_0_and_1_and_clamp(self, bounds, log):
        code = DepthCode(*bounds, log)
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        exact = torch.tensor(bounds, dtype=torch.float64)
        torch.testing.assert_close(code.decode(ends), exact)
        torch.testing.assert_close(code.encode(exact), ends)
        beyond = torch.tensor([-1.0, 0.0, bounds[1] + 1, torch.inf])
        assert code.encode(beyond).tolist() == pytest.approx([0, 0, 1, 1])

    def test_half_is_the_geometric_mean_or_the_middle(self):
        half = torch.tensor(0.5, dtype=torch.float64)
        found = float(DepthCode(*OUTDOORS).decode(half))
        assert found == pytest.approx(math.sqrt(1e-3 * 80))
        assert found == pytest.approx(0.283, abs=5e-4)
        assert float(DepthCode(2.0, 4.0, log=False).decode(half)) == 3

    def test_linear_code_is_linear(self):
        code = DepthCode(2.0, 10.0, log=False)
        depth = torch.tensor([2.0, 4.0, 6.0, 10.0])
        assert code.encode(depth).tolist() == [0, 0.25, 0.5, 1]

    @pytest.mark.parametrize('bounds', [(0, 80), (-1, 80), (80, 80), (80, 1)])
    def test_bad_range(self, bounds):
        with pytest.raises(ValueError, match=r'depth_range is .* 0 < nearest < far'):
            DepthCode(*bounds)
        with pytest.raises(ValueError, match='depth_range is'):
            MODELS.build(dict(type='DepthHead', depth_range=bounds))


def oracle(pred, target, focus, eps):
    g = [math.log(t) - math.log(p) for p, t in zip(pred, target, strict=True)]
    mean = sum(g) / len(g)
    square = sum(x * x for x in g) / len(g)
    return math.sqrt(square - focus * mean * mean + eps)


class TestSilogLoss:
    @pytest.mark.parametrize('k', [0.01, 0.5, 1.1, 30.0])
    def test_wrong_scale_costs_its_logarithm(self, k):
        target = positive(97)
        found = float(silog_loss(k * target, target, 0.5, eps=0.0))
        assert found == pytest.approx(abs(math.log(k)) * math.sqrt(0.5))
        assert float(silog_loss(k * target, target, 0.0, eps=0.0)) == pytest.approx(
            abs(math.log(k))
        )

    @pytest.mark.parametrize('k', [0.01, 0.5, 1.1, 30.0])
    def test_wrong_scale_costs_nothing_if_only_the_variance_counts(self, k):
        target = positive(1000, dtype=torch.float32)
        pred = (k * target).requires_grad_()
        loss = silog_loss(pred, target, variance_focus=1.0)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(1e-4, rel=0.05)  # sqrt(eps)
        assert pred.grad.isfinite().all()

    @pytest.mark.parametrize(
        ('count', 'focus', 'eps'),
        list(itertools.product([1, 2, 50], [0.0, 0.5, 0.85, 1.0], [0.0, 1e-8, 0.1])),
    )
    def test_equals_plain_python(self, count, focus, eps):
        pred, target = positive(count, seed=1), positive(count, seed=2)
        found = float(silog_loss(pred, target, focus, eps))
        wanted = oracle(pred.tolist(), target.tolist(), focus, eps)
        assert found == pytest.approx(wanted, rel=1e-9)

    @pytest.mark.parametrize('focus', [0.0, 0.5, 1.0])
    def test_gradient(self, focus):
        pred, target = positive(12).requires_grad_(), positive(12, seed=2)
        assert torch.autograd.gradcheck(
            lambda pred: silog_loss(pred, target, focus), pred
        )

    def test_gradient_is_finite_where_both_are_equal(self):
        target = positive(5)
        pred = target.clone().requires_grad_()
        silog_loss(pred, target).backward()
        assert (pred.grad == 0).all()
        pred.grad = None
        silog_loss(pred, target, eps=0.0).backward()
        assert pred.grad.isnan().all()  # as in the research code

    def test_no_pixel_costs_nothing(self):
        pred = torch.ones(3, requires_grad=True)
        loss = silog_loss(pred[:0], torch.zeros(0))
        loss.backward()
        assert loss == 0
        assert torch.equal(pred.grad, torch.zeros(3))


def depth_head(**changes):
    return MODELS.build(dict(type='DepthHead', in_channels=4, **changes))


class TestDepthHead:
    def test_first_prediction(self):
        head = depth_head()
        x = torch.randn(1, 4, 6, 8)
        found = head.depth(head(x, (6, 8)))
        torch.testing.assert_close(
            found, torch.full_like(found, 0.2828), rtol=1e-3, atol=0
        )

    @pytest.mark.parametrize(
        ('cap', 'counted'), [(True, [1, 2]), (False, [1, 2, 3, 4])]
    )
    def test_which_targets_count(self, cap, counted):
        head = depth_head(cap_targets=cap)
        target = torch.tensor([0.0, 0.5, 79.9, 80.0, 500.0, -1.0]).view(1, 1, 1, 6)
        valid = head.valid(target).flatten()
        assert valid.nonzero().flatten().tolist() == counted
        outputs = torch.linspace(-3, 3, 6).view(1, 1, 1, 6).requires_grad_()
        loss = head.loss(outputs, target)['loss_depth']
        pred = 1e-3 * (80 / 1e-3) ** outputs.detach().sigmoid()
        wanted = oracle(
            pred.flatten()[counted].tolist(),
            target.flatten()[counted].tolist(),
            0.5,
            1e-8,
        )
        assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)
        loss.backward()
        assert outputs.grad.flatten().nonzero().flatten().tolist() == counted

    def test_settings_reach_the_loss(self):
        outputs, target = (
            torch.randn(2, 1, 3, 3),
            positive(2, 1, 3, 3).float() % 9 + 0.1,
        )
        settings = dict(depth_range=INDOORS, log_depth=False)
        head = depth_head(eps=0.01, loss_weight=3.0, **settings)
        pred = 1e-3 + (10 - 1e-3) * outputs.sigmoid()
        wanted = oracle(pred.flatten().tolist(), target.flatten().tolist(), 0.5, 0.01)
        found = float(head.loss(outputs, target)['loss_depth'])
        assert found == pytest.approx(3 * wanted, rel=1e-5)

    def test_without_a_measurement_the_loss_is_0(self):
        head = depth_head()
        outputs = head(torch.randn(2, 4, 6, 8), (6, 8))
        loss = head.loss(outputs, torch.zeros(2, 1, 6, 8))['loss_depth']
        loss.backward()
        assert loss == 0
        assert all((p.grad == 0).all() for p in head.parameters())


def seg_head(**changes):
    return MODELS.build(
        dict(type='SemSegHead', num_classes=3, in_channels=4, **changes)
    )


class TestSemSegHead:
    @pytest.mark.parametrize('weight', [1.0, 0.5])
    def test_cross_entropy_equals_a_loop(self, weight):
        logits = torch.randn(2, 3, 4, 5)
        target = torch.randint(0, 3, (2, 1, 4, 5))
        target[torch.rand(2, 1, 4, 5) < 0.3] = 255
        terms = []
        for n, y, x in itertools.product(range(2), range(4), range(5)):
            label = int(target[n, 0, y, x])
            if label != 255:
                values = logits[n, :, y, x].tolist()
                total = sum(math.exp(value) for value in values)
                terms.append(math.log(total) - values[label])
        assert 0 < len(terms) < 40
        found = seg_head(loss_weight=weight).loss(logits, target)['loss_seg']
        assert float(found) == pytest.approx(weight * sum(terms) / len(terms), rel=1e-5)

    def test_ignored_pixels_get_no_gradient(self):
        logits = torch.randn(1, 3, 2, 2, requires_grad=True)
        target = torch.tensor([[[[0, 255], [2, 1]]]])
        seg_head().loss(logits, target)['loss_seg'].backward()
        touched = logits.grad.abs().sum(1)[0] > 0
        assert touched.tolist() == [[True, False], [True, True]]

    def test_without_labels_the_loss_is_0(self):
        head = seg_head()
        outputs = head(torch.randn(2, 4, 6, 8), (6, 8))
        target = torch.full((2, 1, 6, 8), 255)
        loss = head.loss(outputs, target)['loss_seg']
        loss.backward()
        assert loss == 0
        assert all((p.grad == 0).all() for p in head.parameters())

    def test_one_hot(self):
        labels = torch.tensor([[[[0, 2, 255]]]])
        found = one_hot(labels, 3)[0, :, 0]
        assert found.T.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
        assert found.dtype == torch.float32


class TestBothHeads:
    @pytest.mark.parametrize('std', [0.001, 0.05])
    @pytest.mark.parametrize('kind', ['DepthHead', 'SemSegHead'])
    def test_first_weights(self, kind, std):
        classes = dict(num_classes=19) if kind == 'SemSegHead' else {}
        head = MODELS.build(dict(type=kind, in_channels=64, init_std=std, **classes))
        head.init_weights()  # changes nothing
        first, last = head.layers[0], head.layers[2]
        for conv in (first, last):
            weights = conv.weight.detach().flatten()
            error = 5 / math.sqrt(len(weights))
            assert float(weights.std()) == pytest.approx(std, rel=error)
            assert abs(float(weights.mean())) < error * std
            assert (conv.bias == 0).all()
        assert first.weight.shape == (64, 64, 3, 3)
        assert last.weight.shape[1:] == (64, 3, 3)

    def test_ramp_is_upsampled_exactly(self):
        """Enlarge a ramp: pixel i of the image lies at (i + 0.5) / stride - 0.5."""
        head = seg_head()
        head.layers = torch.nn.Identity()
        ramp = torch.arange(6.0).expand(1, 3, 5, 6)
        found = head(ramp, (18, 23), stride=4)
        assert found.shape == (1, 3, 18, 23)
        place = ((torch.arange(23) + 0.5) / 4 - 0.5).clamp(0, 5)
        torch.testing.assert_close(found, place.expand(1, 3, 18, 23))

    def test_output_is_float32_and_cut_to_the_image(self):
        head = seg_head().to(torch.bfloat16)
        x = torch.randn(1, 4, 8, 8, dtype=torch.bfloat16)
        found = head(x, (7, 5))
        assert found.dtype == torch.float32
        assert torch.equal(found, head.layers(x).float()[..., :7, :5])
