"""Test the strong view against torchvision's operations."""

import pytest
import torch
from mmdet.registry import MODELS
from torchvision.transforms.v2 import functional as TF

import mmcast  # noqa: F401
from mmcast.models.views import StrongView, normalization

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
OFF = {
    'brightness': 0.0,
    'contrast': 0.0,
    'saturation': 0.0,
    'hue': 0.0,
    'grayscale_prob': 0.0,
    'blur_prob': 0.0,
}


def normalise(colours):
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    return (colours * 255 - mean) / std


def colours_of(images):
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    return (images.float() * std + mean) / 255


@pytest.fixture
def colours():
    return torch.rand(3, 3, 20, 26, generator=torch.Generator().manual_seed(0))


def test_identity_returns_the_batch(colours):
    images = normalise(colours)
    strong = StrongView(MEAN, STD, **OFF)(images)
    torch.testing.assert_close(strong, images, rtol=0, atol=1e-5)
    assert strong.data_ptr() != images.data_ptr()


@pytest.mark.parametrize(
    ('settings', 'oracle'),
    [
        ({'brightness': (1.3, 1.3)}, lambda x: TF.adjust_brightness(x, 1.3)),
        ({'contrast': (0.6, 0.6)}, lambda x: TF.adjust_contrast(x, 0.6)),
        ({'saturation': (1.4, 1.4)}, lambda x: TF.adjust_saturation(x, 1.4)),
        ({'hue': (-0.1, -0.1)}, lambda x: TF.adjust_hue(x, -0.1)),
        ({'grayscale_prob': 1.0}, lambda x: TF.rgb_to_grayscale(x, 3)),
        (
            {'blur_prob': 1.0, 'blur_kernel': 7, 'blur_sigma': (1.2, 1.2)},
            lambda x: TF.gaussian_blur(x, [7, 7], [1.2, 1.2]),
        ),
    ],
)
def test_each_operation_equals_torchvisions(colours, settings, oracle):
    ours = StrongView(MEAN, STD, **{**OFF, **settings})(normalise(colours))
    expected = torch.stack([oracle(x) for x in colours])
    torch.testing.assert_close(colours_of(ours), expected, rtol=0, atol=1e-5)
    assert (expected - colours).abs().max() > 0.05


def test_channels_of_a_bgr_batch_are_turned(colours):
    """Grey is mostly green, and a hue turns red into yellow, not blue into cyan."""
    settings = {**OFF, 'hue': (0.1, 0.1), 'saturation': (0.5, 0.5)}
    images = normalise(colours)
    torch.manual_seed(0)  # of the order of operations
    expected = StrongView(MEAN, STD, **settings)(images).flip(1)
    torch.manual_seed(0)
    found = StrongView(MEAN[::-1], STD[::-1], bgr=True, **settings)(images.flip(1))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        (dict(mean=[1, 2, 3], std=[4, 5, 6]), ([1, 2, 3], [4, 5, 6], True)),
        (
            dict(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=True),
            ([1, 2, 3], [4, 5, 6], False),
        ),
        ({}, ([0, 0, 0], [1, 1, 1], True)),
    ],
)
def test_colours_of_a_data_preprocessor(settings, expected):
    """mmdet's RTMDet reads blue first, and its YOLOX does not normalise."""
    made = MODELS.build(dict(type='DetDataPreprocessor', **settings))
    mean, std, bgr = expected
    assert normalization(made) == dict(mean=mean, std=std, bgr=bgr)


def test_images_have_their_own_parameters():
    torch.manual_seed(0)
    grey = normalise(torch.full((16, 3, 8, 8), 0.5))
    strong = colours_of(StrongView(MEAN, STD, **{**OFF, 'brightness': 0.4})(grey))
    factors = strong[:, 0, 0, 0] / 0.5
    assert len(factors.unique()) == 16
    assert ((factors >= 0.6) & (factors <= 1.4)).all()
    assert factors.min() < 0.8
    assert factors.max() > 1.2


def test_images_do_not_affect_each_other(colours):
    view = StrongView(MEAN, STD)
    images = normalise(colours)
    torch.manual_seed(0)
    first = view(images)
    images[1] = normalise(torch.zeros(3, 20, 26))
    torch.manual_seed(0)
    second = view(images)
    torch.testing.assert_close(second[[0, 2]], first[[0, 2]], rtol=0, atol=0)
    assert not torch.equal(second[1], first[1])


@pytest.mark.parametrize(
    ('name', 'changed'), [('jitter_prob', 1 - 0.8), ('grayscale_prob', 0.2)]
)
def test_share_of_changed_images(name, changed):
    """Expect the share within 4.5 standard deviations of a binomial."""
    torch.manual_seed(0)
    settings = {**OFF, 'brightness': (1.5, 1.5), 'jitter_prob': 0.0, name: changed}
    colours = torch.rand(400, 3, 3, 3) * 0.5 + 0.1
    strong = colours_of(StrongView(MEAN, STD, **settings)(normalise(colours)))
    share = ((strong - colours).abs().amax((1, 2, 3)) > 1e-3).float().mean().item()
    assert abs(share - changed) < 4.5 * (changed * (1 - changed) / 400) ** 0.5


def test_grayscale_makes_channels_equal(colours):
    settings = {'grayscale_prob': 1.0}
    strong = colours_of(StrongView(MEAN, STD, **settings)(normalise(colours)))
    torch.testing.assert_close(strong[:, 0], strong[:, 1], rtol=0, atol=1e-5)
    torch.testing.assert_close(strong[:, 0], strong[:, 2], rtol=0, atol=1e-5)


def test_positions_do_not_move():
    """Check that an impulse stays the brightest pixel for all random draws."""
    torch.manual_seed(0)
    colours = torch.full((20, 3, 15, 17), 0.2)
    at = [(int(r), int(c)) for r, c in zip(range(3, 13), range(4, 14), strict=True)] * 2
    for image, (row, column) in zip(colours, at, strict=True):
        image[:, row, column] = 0.9
    strong = StrongView(MEAN, STD)(normalise(colours))
    assert strong.shape == colours.shape
    for image, (row, column) in zip(colours_of(strong), at, strict=True):
        assert divmod(image.sum(0).argmax().item(), 17) == (row, column)


def test_output_colours_are_in_range():
    torch.manual_seed(0)
    strong = colours_of(StrongView(MEAN, STD)(torch.randn(8, 3, 9, 9) * 4))
    assert strong.min() > -1e-5
    assert strong.max() < 1 + 1e-5


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_is_kept_and_float32_is_used_inside(colours, dtype):
    images = normalise(colours).to(dtype)
    view = StrongView(MEAN, STD)
    torch.manual_seed(0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        strong = view(images)
    assert strong.dtype == dtype
    assert strong.device == images.device
    torch.manual_seed(0)
    assert torch.equal(strong, view(images.float()).to(dtype))


def test_seed_determines_the_view(colours):
    view, images = StrongView(MEAN, STD), normalise(colours)
    torch.manual_seed(0)
    first, second = view(images), view(images)
    torch.manual_seed(0)
    assert torch.equal(view(images), first)
    assert not torch.equal(first, second)


def test_input_is_kept_and_no_gradient_flows(colours):
    images = normalise(colours)
    before = images.clone()
    strong = StrongView(MEAN, STD)(images.requires_grad_())
    assert not strong.requires_grad
    assert torch.equal(images, before)


def test_padding_does_not_change(colours):
    """Compare each image with one transformed alone, and its padding with the input."""
    images = normalise(colours)
    sizes = [(20, 26), (12, 26), (9, 10)]
    view = StrongView(MEAN, STD)
    torch.manual_seed(0)
    strong = view(images, sizes)
    torch.manual_seed(0)
    for image, found, (height, width) in zip(images, strong, sizes, strict=True):
        alone = view(image[None, :, :height, :width])[0]
        assert torch.equal(found[:, :height, :width], alone)
        assert torch.equal(found[:, height:], image[:, height:])
        assert torch.equal(found[:, :, width:], image[:, :, width:])


@pytest.mark.parametrize('size', [(1, 1), (2, 26), (20, 2), (3, 3)])
def test_images_smaller_than_the_blur(colours, size):
    """Their last row and column are repeated, as far as the blur needs."""
    height, width = size
    images = normalise(colours)
    view = StrongView(MEAN, STD, **{**OFF, 'blur_prob': 1.0, 'blur_sigma': (1.2, 1.2)})
    strong = view(images, [size] * 3)
    for image, found in zip(images, strong, strict=True):
        rows = torch.arange(max(height, 3)).clamp(max=height - 1)
        columns = torch.arange(max(width, 3)).clamp(max=width - 1)
        enlarged = colours_of(image)[:, rows][:, :, columns]
        expected = TF.gaussian_blur(enlarged, [5, 5], [1.2, 1.2])[:, :height, :width]
        torch.testing.assert_close(
            found[:, :height, :width], normalise(expected), rtol=0, atol=1e-4
        )
        assert torch.equal(found[:, height:], image[:, height:])


def test_built_from_the_registry_without_state():
    view = MODELS.build({'type': 'StrongView', 'mean': MEAN, 'std': STD})
    assert isinstance(view, StrongView)
    assert not view.state_dict()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'std': (1.0, 0.0, 1.0)}, "copy the data preprocessor's"),
        ({'mean': (1.0,)}, "copy the data preprocessor's"),
        ({'jitter_prob': 1.5}, r'interval \[0.0, 1.0\]'),
        ({'blur_kernel': 4}, 'odd and positive'),
        ({'hue': 0.7}, 'hue'),
    ],
)
def test_arguments_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        StrongView(**{'mean': MEAN, 'std': STD, **settings})
