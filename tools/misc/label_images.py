"""Label images with a detector, or export labels to COCO JSON.

    python tools/misc/label_images.py CONFIG CHECKPOINT --img-root DIR --store DIR
    python tools/misc/label_images.py --store DIR --to-coco labels.json

It labels only images without labels. `torchrun --nproc-per-node N` uses N devices.
"""

import argparse
import json
import os
from typing import Any

import torch
from mmengine.dist import barrier, get_rank
from pycocotools import mask as mask_utils

import mmcast
from mmcast.apis import label_images, load_model
from mmcast.apis.ranks import on_rank_zero
from mmcast.datasets import ImageListDataset
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.files import write_atomic


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', nargs='?', help='config of the detector')
    parser.add_argument('checkpoint', nargs='?', help='its checkpoint file')
    parser.add_argument('--img-root', default='', help='folder of the images')
    parser.add_argument('--list', default='', help='image list (default: whole folder)')
    parser.add_argument('--store', required=True, help='folder of the labels')
    parser.add_argument('--to-coco', metavar='FILE', help='write COCO JSON at the end')
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--num-workers', type=int, default=2)
    parser.add_argument('--device', help='default: a GPU if there is one')
    args = parser.parse_args()
    if (args.config is None) != (args.checkpoint is None):
        parser.error('give both CONFIG and CHECKPOINT')
    if args.config is None and args.to_coco is None:
        parser.error('give CONFIG and CHECKPOINT to label, or --to-coco to export')
    return args


def label(args: argparse.Namespace) -> None:
    """Label the images that the store lacks."""
    images = ImageListDataset(
        ann_file=args.list and os.path.abspath(args.list),
        data_prefix=dict(img=args.img_root),
    )
    names = [images.get_data_info(index)['img_name'] for index in range(len(images))]
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    model = load_model(args.config, args.checkpoint, device)
    on_rank_zero(
        lambda: (
            PseudoLabelStore.create(
                args.store,
                classes=model.dataset_meta['classes'],
                teacher=Teacher.from_files(args.config, args.checkpoint),
            ).root
        )
    )
    label_images(
        model,
        names,
        args.img_root,
        PseudoLabelStore.open(args.store),
        batch_size=args.batch_size,
        num_workers=args.num_workers,
    )


def to_coco(store: PseudoLabelStore, path: str) -> None:
    """Write all labels of a store, with ``score``, to one COCO JSON file.

    Category ids are label + 1. Image and annotation ids count from 1.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name, entry in store.entries():
        height, width = entry.size
        image_id = len(images) + 1
        images.append(
            {'id': image_id, 'file_name': name, 'height': height, 'width': width}
        )
        for label, score, bbox, rle in zip(
            entry.labels, entry.scores, entry.bboxes, entry.masks, strict=True
        ):
            x1, y1, x2, y2 = (round(float(value), 2) for value in bbox)
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': image_id,
                    'category_id': int(label) + 1,
                    'bbox': [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
                    'area': int(mask_utils.area(rle)),
                    'segmentation': rle,
                    'iscrowd': 0,
                    'score': round(float(score), 6),
                }
            )
    categories = [
        {'id': index + 1, 'name': name} for index, name in enumerate(store.classes)
    ]
    content = dict(images=images, annotations=annotations, categories=categories)
    write_atomic(path, json.dumps(content, separators=(',', ':')) + '\n')


def main() -> None:
    """Run the command."""
    args = parse_args()
    if 'LOCAL_RANK' in os.environ:
        # mmengine's init_dist needs a GPU even with gloo.
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
        torch.distributed.init_process_group('nccl' if cuda else 'gloo')
    try:
        if args.config is not None:
            label(args)
        barrier()
        if args.to_coco and get_rank() == 0:
            to_coco(PseudoLabelStore.open(args.store), args.to_coco)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(
            f'label_images (mmcast {mmcast.__version__}): {error}'
        ) from None


if __name__ == '__main__':
    main()
