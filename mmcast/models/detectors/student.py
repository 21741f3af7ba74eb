"""The network that the teacher-student wrapper trains: any segmenter of MMDetection.

The wrapper asks for the losses of parts of a batch. A stock detector answers with its
own ``loss`` for each part, on features that it extracted once from the whole batch. A
detector with a method ``losses`` answers for all parts itself, see :class:`Student`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from mmdet.structures import DetDataSample, SampleList
from mmengine.config import ConfigDict
from torch import Tensor, nn

Losses = dict[str, Tensor]
Part = tuple[slice, SampleList]
NEEDED = ('extract_feat', 'loss', 'predict')


class Student(Protocol):
    """A detector that takes its losses by parts of a batch in a way of its own.

    Like any detector of mmdet, it also has ``predict`` and ``loss``. The heads of this
    package compute all parts in one pass.
    """

    def losses(
        self, inputs: Tensor, parts: Sequence[Part]
    ) -> tuple[list[Losses], Losses]:
        """Compute the losses of a batch, in one forward pass or several.

        Args:
            inputs: Normalised, padded images, float (B, 3, H, W).
            parts: Slices of the batch with their samples. In order, they cover the
                batch. Each has its own matching and its own normaliser.

        Returns:
            The losses of each part, and those of the whole batch.
        """


def check_student(student: Any) -> None:
    """Check that the wrapper can train a detector.

    Raises:
        ValueError: It cannot; the message says why, and what can be done.
    """
    name = type(student).__name__
    lacking = [each for each in NEEDED if not callable(getattr(student, each, None))]
    if lacking:
        raise ValueError(
            f'model.student is a {name}, which has no {", ".join(lacking)}: give the '
            'config of a detector of MMDetection that predicts masks'
        )
    if hasattr(student, 'losses'):
        return
    if hasattr(student, 'language_model'):
        raise ValueError(
            f'model.student is a {name}, which reads text: give a GroundedSam2 with '
            'it as detector'
        )
    head = getattr(student, 'roi_head', None)
    if head is not None and not getattr(student, 'with_rpn', True):
        raise ValueError(
            f'model.student is a {name} without rpn_head, and the data sets give no '
            'proposals: add rpn_head'
        )
    if getattr(head, 'with_semantic', False):
        raise ValueError(
            f'model.student is a {name} with a semantic branch, and images have no '
            'semantic maps: set roi_head.semantic_roi_extractor=None and '
            'roi_head.semantic_head=None'
        )
    if getattr(student, 'num_stuff_classes', 0):
        raise ValueError(
            f'model.student is a {name} with {student.num_stuff_classes} stuff '
            'classes, and images have no semantic maps: set num_stuff_classes=0 in '
            'panoptic_head and panoptic_fusion_head'
        )
    if not any('mask' in part or 'seg' in part for part, _ in student.named_modules()):
        raise ValueError(
            f'model.student is a {name} without a mask head, so it predicts boxes '
            'alone: give a detector that predicts masks'
        )


def stock_losses(
    detector: Any, inputs: Tensor, samples: SampleList, features: Sequence[Tensor]
) -> Losses:
    """Compute a detector's own ``loss`` on features that are there already.

    Args:
        detector: Its ``loss`` asks ``extract_feat`` for the features.
        inputs: Images, float (B, 3, H, W).
        samples: Theirs; they are not changed.
        features: Their maps, as ``extract_feat`` returns them, each (B, C_i, h_i, w_i).

    Returns:
        Its losses by name. Those that the detector lists by level or image are summed,
        as mmengine sums them.
    """
    # Some heads replace masks by tensors, in the samples that they get.
    copies = [_copied(sample) for sample in samples]
    with given_features(detector, features):
        losses = detector.loss(inputs, copies)
    return {
        name: value if isinstance(value, Tensor) else sum(v.mean() for v in value)
        for name, value in losses.items()
    }


@contextmanager
def given_features(detector: Any, features: Sequence[Tensor]) -> Iterator[None]:
    """Let a detector take these features of its images instead of extracting them."""
    detector.extract_feat = lambda _: tuple(features)
    try:
        yield
    finally:
        del detector.extract_feat


def class_count(network: nn.Module) -> int | None:
    """Return the number of classes that a detector tells apart; None if unclear."""
    own = getattr(network, 'num_classes', None)
    if isinstance(own, int):
        return own
    counts = {
        part.num_classes
        for name, part in network.named_modules()
        if isinstance(getattr(part, 'num_classes', None), int)
        # The one knows objects alone, the other may be of an image classifier.
        and not name.endswith('rpn_head')
        and not name.startswith('backbone')
    }
    return counts.pop() if len(counts) == 1 else None


def teacher_config_from_student(student: dict, teacher: dict) -> ConfigDict:
    """Make the config of a teacher with the student's architecture.

    Args:
        student: The student's config.
        teacher: ``dict(checkpoint=FILE)``, a checkpoint of the whole network;
            ``dict(checkpoint=None)`` for random weights.

    Returns:
        The student's config without the student's own files and without parts that only
        training needs, with FILE to start from.

    Raises:
        ValueError: ``teacher`` has other keys.
    """
    if set(teacher) != {'checkpoint'}:
        raise ValueError(
            f'model.teacher has {", ".join(map(repr, teacher))} and no type: give '
            "dict(checkpoint=FILE) for a network of the student's architecture, or "
            'the config of another detector, with its type'
        )

    def without_files(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: without_files(v) for k, v in node.items() if k != 'init_cfg'}
        if isinstance(node, list | tuple):
            return type(node)(without_files(each) for each in node)
        return node

    config = ConfigDict(without_files(student))
    config.pop('pixel_contrast', None)
    if teacher['checkpoint'] is not None:
        config.init_cfg = dict(type='Pretrained', checkpoint=teacher['checkpoint'])
    return config


def _copied(sample: DetDataSample) -> DetDataSample:
    """Copy a sample and its instances, but not their tensors and masks."""
    copy = sample.new()
    if 'gt_instances' in sample:
        copy.gt_instances = sample.gt_instances.new()
    return copy
