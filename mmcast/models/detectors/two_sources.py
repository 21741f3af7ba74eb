"""Batches of labelled and unlabelled images: what is checked, how they are joined."""

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from torch import Tensor, nn


def check_sources(_: nn.Module, arguments: tuple, named: dict) -> tuple | None:
    """Check that a batch has images of both sources; name the one of a plain batch.

    A pre-hook of ``MultiBranchDataPreprocessor``, with named arguments.

    Raises:
        ValueError: One source is missing.
    """
    data, *rest = arguments
    images = data['inputs']
    if not isinstance(images, dict):
        if not named.get('training', any(rest)):
            return None  # a batch to predict
        return ({key: dict(sup=value) for key, value in data.items()}, *rest), named
    for branch, source in (('sup', 'labelled'), ('unsup', 'unlabelled')):
        if all(image is None for image in images.get(branch, [])):
            raise ValueError(
                f'a batch without {source} images: set train_dataloader.batch_size to '
                "a multiple of the sum of the sampler's source_ratio"
            )
    return None


def pad_and_join(
    batches: list[Tensor], samples: SampleList, pad_masks: bool = True
) -> Tensor:
    """Pad batches at the right and bottom to one size and concatenate them.

    Args:
        batches: Images (B_i, 3, H_i, W_i), normalised.
        samples: Samples of all images; their ``batch_input_shape`` is brought to the
            common size.
        pad_masks: Whether their masks are, too.

    Returns:
        The union batch (sum B_i, 3, max H_i, max W_i).
    """
    height = max(batch.shape[-2] for batch in batches)
    width = max(batch.shape[-1] for batch in batches)
    one_size = all(tuple(batch.shape[-2:]) == (height, width) for batch in batches)
    for sample in samples:
        sample.set_metainfo({'batch_input_shape': (height, width)})
        masks = sample.gt_instances.masks if pad_masks else None
        if isinstance(masks, Tensor):  # of the batch, or of the logits
            if not one_size:
                margin = (0, width - masks.shape[2], 0, height - masks.shape[1])
                sample.gt_instances.masks = F.pad(masks, margin)
        elif masks is not None and (masks.height, masks.width) != (height, width):
            sample.gt_instances.masks = masks.pad((height, width))
    return torch.cat(
        [
            F.pad(batch, (0, width - batch.shape[-1], 0, height - batch.shape[-2]))
            for batch in batches
        ]
    )
