"""Compare PerImageSemSegMetric with cases counted by hand and with an oracle."""

import pytest
import torch
from gloo_ranks import two_ranks
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData

from mmcast.evaluation import PerImageSemSegMetric


def sample(gt, pred, name='a.png'):
    return dict(
        gt_sem_seg=dict(sem_seg=torch.as_tensor(gt)),
        pred_sem_seg=dict(sem_seg=torch.as_tensor(pred)),
        img_path=f'img/{name}',
    )


def evaluate(samples, size=None, **options):
    """Return mIoU and accuracy in percent."""
    metric = PerImageSemSegMetric(**options)
    for one in samples:
        metric.process({}, [one])
    found = metric.evaluate(size or len(samples))
    assert list(found) == ['per_image/mIoU', 'per_image/pixel_acc']
    assert all(type(value) is float for value in found.values())
    return tuple(found.values())


def random_samples(n=4, classes=5):
    """Make images of different sizes; later images have more classes."""
    samples = []
    for i in range(n):
        gt = torch.randint(0, 2 + i % (classes - 1), (1, 4 + i, 7), dtype=torch.uint8)
        noise = torch.randint(0, classes, gt.shape)
        pred = torch.where(torch.rand(gt.shape) < 0.6, gt.long(), noise)
        samples.append(sample(gt, pred, f'{i}.png'))
    return samples


def oracle(samples, ignore_index=None):
    ious, accuracies = [], []
    for one in samples:
        gt = one['gt_sem_seg']['sem_seg'].flatten().tolist()
        pred = one['pred_sem_seg']['sem_seg'].flatten().tolist()
        pairs = [(g, p) for g, p in zip(gt, pred, strict=True) if g != ignore_index]
        if not pairs:
            continue
        total = 0.0
        labels = {g for g, _ in pairs}
        for label in labels:
            tp = sum(g == label and p == label for g, p in pairs)
            fp = sum(g != label and p == label for g, p in pairs)
            fn = sum(g == label and p != label for g, p in pairs)
            total += tp / (tp + fp + fn + 1e-6)
        ious.append(total / len(labels))
        accuracies.append(sum(g == p for g, p in pairs) / len(pairs))
    return 100 * sum(ious) / len(ious), 100 * sum(accuracies) / len(accuracies)


def test_two_images_counted_by_hand():
    """Class 2 of the first image is only predicted, so it is no class of that image."""
    first = sample([[[0, 0, 1, 1]]], [[[0, 1, 1, 2]]])  # IoU 1/2 and 1/3
    second = sample([[[3, 3]]], [[[3, 3]]])  # IoU 1
    miou, accuracy = evaluate([first, second])
    assert miou == pytest.approx(100 * ((1 / 2 + 1 / 3) / 2 + 1) / 2, abs=1e-3)
    assert accuracy == pytest.approx(100 * (1 / 2 + 1) / 2)


def test_mean_over_images_differs_from_mmdets_mean_over_the_dataset():
    """Predict class 1 right in one image and wrong in another, larger one."""
    samples = [
        sample([[[0, 1]]], [[[0, 1]]]),
        sample([[[0, 1, 1, 1]]], [[[0, 0, 0, 0]]]),
    ]
    evaluator = Evaluator(
        metrics=[dict(type='PerImageSemSegMetric'), dict(type='SemSegMetric')]
    )
    evaluator.dataset_meta = dict(classes=('a', 'b'))
    for one in samples:
        found = DetDataSample()
        found.gt_sem_seg = PixelData(**one['gt_sem_seg'])
        found.pred_sem_seg = PixelData(**one['pred_sem_seg'])
        evaluator.process([found])
    metrics = evaluator.evaluate(2)
    image = (1 + (1 / 4 + 0) / 2) / 2
    dataset = (2 / 5 + 1 / 4) / 2
    assert metrics['per_image/mIoU'] == pytest.approx(100 * image, abs=1e-3)
    assert metrics['mIoU'] == pytest.approx(100 * dataset, abs=0.005)
    assert metrics['per_image/pixel_acc'] == pytest.approx(100 * (1 + 1 / 4) / 2)


@pytest.mark.parametrize('ignore_index', [None, 0, 1, 4, 255])
def test_metrics_equal_the_oracle(ignore_index):
    samples = random_samples(6)
    found = evaluate(samples, ignore_index=ignore_index)
    assert found == pytest.approx(oracle(samples, ignore_index), rel=1e-12)


def test_void_counts_unless_ignored():
    """Give half of the pixels the label 255, which is never predicted."""
    samples = [sample([[[0, 0, 255, 255]]], [[[0, 0, 1, 0]]])]
    assert evaluate(samples) == pytest.approx((100 * (2 / 3) / 2, 50), abs=1e-3)
    assert evaluate(samples, ignore_index=255) == pytest.approx((100, 100), abs=1e-3)


def test_images_without_labels_are_skipped():
    samples = random_samples(2)
    void = sample(torch.full((1, 3, 3), 255), torch.zeros(1, 3, 3, dtype=torch.long))
    alone = evaluate(samples, ignore_index=255)
    assert evaluate([samples[0], void, samples[1]], ignore_index=255) == alone
    assert evaluate([samples[0], void, samples[1]]) != alone
    with pytest.raises(ValueError, match='none of 2 images has a label') as error:
        evaluate([void, void], ignore_index=255)
    assert '\n' not in str(error.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_maps_on_a_gpu():
    samples = random_samples()
    moved = [
        sample(one['gt_sem_seg']['sem_seg'], one['pred_sem_seg']['sem_seg'].cuda())
        for one in samples
    ]
    assert evaluate(moved) == evaluate(samples)


def test_wrong_maps_are_errors():
    gt = torch.zeros(1, 3, 4, dtype=torch.uint8)
    full = sample(gt, gt)
    cases = [
        ({k: v for k, v in full.items() if k != 'gt_sem_seg'}, 'no gt_sem_seg'),
        ({k: v for k, v in full.items() if k != 'pred_sem_seg'}, 'no pred_sem_seg'),
        (sample(gt, gt[..., :2]), r'\(1, 3, 4\) and a prediction of shape \(1, 3, 2\)'),
        (sample(gt.long() - 1, gt), 'negative label'),
        (sample(gt, gt.long() - 1), 'negative label'),
    ]
    for wrong, text in cases:
        with pytest.raises(ValueError, match=rf'img/a\.png has .*{text}|{text}') as e:
            evaluate([wrong])
        assert 'img/a.png' in str(e.value)
        assert '\n' not in str(e.value)
    assert evaluate([sample(torch.tensor([[[-1, 0]]]), gt[:, :1, :2])], ignore_index=-1)


def test_two_ranks_equal_one(tmp_path, monkeypatch):
    """Give ranks images as mmengine's sampler does, which pads 5 images to 6."""
    monkeypatch.chdir(tmp_path)  # mmengine collects below the working directory
    samples = random_samples(5)
    samples[2]['gt_sem_seg']['sem_seg'][:] = 255
    expected = evaluate(samples, ignore_index=255)
    padded = [*samples, samples[0]]

    def work(rank):
        assert evaluate(padded[rank::2], size=5, ignore_index=255) == expected

    assert two_ranks(work, tmp_path) == [0, 0]
