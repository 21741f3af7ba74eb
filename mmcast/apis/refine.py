"""Refine the masks of a store with SAM 2, into a new store."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import print_log
from pycocotools import mask as mask_utils
from rich.text import Text

from mmcast.apis.label import part_of
from mmcast.apis.label_images import finish
from mmcast.apis.label_progress import labelling
from mmcast.apis.label_summary import LabelSummary
from mmcast.apis.labeler import is_out_of_memory
from mmcast.apis.load_model import device_of
from mmcast.console import make_console
from mmcast.datasets.image_tars import image_path, in_tars
from mmcast.datasets.mask_encoding import encode
from mmcast.datasets.pseudo_label_entry import PseudoLabels
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.store_copy import settle
from mmcast.datasets.transforms.images import LoadImage, UnreadableImageError
from mmcast.files import sha256
from mmcast.models.detectors.box_prompted_segmentor import BoxPromptedSegmentor
from mmcast.models.segmenters.refinement import RECIPES, refine_masks
from mmcast.models.segmenters.sam2 import ENCODERS, Sam2Segmenter

_FILE = 'checkpoints/sam2.1-hiera-{0}/model.safetensors'
_FETCH = (
    'hf download facebook/sam2.1-hiera-{0} model.safetensors '
    '--local-dir checkpoints/sam2.1-hiera-{0}'
)
_NAMES = {'sam2': 'large'} | {f'sam2-{size}': size for size in ENCODERS}


def refine(
    store: str | Path,
    img_root: str | Path,
    out: str | Path,
    *,
    with_: str = 'sam2',
    recipe: str = 's4m',
    chunk: int = 32,
    device: str | None = None,
    shard: str | None = None,
) -> LabelSummary:
    """Refine the masks of a store with SAM 2, into a new store.

    The recipes are those of :mod:`mmcast.models.segmenters.refinement`. Labels, scores
    and boxes stay. Masks are new, and so are the mask qualities, which are SAM 2's
    predicted IoU. It can be killed at any time and called again; a warning says if
    ``out`` was refined from labels with other settings of the teacher. Images that
    cannot be read are named in a warning and have no labels.

    Args:
        store: The store.
        img_root: Folder of the images, or ``tar://FOLDER`` for tars of images.
        out: The new store, in the same layout.
        with_: ``'sam2'`` for the large one, ``'sam2-small'`` and so on for another
            size; the ``segmenter.pth`` that a fine-tuning left, beside its config; or a
            teacher's config, with a `Sam2Segmenter` as ``model.segmenter`` and its
            weights.
        recipe: ``'s4m'`` (three points) or ``'samrefiner'`` (points, box and mask, five
            rounds).
        chunk: Masks that run together; bounds the memory.
        device: Where SAM 2 goes; None for a GPU if there is one.
        shard: ``I/N`` for the I-th of N parts of the images, as a job of an array does
            it; all parts go to one store.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        RuntimeError: There is not enough memory.
        ValueError: An argument is none of these, the store is damaged or empty,
            ``out`` is inside it or holds something else, or an image has another size
            than its labels.
    """
    if recipe not in RECIPES:
        raise ValueError(f'recipe is {recipe!r}: give {" or ".join(RECIPES)}')
    if chunk < 1:
        raise ValueError(f'chunk is {chunk}: give 1 or more')
    place = device_of(device)
    source = PseudoLabelStore.open(store)
    source.check_outside(out)
    if not in_tars(img_root) and not Path(img_root).is_dir():
        raise FileNotFoundError(f'{img_root} is no folder: correct the path')
    settings, weights = _segmenter(with_)
    settle(source)
    with make_console().status(Text(f'reading the names in {store}')):
        every = [*source.names()]
    if not every:
        raise ValueError(f'{store} has no labels: fill it with mmcast label')
    names = part_of(every, shard)
    target = PseudoLabelStore.create(
        out,
        classes=source.classes,
        teacher=_teacher(source.teacher, with_, weights, recipe),
        min_score=source.min_score,
        max_instances=source.max_instances,
        views=source.views,
        layout=source.layout,
    )
    if target.has_other_settings(source.teacher):
        print_log(
            f'{store} has labels of {source.teacher.config} with other settings of the '
            f'network or the test pipeline than those that {out} was refined from. '
            'What is refined stays; to refine all anew, give another folder as --out, '
            'or delete this one',
            logger='current',
            level=logging.WARNING,
        )
    target.remove_leftovers()
    missing = target.missing(names)
    unreadable: list[str] = []
    if missing:
        print_log(
            f'Refining the masks of {len(missing)} of {len(names)} images into {out}',
            logger='current',
        )
        segmenter: Any = MODELS.build(settings)
        segmenter.init_weights()
        segmenter.to(place).eval()
        try:
            with labelling(len(missing), verb='Refin') as advance:
                for name in missing:
                    labels = source.read(name)
                    try:
                        image = _read(img_root, name, labels.size)
                    except UnreadableImageError as error:
                        unreadable.append(error.brief)
                    else:
                        refined = _refine(segmenter, image, labels, name, recipe, chunk)
                        target.write(name, *refined)
                    advance(1)
        finally:
            target.flush()
    return finish(target, names, len(missing), unreadable)


def _segmenter(with_: str) -> tuple[Any, str]:
    """Return the config of SAM 2 and its file of weights, which exists."""
    weights: Any
    if with_ in _NAMES:
        size = _NAMES[with_]
        weights, fetch = _FILE.format(size), _FETCH.format(size)
        settings: Any = dict(
            type='Sam2Segmenter',
            arch=size,
            init_cfg=dict(type='Pretrained', checkpoint=weights),
        )
    elif with_.endswith(('.py', '.pth')) and Path(with_).is_file():
        trained = with_.endswith('.pth')
        config = _kept_config(Path(with_)) if trained else Path(with_)
        model = Config.fromfile(config).get('model', {})
        settings = model.get('segmenter') or {}
        if trained:
            settings['init_cfg'] = dict(type='Pretrained', checkpoint=with_)
        elif model.get('type') == BoxPromptedSegmentor.__name__:
            raise ValueError(
                f'{with_} trains a segmenter: give the segmenter.pth that it leaves'
            )
        weights = (settings.get('init_cfg') or {}).get('checkpoint')
        if settings.get('type') != Sam2Segmenter.__name__ or not weights:
            raise ValueError(
                f'{config} has no Sam2Segmenter with weights as model.segmenter: give '
                f'another one, or one of {", ".join(_NAMES)}'
            )
        fetch = 'correct the path in the config'
    else:
        raise ValueError(
            f'with is {with_!r}: give one of {", ".join(_NAMES)}, a segmenter.pth, or '
            'a config with a Sam2Segmenter as model.segmenter'
        )
    if not Path(weights).is_file():
        raise FileNotFoundError(f'{weights} is missing; fetch it with: {fetch}')
    return settings, weights


def _kept_config(weights: Path) -> Path:
    """Return the config that mmengine keeps in a work folder."""
    found = sorted(weights.resolve().parent.glob('*.py'))
    if len(found) != 1:
        raise ValueError(
            f'{weights} must have the config that it was trained with beside it, where '
            f'mmengine keeps it, and no other; there are {len(found)} files *.py: '
            'correct that, or give a config with these weights'
        )
    return found[0]


def _teacher(teacher: Teacher, with_: str, weights: str, recipe: str) -> Teacher:
    """Describe who made the refined masks."""
    parts = (teacher.digest, sha256(weights), recipe)
    return Teacher(
        f'{teacher.config} refined by {Path(with_).name} ({recipe})',
        teacher.checkpoint,
        hashlib.sha256('\n'.join(parts).encode()).hexdigest(),
        teacher.settings,
    )


def _read(img_root: str | Path, name: str, size: tuple[int, int]) -> torch.Tensor:
    """Read an image, uint8 (3, H, W), RGB."""
    path = image_path(img_root, name)
    image: Any = LoadImage().transform(dict(img_path=path, img_name=name))
    if image['img_shape'] != size:
        raise ValueError(
            f'{path} has {image["img_shape"]} rows and columns, but its labels are of '
            f'{size}: give the folder of the images that were labelled'
        )
    return torch.from_numpy(cv2.cvtColor(image['img'], cv2.COLOR_BGR2RGB)).permute(
        2, 0, 1
    )


def _refine(
    segmenter: Any,
    image: torch.Tensor,
    labels: PseudoLabels,
    name: str,
    recipe: str,
    chunk: int,
) -> tuple[Any, ...]:
    """Return the refined labels of an image, as the store's ``write`` takes them."""
    masks = list(labels.masks)
    qualities = np.zeros(len(masks))
    # Without a pixel there is nothing to prompt with.
    filled = np.flatnonzero(mask_utils.area(masks)).tolist() if masks else []
    if len(filled):
        device = next(segmenter.parameters()).device
        digest = hashlib.sha256(name.encode()).digest()
        random = np.random.default_rng(int.from_bytes(digest[:8], 'big'))
        try:
            given = [mask_utils.decode(masks[i]).astype(bool) for i in filled]
            found = refine_masks(
                segmenter, image.to(device), given, recipe, random, chunk
            )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise RuntimeError(
                f'SAM 2 ran out of memory at {name} with {chunk} masks: lower --chunk, '
                'then start again; what is refined is kept'
            ) from error
        for i, (mask, quality) in zip(filled, found, strict=True):
            masks[i], qualities[i] = encode(torch.from_numpy(mask)), quality
    return (
        labels.size,
        labels.labels,
        labels.scores,
        labels.bboxes,
        masks,
        labels.class_scores,
        qualities,
    )
