"""Write the point cloud that a model's depth gives for one image.

    python tools/analysis_tools/point_cloud.py CONFIG CHECKPOINT IMAGE CAMERA

CAMERA is a file in the layout of Cityscapes (*_camera.json), for the image at its
original size. The points are in the camera's coordinates, in metres: x right, y down,
z ahead. If the model segments, each point also has its class as `label`.
"""

import argparse
from pathlib import Path

import cv2
from mmdet.apis import inference_detector, init_detector

from mmcast.apis.point_cloud import back_project, check_camera, write_ply
from mmcast.checkpoints import check_fits, read_checkpoint
from mmcast.datasets.depth_files import CameraFile
from mmcast.visualization.depth_seg_visualizer import class_palette, colour_labels


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='config of the model')
    parser.add_argument('checkpoint', type=Path, help='its checkpoint file')
    parser.add_argument('image', type=Path, help='the image')
    parser.add_argument('camera', type=Path, help='its camera file')
    parser.add_argument(
        '--out', type=Path, default=Path('cloud.ply'), help='the PLY file'
    )
    parser.add_argument(
        '--colour',
        choices=('image', 'labels'),
        default='image',
        help='colour of the points: that of the pixel or of its class',
    )
    parser.add_argument(
        '--max-depth',
        type=float,
        default=80.0,
        help='leave out points farther ahead, m',
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument(
        '--stride', type=int, default=1, help='take each n-th pixel and row'
    )
    args = parser.parse_args()
    if args.stride < 1 or args.max_depth <= 0:
        parser.error('--stride and --max-depth must be positive')
    return args


def make_cloud(args: argparse.Namespace) -> int:
    """Predict, write the file and return the number of points.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The files do not fit together, or the model lacks a task.
    """
    for path in (args.config, args.checkpoint, args.image):
        if not path.is_file():
            raise FileNotFoundError(f'{path} is missing: correct the path')
    camera = CameraFile.read(args.camera)
    image = cv2.imread(str(args.image))
    if image is None:
        raise ValueError(f'{args.image} is no image that OpenCV can read')
    check_camera(camera, image.shape[:2])
    read_checkpoint(args.checkpoint, shapes_only=True)  # mmdet's error is a traceback

    # Without cfg_options mmdet needs `model.backbone`, which some models lack.
    model = init_detector(
        str(args.config), str(args.checkpoint), device=args.device, cfg_options={}
    )
    check_fits(model, str(args.checkpoint), ignore=('critic.',))  # not exported
    sample = inference_detector(model, str(args.image)).cpu()
    if 'pred_depth' not in sample:
        raise ValueError(
            f'the model of {args.config} predicts no depth: give one that does'
        )
    depth = sample.pred_depth.depth[0].float().numpy()
    if depth.shape != image.shape[:2]:
        raise ValueError(
            f'the model of {args.config} predicts depth of {depth.shape} pixels for an '
            f"image of {image.shape[:2]}: predict at the image's original size"
        )
    labels = None
    colours = image[..., ::-1]
    if 'pred_sem_seg' in sample:
        labels = sample.pred_sem_seg.sem_seg[0].numpy()
    if args.colour == 'labels':
        if labels is None:
            raise ValueError(
                f'the model of {args.config} predicts no labels: give --colour image'
            )
        colours = colour_labels(labels, class_palette(model.dataset_meta))

    points = back_project(depth, camera, args.stride)
    keep = (points[..., 2] > 0) & (points[..., 2] <= args.max_depth)
    if not keep.any():
        raise ValueError(
            f'no pixel has a depth up to {args.max_depth:g} m: raise --max-depth'
        )
    every = slice(None, None, args.stride)
    write_ply(
        args.out,
        points[keep],
        colours[every, every][keep],
        None if labels is None else labels[every, every][keep],
    )
    return int(keep.sum())


def main() -> None:
    """Run the command."""
    args = parse_args()
    count = make_cloud(args)
    print(f'written: {args.out} ({count} points)')


if __name__ == '__main__':
    main()
