"""Export a detector, or SwinMTL's model, to ONNX, and compare it with torch.

    python tools/deployment/export_onnx.py CONFIG CHECKPOINT --out student.onnx

The file takes uint8 images as OpenCV reads them and returns boxes, labels, scores and
masks, for any number of images of any size where torch can export that. It is written
only if onnxruntime and torch agree within 1e-3. tools/deployment/predict_onnx.py runs
it without torch.
"""

import argparse
import logging

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mmcast.apis import load_model
from mmcast.deployment import check_packages, export_onnx


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its plain checkpoint, student.pth')
    parser.add_argument('--out', required=True, help='file to write')
    parser.add_argument(
        '--raw', action='store_true', help='the network alone: normalised image, logits'
    )
    parser.add_argument('--batch', type=int, help='number of images (default: any)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the padded images (default: any)',
    )
    args = parser.parse_args()
    if args.batch is not None and args.batch < 1:
        parser.error('--batch must be at least 1')
    return args


def main() -> None:
    """Run the command."""
    args = parse_args()
    try:
        check_packages()
        model = load_model(args.config, args.checkpoint)
        # The exporter logs each constant that it does not fold.
        logging.getLogger('onnxscript').setLevel(logging.ERROR)
        logging.getLogger('onnx_ir').setLevel(logging.ERROR)
        what = TextColumn('exporting; this takes a minute or more')
        with Progress(SpinnerColumn(), what, TimeElapsedColumn()) as bar:
            bar.add_task('', total=None)  # torch does not say how far it is
            differences = export_onnx(
                model,
                args.out,
                raw=args.raw,
                batch=args.batch,
                size=args.size and tuple(args.size),
            )
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        raise SystemExit(f'error: {error}') from None
    print('largest differences between onnxruntime and torch:')
    for each in differences:
        print(f'  {each}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
