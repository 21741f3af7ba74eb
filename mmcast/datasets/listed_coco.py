"""A data set of labelled images: a COCO file, and maybe a list of its images.

MMEngine's path rule holds: ``ann_file``, ``image_list`` and ``data_prefix`` are
relative to ``data_root`` if there is one, else to the current folder; an absolute path
stays as it is. `mmcast.datasets.splits` describes the format of a list.
"""

import logging
import os.path as osp
from collections.abc import Sequence
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import DATASETS
from mmengine.logging import print_log

from .coco_file import CocoFile, read_coco
from .image_list import check_folders
from .image_names import examples, find_missing
from .splits import check_known, read_list
from .transforms.loading import LoadInstances


@DATASETS.register_module()
class ListedCocoDataset(CocoDataset):
    """Labelled images of a COCO file: those on a list, or all.

    Further differences from `mmdet.datasets.CocoDataset`:

    * Every item has ``img_name`` (the COCO ``file_name``).
    * The config gives the classes, and they must agree with the file. mmdet drops
      unknown ones silently, and takes the file's order for the config's.
    * Annotations are read by `mmcast.datasets.coco_file`: boxes and areas are those of
      the masks. Objects of other classes, and those whose mask is missing or cannot be
      read, are counted in a warning; mmdet drops them silently, or fails later.
    * Images that show only crowds count as empty, since nothing can be learnt from
      them. `mmdet.datasets.CityscapesDataset` drops them, too.
    * In evaluation, masks of the annotations stay encoded until somebody asks for them.
      ``CocoMetric`` reads the file itself, so a file that it would read in another way
      is refused, and so is a list of some of its images; ``mmcast own-data`` writes
      files that both read alike.

    Args:
        image_list (str, optional): List of the images to use, in this order; None for
            all images of ``ann_file``.
        link_root (str, optional): Links in the image folder may lead to places below
            this folder, too, as a cache of DVC; see `mmcast.datasets.image_names`.
        **kwargs: As for `mmdet.datasets.CocoDataset`; ``ann_file``,
            ``metainfo=dict(classes=...)`` and ``data_prefix=dict(img=...)`` are needed.

    Raises:
        FileNotFoundError: If the data root, the image folder, the annotation file,
            the list or an image is missing.
        ValueError: If classes do not match, a line of the list is no image of the
            annotation file, a name is invalid or leads out of the image folder, no
            image with an instance is left, or evaluation would read the file in
            another way or count images that are not on the list.
    """

    METAINFO: dict = {}

    def __init__(
        self,
        *args: Any,
        image_list: str | None = None,
        link_root: str | None = None,
        **kwargs: Any,
    ):
        self.image_list = image_list
        self.link_root = link_root
        super().__init__(*args, **kwargs)
        if self.test_mode:
            steps = self.pipeline.transforms
            steps[:] = [_encoded(step) for step in steps]

    def _join_prefix(self) -> None:
        super()._join_prefix()
        if self.image_list:
            self.image_list = osp.join(self.data_root or '', self.image_list)

    def load_data_list(self) -> list[dict]:
        """Load the annotations of the listed images."""
        check_folders(self)
        if not self.ann_file:
            raise ValueError(
                'ListedCocoDataset has no ann_file: set it to your COCO JSON, or use '
                'ImageListDataset for unlabelled images'
            )
        names = read_list(self.image_list) if self.image_list else None
        folder = self.data_prefix['img']
        content = read_coco(self.ann_file, folder, names and set(names))
        if self.test_mode and content.unlike:
            raise ValueError(
                f"'{self.ann_file}' cannot be evaluated as it is: "
                f'{"; ".join(content.unlike)}. CocoMetric reads the file itself: let '
                'mmcast own-data write a mended one, or correct it'
            )
        if self.test_mode and content.has_id_0:
            print_log(
                f"an annotation in '{self.ann_file}' has the id 0, which pycocotools "
                'takes for no match, so AP will be too low: number them from 1',
                logger='current',
                level=logging.WARNING,
            )
        self._set_classes(content.classes)
        ids = {each['name']: each['id'] for each in content.categories}
        self.cat_ids = [ids[name] for name in self.metainfo['classes']]
        self.cat2label = {cat_id: i for i, cat_id in enumerate(self.cat_ids)}

        images = {image['file_name']: image for image in content.images}
        if names is None:
            names = list(images)
        else:
            assert self.image_list is not None
            check_known(names, images, self.image_list)
            if self.test_mode and len(names) < len(images):
                raise ValueError(
                    f"'{self.image_list}' lists {len(names)} of the {len(images)} "
                    f"images of '{self.ann_file}', but CocoMetric counts all: write a "
                    'COCO file of the listed images, give it to the data set and the '
                    'evaluator as ann_file, and remove image_list'
                )
        annotations = content.by_image()
        # CocoDataset has it, too, for its `filter_data` and for ClassAwareSampler.
        self.cat_img_map: dict[Any, list] = {cat_id: [] for cat_id in self.cat_ids}
        data_list = []
        for name in names:
            image = {**images[name], 'img_id': images[name]['id']}
            every = annotations[name]
            for each in every:
                if each['category_id'] in self.cat_img_map:
                    self.cat_img_map[each['category_id']].append(image['id'])
            item = self.parse_data_info({'raw_img_info': image, 'raw_ann_info': every})
            data_list.append(item)
        self._warn_of_left_out(content)
        missing = find_missing(names, folder, self.link_root)
        if missing:
            first = data_list[missing[0]]['img_path']
            raise FileNotFoundError(
                f"image '{first}' of '{self.ann_file}' does not exist"
                + (f', nor do {len(missing) - 1} others' if len(missing) > 1 else '')
                + ": put the images there or correct data_prefix=dict(img='...')"
            )
        return data_list

    def _warn_of_left_out(self, content: CocoFile) -> None:
        """Warn once of objects that nobody will learn."""
        unknown = sum(
            each['category_id'] not in self.cat2label for each in content.annotations
        )
        texts = []
        if unknown:
            texts.append(f'{unknown} are of classes that the config does not have')
        for what, items in (
            ('have no mask', content.without_mask),
            ('have a mask that cannot be read', content.bad),
        ):
            if items:
                texts.append(f'{len(items)} {what} (annotation {examples(items)})')
        if texts:
            print_log(
                f"of the {content.total} objects in '{self.ann_file}', "
                f'{", ".join(texts)}: they are left out',
                logger='current',
                level=logging.WARNING,
            )
        if content.bad_parts:
            print_log(
                f"{len(content.bad_parts)} masks in '{self.ann_file}' lose a polygon "
                f'that cannot be read: annotation {examples(content.bad_parts)}',
                logger='current',
                level=logging.WARNING,
            )

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Add ``img_name`` to CocoDataset's item."""
        data_info = super().parse_data_info(raw_data_info)
        data_info['img_name'] = raw_data_info['raw_img_info']['file_name']
        return data_info

    def filter_data(self) -> list[dict]:
        """Apply ``filter_cfg``; raise if no image is left.

        Warns of classes that no image shows, and of images smaller than the crop.
        """
        if self.test_mode:
            return self.data_list
        cfg = self.filter_cfg or {}
        kept = [
            info
            for info in self.data_list
            if min(info['width'], info['height']) >= cfg.get('min_size', 0)
            and (
                not cfg.get('filter_empty_gt', False)
                or any(not instance['ignore_flag'] for instance in info['instances'])
            )
        ]
        source = self.image_list or self.ann_file
        if not kept:
            raise ValueError(
                f"none of the {len(self.data_list)} images of '{source}' has an "
                f'instance and passes filter_cfg={self.filter_cfg}: label more images '
                'or draw another list with mmcast split'
            )
        shown = {
            instance['bbox_label']
            for info in kept
            for instance in info['instances']
            if not instance['ignore_flag']
        }
        missing = [
            name for i, name in enumerate(self.metainfo['classes']) if i not in shown
        ]
        if missing:
            print_log(
                f"no image of '{source}' shows: {', '.join(missing)}. These classes "
                'cannot be learnt: draw a list with mmcast split --per-class N',
                logger='current',
                level=logging.WARNING,
            )
        self._warn_of_small_images(kept)
        return kept

    def _warn_of_small_images(self, infos: list[dict]) -> None:
        """Warn once of images that a crop cannot fill, unless a resize comes first."""
        for transform in self.pipeline.transforms:
            kind = type(transform).__name__
            if 'Resize' in kind:
                return
            if kind != 'RandomCrop' or transform.crop_type != 'absolute':
                continue
            width, height = transform.crop_size
            small = [i for i in infos if i['width'] < width or i['height'] < height]
            if small:
                least = min(small, key=lambda i: i['width'] * i['height'])
                print_log(
                    f"{len(small)} of {len(infos)} images of '{self.ann_file}' are "
                    f'smaller than the crop of {width}x{height} and will be padded '
                    f"(the smallest is '{least['img_name']}' with "
                    f'{least["width"]}x{least["height"]}): lower crop_size or put a '
                    'RandomResize before it in weak_view',
                    logger='current',
                    level=logging.WARNING,
                )
            return

    def _set_classes(self, in_file: Sequence[str]) -> None:
        """Check that the config's classes are those of the file, in its order."""
        classes = self.metainfo.get('classes')
        if not isinstance(classes, tuple | list) or not classes:
            raise ValueError(
                f'classes={classes!r} is not a tuple of names: set the categories of '
                f"'{self.ann_file}' in the config, "
                f'metainfo=dict(classes=({", ".join(map(repr, in_file))},))'
            )
        absent = [name for name in classes if name not in in_file]
        if absent:
            raise ValueError(
                f"the config's classes ({', '.join(absent)}) are not among the "
                f"categories of '{self.ann_file}' ({', '.join(in_file)}): make "
                "metainfo=dict(classes=...) and the file's names agree"
            )
        in_order = [name for name in in_file if name in classes]
        if list(classes) != in_order:
            raise ValueError(
                f"the config's classes ({', '.join(classes)}) have another order than "
                f"the ids in '{self.ann_file}' ({', '.join(in_order)}), and CocoMetric "
                'goes by these: write metainfo=dict(classes=...) in that order'
            )


def _encoded(step: Any) -> Any:
    """Return a transform that loads masks as one that keeps them encoded."""
    if type(step) is not LoadAnnotations or not step.with_mask:
        return step
    lazy = LoadInstances()
    lazy.__dict__.update(step.__dict__)
    return lazy
