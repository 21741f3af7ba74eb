"""Small stock detectors in the wrapper, and batches that they take."""

import torch
from mmdet.registry import MODELS
from mmengine.model import revert_sync_batchnorm
from tiny_student import sample

from mmcast.testing import stock_detector


def instances(height, width, count, padded=None):
    """Make a sample with boxes and the meta information of a stock pipeline."""
    made = sample(height, width, count, padded)
    made.set_metainfo(dict(pad_shape=(height, width), scale_factor=(1.0, 1.0)))
    given = made.gt_instances
    boxes = given.masks.get_bboxes('hbox').tensor
    given.bboxes = boxes if count else torch.zeros(0, 4)
    return made


def two_sources(unlabeled=2, labeled=(3, 0)):
    """Make images of two sizes, two of them labelled; the second one shows nothing."""
    g = torch.Generator().manual_seed(0)
    return (
        dict(
            sup=torch.randn(2, 3, 64, 96, generator=g),
            unsup=torch.randn(1, 3, 48, 80, generator=g),
        ),
        dict(
            sup=[instances(64, 96, count) for count in labeled],
            unsup=[instances(48, 80, unlabeled)],
        ),
    )


def stock_wrapper(student, **arguments):
    """Build the wrapper around a detector of a family, or a config."""
    if isinstance(student, str):
        student = stock_detector(student)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(type='SemiSupervisedSegmentor', student=student, **arguments)
    )
    return revert_sync_batchnorm(model)  # as a runner does in a single process


def draw_alike(detector):
    """Let each call of a detector's loss draw the same random numbers."""
    loss = detector.loss

    def seeded(*arguments):
        torch.manual_seed(0)
        return loss(*arguments)

    detector.loss = seeded
