"""Compare DepthMetric with closed forms and with an oracle that loops over pixels."""

import math

import pytest
import torch
from gloo_ranks import two_ranks
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import PixelData

from mmcast.evaluation import DepthMetric

NAMES = ['abs_rel', 'sq_rel', 'rmse', 'rmse_log', 'log10', 'silog', 'd1', 'd2', 'd3']


def sample(gt, pred, name='a.png'):
    return dict(
        gt_depth=dict(depth=gt), pred_depth=dict(depth=pred), img_path=f'img/{name}'
    )


def evaluate(samples, size=None, **options):
    """Return the metrics without their prefix."""
    metric = DepthMetric(**options)
    for one in samples:
        metric.process({}, [one])
    found = metric.evaluate(size or len(samples))
    assert [name.split('/')[0] for name in found] == ['depth'] * 9
    assert all(type(value) is float for value in found.values())
    return {name.removeprefix('depth/'): value for name, value in found.items()}


def depth(h=6, w=9, low=1.0, high=70.0):
    return low + (high - low) * torch.rand(1, h, w)


def with_holes(n=4):
    """Make maps with holes, depth beyond 80 m and predictions beyond both bounds."""
    samples = []
    for i in range(n):
        gt = depth(low=0.0, high=100.0)
        gt[torch.rand_like(gt) < i / n] = 0
        pred = gt * torch.randn_like(gt).mul(0.4).exp() + torch.rand_like(gt)
        pred[0, i] = torch.tensor([-5.0, 0.0, 1e-5, 300.0, 79.0, 81.0, 1.0, 2.0, 3.0])
        samples.append(sample(gt, pred, f'{i}.png'))
    return samples


def pixels(one, low, high, crop):
    """List (ground truth, prediction) of valid pixels with plain Python floats."""
    gt, pred = one['gt_depth']['depth'][0], one['pred_depth']['depth'][0]
    top, bottom, left, right = crop or (0, *gt.shape[:1], 0, *gt.shape[1:])
    found = []
    for y in range(top, bottom):
        for x in range(left, right):
            g, p = float(gt[y, x]), float(pred[y, x])
            if low < g < high:
                found.append((g, min(max(p, low), high)))
    return found


def oracle(pairs, variance_focus=1.0, scale=100.0):
    n = len(pairs)
    logs = [math.log(p) - math.log(g) for g, p in pairs]
    mean_square = sum(e * e for e in logs) / n
    share = {
        f'd{k}': sum(max(g / p, p / g) < 1.25**k for g, p in pairs) / n
        for k in (1, 2, 3)
    }
    return dict(
        abs_rel=sum(abs(p - g) / g for g, p in pairs) / n,
        sq_rel=sum((p - g) ** 2 / g for g, p in pairs) / n,
        rmse=math.sqrt(sum((p - g) ** 2 for g, p in pairs) / n),
        rmse_log=math.sqrt(mean_square),
        log10=sum(abs(math.log10(p) - math.log10(g)) for g, p in pairs) / n,
        silog=scale * math.sqrt(mean_square - variance_focus * (sum(logs) / n) ** 2),
        **share,
    )


@pytest.mark.parametrize('k', [0.7, 0.95, 1.2, 1.3, 1.6, 2.0])
def test_scaled_prediction_has_closed_forms(k):
    maps = [depth(high=40.0).double(), depth(4, 5, high=40.0).double()]
    samples = [sample(gt, k * gt) for gt in maps]
    g = [gt.flatten() for gt in maps]
    log_k = abs(math.log(k))
    found = evaluate(samples)
    assert list(found) == NAMES
    assert found == pytest.approx(
        dict(
            abs_rel=abs(k - 1),
            sq_rel=(k - 1) ** 2 * sum(float(x.mean()) for x in g) / len(g),
            rmse=abs(k - 1) * sum(float(x.square().mean() ** 0.5) for x in g) / len(g),
            rmse_log=log_k,
            log10=log_k / math.log(10),
            silog=0.0,
            **{f'd{i}': float(log_k < i * math.log(1.25)) for i in (1, 2, 3)},
        ),
        rel=1e-9,
        abs=1e-5,
    )
    half = evaluate(samples, silog_lambda=0.5)
    assert half['silog'] == pytest.approx(100 * log_k * math.sqrt(0.5))
    research = evaluate(samples, silog_lambda=0.5, silog_scale=1)
    assert research['silog'] == pytest.approx(log_k * math.sqrt(0.5))
    other = set(NAMES) - {'silog'}
    assert {name: research[name] for name in other} == {n: found[n] for n in other}


def test_right_prediction_has_no_error():
    gt = depth()
    expected = dict.fromkeys(NAMES, 0.0) | dict(d1=1.0, d2=1.0, d3=1.0)
    assert evaluate([sample(gt, gt.clone())]) == expected


@pytest.mark.parametrize('power', [1, 2, 3])
def test_ratio_at_a_threshold_does_not_count(power):
    """Take 4^k and 5^k, whose ratio is exactly 1.25^k, in both directions."""
    for g, p in ((4.0**power, 5.0**power), (5.0**power, 4.0**power)):
        gt, pred = torch.full((1, 2, 2), g), torch.full((1, 2, 2), p)
        found = evaluate([sample(gt, pred)], max_depth=200.0)
        assert [found['d1'], found['d2'], found['d3']] == [
            float(k > power) for k in (1, 2, 3)
        ]


@pytest.mark.parametrize('crop', [None, (1, 5, 2, 8), (0, 6, 0, 9), [2, 6, 0, 9]])
@pytest.mark.parametrize('high', [80.0, 50.0])
def test_metrics_equal_the_oracle(crop, high):
    samples = with_holes()
    found = evaluate(samples, crop=crop, max_depth=high)
    groups = [pixels(one, 1e-3, high, crop) for one in samples]
    assert len({len(pairs) for pairs in groups}) > 1
    expected = [oracle(pairs) for pairs in groups]
    for name in NAMES:
        mean = sum(one[name] for one in expected) / len(expected)
        assert found[name] == pytest.approx(mean, rel=1e-9), name


@pytest.mark.parametrize('variance_focus', [0.0, 0.5, 0.85, 1.0])
def test_silog_of_any_weight_equals_the_oracle(variance_focus):
    samples = with_holes(1)
    found = evaluate(samples, silog_lambda=variance_focus, silog_scale=10)
    pairs = pixels(samples[0], 1e-3, 80.0, None)
    assert found == pytest.approx(oracle(pairs, variance_focus, 10), rel=1e-9)


def test_images_count_equally():
    """Give one image 1 pixel with 50% error and another 9 pixels without."""
    few, many = torch.zeros(1, 3, 3), torch.full((1, 3, 3), 10.0)
    few[0, 1, 1] = 10.0
    samples = [sample(few, torch.full((1, 3, 3), 15.0)), sample(many, many)]
    assert evaluate(samples)['abs_rel'] == pytest.approx(0.25)
    assert evaluate(samples)['rmse'] == pytest.approx(2.5)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
def test_depth_at_a_bound_does_not_count(dtype):
    low, high = 1e-3, 80.0
    row = [low, 10.0, high, 0.0, 100.0, math.nan, math.inf]
    gt = torch.tensor([[row]], dtype=dtype)
    pred = torch.full_like(gt, 11.0)
    metric = DepthMetric()
    metric.process({}, [sample(gt, pred)])
    assert metric.results[0][0] == 1
    assert metric.evaluate(1)['depth/abs_rel'] == pytest.approx(0.1)
    inside = torch.nextafter(torch.tensor(high), torch.tensor(0.0))
    metric.process({}, [sample(inside.view(1, 1, 1), pred[..., :1].float())])
    assert metric.results[0][0] == 1


def test_predictions_are_clamped():
    gt = torch.tensor([[[2.0, 40.0]]])
    found = evaluate([sample(gt, torch.tensor([[[-3.0, 1000.0]]]))])
    assert found == pytest.approx(oracle([(2.0, 1e-3), (40.0, 80.0)]))
    found = evaluate([sample(gt, torch.tensor([[[2.0, 90.0]]]))], max_depth=50.0)
    assert found == pytest.approx(oracle([(2.0, 2.0), (40.0, 50.0)]))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float64(dtype):
    """Use 90000 pixels: in float16 their number alone is infinite."""
    gt = depth(300, 300)
    pred = (1.1 * gt).clamp(max=79).to(dtype)
    found = evaluate([sample(gt, pred)])
    assert found == pytest.approx(evaluate([sample(gt, pred.double())]), rel=1e-12)
    assert found['abs_rel'] == pytest.approx(0.1, rel=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_maps_on_a_gpu():
    samples = with_holes()
    moved = [
        sample(one['gt_depth']['depth'], one['pred_depth']['depth'].cuda())
        for one in samples
    ]
    assert evaluate(moved) == pytest.approx(evaluate(samples), rel=1e-12)


def test_results_are_small_and_on_the_cpu():
    metric = DepthMetric()
    metric.process({}, with_holes(3))
    assert [tuple(sums.shape) for sums in metric.results] == [(10,)] * 3
    assert all(sums.dtype == torch.float64 for sums in metric.results)
    assert {sums.device.type for sums in metric.results} == {'cpu'}


def test_images_without_valid_depth_are_skipped_and_counted(monkeypatch):
    lines = []
    logger = MMLogger.get_instance('depth_metric')
    monkeypatch.setattr(logger, 'log', lambda level, line: lines.append(line))
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: logger)
    samples = with_holes(2)
    unmeasured = sample(torch.zeros(1, 6, 9), depth())
    far = sample(torch.full((1, 6, 9), 80.0), depth())
    alone = evaluate(samples)
    assert not lines
    assert evaluate([unmeasured, samples[0], far, samples[1]]) == alone
    (line,) = lines
    assert line.startswith('DepthMetric skipped 2 of 4 images')


def one_line(error, *parts):
    text = str(error.value)
    assert '\n' not in text
    assert all(part in text for part in parts), text


def test_no_valid_depth_at_all_is_an_error():
    millimetres = [sample(1000 * depth(), depth()) for _ in range(3)]
    with pytest.raises(ValueError, match='none of 3 images') as error:
        evaluate(millimetres)
    one_line(error, '0.001', '80.0 m', 'scale of the depth files', 'max_depth')


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('valid', [True, False])
def test_non_finite_prediction_is_an_error(value, valid):
    gt, pred = depth(), depth()
    pred[0, 2, 3:5] = value
    if not valid:
        gt[0, 2, 3:5] = 0
    with pytest.raises(ValueError, match='NaN or infinite') as error:
        evaluate([sample(depth(), depth()), sample(gt, pred, 'b.png')])
    one_line(error, 'img/b.png has 2 NaN')


def test_float16_overflow_is_an_error():
    pred = (1e6 * depth()).half()
    with pytest.raises(ValueError, match=r'img/a\.png has 54 NaN or infinite'):
        evaluate([sample(depth(), pred)])


@pytest.mark.parametrize('shape', [(1, 6, 8), (1, 3, 9), (6, 9), (3, 6, 9)])
def test_other_shape_is_an_error(shape):
    with pytest.raises(ValueError, match=r'img/a\.png has') as error:
        evaluate([sample(depth(), torch.ones(shape))])
    one_line(error, '(1, 6, 9)', str(shape), 'LoadDepth after Resize')


@pytest.mark.parametrize('crop', [(0, 7, 0, 9), (0, 6, 0, 10), (45, 471, 41, 601)])
def test_crop_larger_than_the_image_is_an_error(crop):
    with pytest.raises(ValueError, match='larger than') as error:
        evaluate([sample(depth(), depth())], crop=crop)
    one_line(error, str(crop), 'img/a.png', '6 rows and 9 columns')


def test_missing_maps_are_errors():
    full = sample(depth(), depth())
    with pytest.raises(ValueError, match='no gt_depth') as error:
        evaluate([{k: v for k, v in full.items() if k != 'gt_depth'}])
    one_line(error, 'img/a.png', 'LoadDepth', 'PackDepthInputs')
    with pytest.raises(ValueError, match='no pred_depth') as error:
        evaluate([{k: v for k, v in full.items() if k != 'pred_depth'}])
    one_line(error, 'img/a.png', 'DepthMetric')


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(max_depth=1e-3), 'max_depth is 0.001'),
        (dict(max_depth=-80), 'max_depth is -80'),
        (dict(crop=(1, 2, 3)), 'crop is'),
        (dict(crop=(5, 5, 0, 4)), 'crop is'),
        (dict(crop=(0, 5, 4, 3)), 'crop is'),
        (dict(crop=(-1, 5, 0, 3)), 'crop is'),
        (dict(silog_lambda=1.5), 'silog_lambda is 1.5'),
        (dict(silog_lambda=-0.1), 'silog_lambda is -0.1'),
    ],
)
def test_wrong_options_are_errors(options, text):
    with pytest.raises(ValueError, match=text) as error:
        DepthMetric(**options)
    one_line(error, text)


@pytest.mark.parametrize('device', ['cpu', 'gpu'])
def test_two_ranks_equal_one(device, tmp_path, monkeypatch):
    """Give ranks images as mmengine's sampler does, which pads 5 images to 6."""
    monkeypatch.chdir(tmp_path)  # mmengine collects below the working directory
    samples = with_holes(5)
    samples[2]['gt_depth']['depth'] = torch.zeros(1, 6, 9)
    expected = evaluate(samples)
    padded = [*samples, samples[0]]

    def work(rank):
        own = padded[rank::2]
        found = evaluate(own, size=5, collect_device=device)
        assert found == expected

    assert two_ranks(work, tmp_path) == [0, 0]


def data_sample(**fields):
    maps = {k: PixelData(**value) for k, value in fields.items()}
    found = DetDataSample(metainfo=dict(img_path='img/a.png'))
    for name, value in maps.items():
        setattr(found, name, value)
    return found


def test_evaluator_builds_and_feeds_the_metrics():
    """Run depth next to mmdet's mIoU on a case counted by hand.

    ===== ===== ===== ===== ===== ===== =====
    gt    0     0     1     1     255   0
    pred  0     1     1     1     0     2
    ===== ===== ===== ===== ===== ===== =====

    Class 0 has intersection 1 and union 3, class 1 has 2 and 3, class 2 has 0 and 1.
    """
    evaluator = Evaluator(
        metrics=[
            dict(type='DepthMetric', max_depth=10.0),
            dict(type='DepthMetric', max_depth=10.0, prefix='all'),
            dict(type='SemSegMetric', iou_metrics=['mIoU'], prefix='seg'),
        ]
    )
    evaluator.dataset_meta = dict(classes=('a', 'b', 'c'))
    assert METRICS.get('DepthMetric') is DepthMetric
    gt = torch.tensor([[[0.0, 2.0, 4.0], [8.0, 10.0, 50.0]]])
    labels = torch.tensor([[[0, 0, 1], [1, 255, 0]]], dtype=torch.uint8)
    predicted = torch.tensor([[[0, 1, 1], [1, 0, 2]]])
    evaluator.process(
        [
            data_sample(
                gt_depth=dict(depth=gt),
                pred_depth=dict(depth=1.2 * gt),
                gt_sem_seg=dict(sem_seg=labels),
                pred_sem_seg=dict(sem_seg=predicted),
            )
        ]
    )
    found = evaluator.evaluate(1)
    # Of 2, 4 and 8 m the last is predicted at 9.6 m; 10 and 50 m are no valid pixels.
    for prefix in ('depth', 'all'):
        assert found[f'{prefix}/abs_rel'] == pytest.approx(0.2, rel=1e-6)
        assert found[f'{prefix}/rmse'] == pytest.approx(0.2 * math.sqrt(28), rel=1e-6)
        assert found[f'{prefix}/d1'] == 1
    assert found['seg/mIoU'] == pytest.approx(100 * (1 / 3 + 2 / 3 + 0) / 3, abs=0.005)
