"""Weights, images and predictions of tiny composite teachers."""

import numpy as np
import torch
from mmdet.structures import DetDataSample


def enlarge_weights(module):
    """Set weights so large that masks and scores differ between boxes."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            scale = parameter[0].numel() ** -0.5
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return module


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def item(image, scale=1.0):
    """Pack an image as the test pipeline does."""
    import mmcv

    height, width = image.shape[:2]
    size = (round(width * scale), round(height * scale))
    small = mmcv.imresize(image, size)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=small.shape[:2],
            ori_shape=(height, width),
            scale_factor=(size[0] / width, size[1] / height),
            image=image,
        )
    )
    return torch.from_numpy(small).permute(2, 0, 1), sample


def predict(model, *images, scale=1.0):
    inputs, samples = zip(*[item(image, scale) for image in images], strict=True)
    with torch.no_grad():
        return model.test_step(dict(inputs=list(inputs), data_samples=list(samples)))
