"""What one labelling process has to do."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """A process's share of the images, and how to label them.

    Attributes:
        images: Folder of the images.
        names: Paths below it, of images without labels.
        store: Folder of the labels; its manifest is there.
        weights: Folder with SAM 3 as published: ``model.safetensors``, its config and
            the tokenizer's files.
        prompts: A noun phrase for each class of the store.
        device: torch's name of the device.
        chunk: Prompts that run together.
        iou_thr: A mask is suppressed if its intersection over union with a better one,
            of any class, is above this.
    """

    images: str
    names: Sequence[str]
    store: str
    weights: str
    prompts: Sequence[str]
    device: str
    chunk: int
    iou_thr: float
