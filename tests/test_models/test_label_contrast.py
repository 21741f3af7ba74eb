"""Test the contrast whose instances are the labels of a batch."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from stock_students import instances, stock_wrapper, two_sources

from mmcast.models.dense_heads.pixel_contrast_head import labeled_instances
from mmcast.models.losses import Grid

CLASSES = 3


def labelled(ids, labels, scores=None):
    """Make a sample from a map of instances' numbers; 0 is the background."""
    ids = np.array(ids)
    made = instances(*ids.shape, 0)
    masks = np.stack([ids == i + 1 for i in range(len(labels))]).astype(np.uint8)
    made.gt_instances = InstanceData(
        labels=torch.tensor(labels), masks=BitmapMasks(masks, *ids.shape)
    )
    if scores is not None:
        made.gt_instances.scores = torch.tensor(scores)
    return made


def distributions(sample, size):
    """Return P_m (K, N) and P_c (K, C + 1) as the contrast reads them."""
    grid = Grid.without_padding(1, size)
    masks, classes = labeled_instances(
        [sample], grid, size, CLASSES, torch.device('cpu')
    )
    return masks[0].flatten(1).softmax(0), classes[0].softmax(1)


def test_a_pixel_belongs_to_its_instance():
    sample = labelled([[0, 1, 1], [2, 2, 0]], [2, 0])
    p_m, p_c = distributions(sample, (2, 3))
    expected = F.one_hot(torch.tensor([0, 1, 1, 2, 2, 0]), 3).T.float()
    torch.testing.assert_close(p_m, expected, atol=1e-6, rtol=0)
    expected = F.one_hot(torch.tensor([CLASSES, 2, 0]), CLASSES + 1).float()
    torch.testing.assert_close(p_c, expected, atol=1e-5, rtol=0)


def test_an_unsure_label_is_partly_no_object():
    sample = labelled([[0, 1, 1], [2, 2, 0]], [2, 0], [0.7, 0.4])
    _, p_c = distributions(sample, (2, 3))
    torch.testing.assert_close(
        p_c[1], torch.tensor([0, 0, 0.7, 0.3]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        p_c[2], torch.tensor([0.4, 0, 0, 0.6]), atol=1e-5, rtol=0
    )


def test_a_pixel_of_two_masks_is_shared():
    sample = labelled([[1, 1]], [0, 1])
    sample.gt_instances.masks.masks[1] = [[0, 1]]
    p_m, _ = distributions(sample, (1, 2))
    torch.testing.assert_close(p_m[:, 1], torch.tensor([0, 0.5, 0.5]))


def model_with_contrast(student='mask_rcnn', on='neck', channels=None):
    return stock_wrapper(
        student,
        contrast_on=on,
        pixel_contrast=dict(
            type='PixelContrastHead',
            in_channels=channels or (64 if on == 'neck' else 32),
            in_index=2,  # stride 16, or 32 of RTMDet
            embed_channels=8,
            strong_view=dict(type='StrongView', blur_kernel=3),
            loss=dict(
                type='PixelContrastLoss',
                max_anchors=None,
                max_candidates=None,
                num_negatives=10,
                loss_weight=0.5,
            ),
        ),
    )


def shares(given, y, x):
    """Return P_m over background and instances, and F_c, of a pixel."""
    inside = [bool(mask[y, x]) for mask in given.masks.masks]
    p_m = [float(not any(inside))] + [i / max(sum(inside), 1) for i in inside]
    f_c = [0.0] * 9
    for share, label in zip(p_m, [8, *given.labels.tolist()], strict=True):
        f_c[label] += share
    return p_m, f_c


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize('on', ['backbone', 'neck'])
def test_loss_equals_a_slow_sum_over_pairs(on):
    """By the labels at the cells' centres, in one image and across images."""
    model = model_with_contrast(on=on).eval()
    inputs, samples = two_sources()
    inputs['unsup'] = torch.randn(1, 3, 64, 96)
    samples['unsup'] = [instances(64, 96, 2)]
    images = torch.cat([inputs['sup'], inputs['unsup']])
    every = copy.deepcopy([*samples['sup'], *samples['unsup']])
    truth = [sample.gt_instances for sample in every]
    views = []
    head = model.pixel_contrast
    head.strong_view.register_forward_hook(lambda *args: views.append(args[-1]))
    found = model.loss(inputs, samples)['loss_pxl']

    encoder = model.student.backbone if on == 'backbone' else model.student.extract_feat
    with torch.no_grad():
        maps = [head(encoder(each)) for each in (images, *views)]
    _, _, h, w = maps[0].shape
    # An untrained backbone has empty cells; the loss divides these by 1e-4.
    units = [F.normalize(m, eps=1e-4) for m in maps]
    z, strong = (m.permute(0, 2, 3, 1).flatten(0, 2) for m in units)
    cells = [(b, y, x) for b in range(3) for y in range(h) for x in range(w)]
    step = 64 // h
    centre = step // 2
    vectors = [
        shares(truth[b], y * step + centre, x * step + centre) for b, y, x in cells
    ]
    losses = []
    for i, (p, f) in enumerate(vectors):
        weights, terms = [], []
        for j, (q, g) in enumerate(vectors):
            same = cells[i][0] == cells[j][0]
            likeness = cosine(p + f, q + g) if same else cosine(f, g)
            weights.append(max(0.0, 1 - likeness) * (i != j))
            terms.append(float((z[i] @ z[j] / 0.2).exp()))
        if sum(weights) > 1e-6:
            negatives = 10 * np.dot(weights, terms) / sum(weights)
            positive = float((z[i] @ strong[i] / 0.2).exp())
            losses.append(-np.log(positive / (positive + negatives)))
    assert len(losses) > 10
    assert float(found) == pytest.approx(0.5 * np.mean(losses), rel=1e-3)


@pytest.mark.parametrize(
    ('family', 'on', 'channels', 'trained'),
    [
        ('rtmdet_ins', 'neck', 64, {'backbone', 'neck'}),
        ('mask2former', 'backbone', 32, {'backbone'}),
    ],
)
def test_contrast_trains_what_made_its_map(family, on, channels, trained):
    model = model_with_contrast(family, on, channels)
    inputs, samples = two_sources(labeled=(3, 1))
    model.loss(inputs, samples)['loss_pxl'].backward()
    touched = {
        name.removeprefix('student.').split('.')[0]
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    assert touched == trained | {'pixel_contrast'}


def test_images_that_nobody_labels_are_left_out():
    """Before a teacher labels, its images would pass for images without objects."""
    model = model_with_contrast().eval()
    model.teacher = copy.deepcopy(model.student)
    model.labeling_enabled = False
    inputs, samples = two_sources()
    seen = []
    model.pixel_contrast.strong_view.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].shape)
    )
    model.loss(inputs, samples)
    assert seen == [(2, 3, 64, 96)]


def test_one_image_that_is_left_has_no_other_one():
    model = model_with_contrast().eval()
    model.pixel_contrast.contrast.candidates = 'other_images'
    model.teacher = copy.deepcopy(model.student)
    model.labeling_enabled = False
    inputs, samples = two_sources()
    inputs['sup'], samples['sup'] = inputs['sup'][:1], samples['sup'][:1]
    seen = []
    model.student.neck.register_forward_hook(lambda *_: seen.append(1))
    loss = model.loss(inputs, samples)['loss_pxl']
    loss.backward()
    assert float(loss) == 0
    assert len(seen) == 2  # the strong view, too: other ranks may wait for its SyncBN
    assert all(p.grad is not None for p in model.pixel_contrast.mlp.parameters())
    del inputs['unsup'], samples['unsup']
    with pytest.raises(ValueError, match=r'raise train_dataloader\.batch_size'):
        model.loss(inputs, samples)
