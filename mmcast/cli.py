"""The command ``mmcast``: each verb is the function of this name in `mmcast.apis`.

Its options are the function's arguments. Training stays ``mim train mmdet CONFIG``.
This module imports the standard library only, and a verb loads what it needs, so that
help comes at once.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from . import errors
from .version import __version__

_DEPLOY = 'copy tools/deployment/predict_onnx.py to predict without torch'


def main(words: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        words: Its words after ``mmcast``; None for those of the running program, whose
            foreseen errors are then shown in one line.
    """
    if words is None:
        sys.excepthook = errors.show
        for stream in sys.stdout, sys.stderr:
            # A class may have letters that the terminal's encoding lacks.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors='backslashreplace')
    parser = _parser()
    options = vars(parser.parse_args(_joined(sys.argv[1:] if words is None else words)))
    verb, show = options.pop('verb'), options.pop('show')
    given = {key: _home(value) for key, value in options.items() if value is not None}
    from mmcast import load

    load()
    from mmcast import apis

    result = getattr(apis, verb)(**given)
    if show:
        show(result, given)


def _home(value: Any) -> Any:
    """Replace ``~/``, which shells leave alone in ``--out=~/lists``."""
    if isinstance(value, list):
        return [_home(each) for each in value]
    is_path = isinstance(value, str) and value.startswith('~/')
    return os.path.expanduser(value) if is_path else value


def _joined(words: Sequence[str]) -> Sequence[str]:
    """Join `store`, a teacher or an engine to its verb, since their options differ."""
    if words[:1] == ['store'] and len(words) > 1:
        return [' '.join(words[:2]), *words[2:]]
    if words[:1] != ['label']:
        return words
    for option in '--teacher', '--engine':
        words = [
            part
            for word in words
            for part in (
                word.split('=', 1) if word.startswith(f'{option}=') else [word]
            )
        ]
        if option in words[:-1]:
            place = words.index(option)
            verb = ' '.join([words[0], *words[place : place + 2]])
            return [verb, *words[1:place], *words[place + 2 :]]
    return words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'mmcast',
        description='Instance segmentation from few labels: your data, labels, models.',
        epilog='mmcast VERB --help shows the options of a verb. '
        'Training is `mim train mmdet CONFIG`.',
    )
    parser.add_argument('--version', action='version', version=f'mmcast {__version__}')
    verbs = parser.add_subparsers(metavar='VERB', required=True)

    def add(
        name: str, text: str, show: Callable | None = None, function: str = ''
    ) -> Any:
        verb = verbs.add_parser(
            name, help=text, description=text, argument_default=None
        )
        verb.set_defaults(verb=function or name.replace('-', '_'), show=show)
        return verb.add_argument

    _own_data(add('own-data', 'look at your images, write the configs of all stages'))
    _split(add('split', 'draw labelled and unlabelled images', _show_splits))
    _label(add('label', 'label images with a detector, into a store'))
    _label_with_ray(
        add(
            'label --engine ray',
            'label images with a detector on a Ray cluster, into a store of shards',
            function='label_with_ray',
        )
    )
    _label_with_sam3(
        add(
            'label --teacher sam3',
            'label images with SAM 3, by words, into a store',
            function='label_with_sam3',
        )
    )
    _refine(add('refine', 'refine the masks of a store with SAM 2, into a new store'))
    _export_onnx(add('export-onnx', 'export a model to ONNX', _show_export))
    _to_coco(add('to-coco', 'write the labels of a store as COCO JSON', _show_file))
    _from_coco(add('from-coco', "make a store of another tool's labels", _show))
    _convert_store(
        add(
            'store convert',
            'copy labels from a folder of files to shards, or back',
            _show_copy,
            function='convert_store',
        )
    )
    _merge_stores(
        add(
            'store merge',
            'copy stores of one teacher into one of full shards',
            _show_copy,
            function='merge_stores',
        )
    )
    _verify_store(
        add(
            'store verify',
            'check every byte of a store',
            _show,
            function='verify_store',
        )
    )
    _report(add('report', 'write a page that shows what trainings did', _show_file))
    add('models', 'list the models of the package', _show_models)
    return parser


def _own_data(add: Callable) -> None:
    add('name', help='name of the data set, as in configs/NAME')
    add('--coco', required=True, help='COCO JSON with masks')
    add('--images', required=True, help='folder of its images and of unlabelled ones')
    add(
        '--val',
        help='COCO JSON of validation images (default: draw a fifth)',
    )
    add('--val-images', help='their folder (default: that of --images)')
    add('--look', action='store_true', help='look only, and write nothing')
    add(
        '--size',
        choices=('small', 'medium', 'full'),
        help='models of the stages (default: medium with a GPU, else small)',
    )
    add('--student', metavar='CONFIG', help='your own detector, or mmdet::...')
    add(
        '--teacher',
        nargs='+',
        metavar=('CONFIG', 'CHECKPOINT'),
        help='CONFIG CHECKPOINT of a detector that was trained on the classes; or sam3',
    )
    add('--fraction', type=float, help='labelled share of the annotated images, 0 to 1')
    add('--seed', type=int, help='of the drawn lists (default: 0)')
    add('--out', help='folder of lists and annotations (default: splits beside --coco)')
    add('--link-root', metavar='DIR', help='images may be links to places below it')


def _split(add: Callable) -> None:
    add('--coco', help='COCO JSON with the images to split')
    add('--images', metavar='DIR', help='their folder; names are made to fit it')
    add('--list', help='list of images (without classes)')
    add('--cityscapes', metavar='DIR', help='Cityscapes layout; needs no JSON')
    add('--split', help='split of --cityscapes (default: train)')
    add('--fraction', type=float, nargs='+', help='labelled, 0 to 1')
    add('--count', type=int, nargs='+', help='labelled images')
    add('--labeled', metavar='LIST', help='existing labelled list')
    add('--unlabeled', metavar='LIST', help='existing list, checked against --labeled')
    add('--per-class', type=int, help='minimum of labelled images per class')
    add('--nested', action='store_true', help='put smaller splits inside larger ones')
    add('--seed', type=int, help='same seed, same lists (default: 0)')
    add(
        '--pool',
        choices=('rest', 'all'),
        help='unlabelled images: the rest (default), or all',
    )
    add(
        '--format',
        choices=('names', 'instance-ids'),
        help='names (default), or *_gtFine_instanceIds.png as in Guided Distillation',
    )
    add(
        '--allow-missing-classes',
        action='store_true',
        help='a class may have no labelled image',
    )
    add('--out', required=True, help='folder for the lists')


def _label(add: Callable) -> None:
    _detector(add)
    add('--device', help='default: a GPU if there is one')
    _layout(add)
    _shard(add, 'label')


def _label_with_ray(add: Callable) -> None:
    _detector(add)
    add('--num-gpus', type=float, help='of an actor (default: 1 if there are any)')
    add('--concurrency', type=int, help='number of actors (default: all that fit)')


def _detector(add: Callable) -> None:
    add('config', help='config of the detector')
    add('checkpoint', help='its checkpoint')
    _images_to_label(add)
    add('--batch-size', type=int, help='images of a forward pass (default: 1)')
    add('--num-workers', type=int, help='processes that read images (default: 2)')
    add('--flip', action='store_true', help='the detector sees images mirrored, too')
    add(
        '--scales',
        type=float,
        nargs='+',
        help='factors on its test size, as 1 1.25; all views are merged',
    )
    _max_instances(add)


def _label_with_sam3(add: Callable) -> None:
    _images_to_label(add)
    add('--classes', nargs='+', required=True, help="the student's, in its order")
    add('--prompts', nargs='+', metavar='CLASS=PHRASE', help='default: the names')
    add('--weights', metavar='DIR', help='of SAM 3 (default: checkpoints/sam3)')
    add('--env', metavar='DIR', help='environment, made if missing (.venv-sam3)')
    add('--processes', type=int, help='default: one on each GPU, or one')
    add('--chunk', type=int, help='prompts that run together (default: 8)')
    add('--iou-thr', type=float, help='masks that overlap more: one stays (0.7)')
    _layout(add)
    _max_instances(add)


def _refine(add: Callable) -> None:
    add('store', help='folder of the labels')
    add(
        *('--img-root', '--images'),
        required=True,
        metavar='DIR',
        help='folder of the images',
    )
    add('--out', required=True, metavar='DIR', help='folder of the new labels')
    add(
        '--with',
        dest='with_',
        metavar='MODEL',
        help='sam2 (default), sam2-base-plus, sam2-small, sam2-tiny, a segmenter.pth, '
        'or a config',
    )
    add(
        '--recipe',
        choices=('s4m', 'samrefiner'),
        help='three points (default); or points, box and mask, five rounds',
    )
    add('--chunk', type=int, help='masks that run together (default: 32)')
    add('--device', help='default: a GPU if there is one')
    _shard(add, 'refine')


def _shard(add: Callable, verb: str) -> None:
    add(
        '--shard',
        metavar='I/N',
        help=f'{verb} the I-th of N parts, as a job of an array',
    )


def _max_instances(add: Callable) -> None:
    add('--max-instances', type=int, help='most that are kept of an image (100)')


def _layout(add: Callable) -> None:
    add(
        '--layout',
        choices=('folder', 'shards'),
        help='of a new store: a file an image (default), or shards for a million',
    )


def _images_to_label(add: Callable) -> None:
    add(
        *('--img-root', '--images'),
        required=True,
        metavar='DIR',
        help='folder of the images; not SAM 3: or tar://FOLDER of tars; Ray: or s3://...',
    )
    add('--store', required=True, metavar='DIR', help='folder of the labels')
    add('--list', help='list of images (default: the whole folder)')
    add('--link-root', metavar='DIR', help='images may be links to places below it')


def _export_onnx(add: Callable) -> None:
    add('config', help='config of the model')
    add('checkpoint', help='its plain checkpoint, student.pth')
    add('--out', required=True, metavar='FILE', help=f'file to write; {_DEPLOY}')
    add(
        '--raw',
        action='store_true',
        help='the network alone: normalised image, logits',
    )
    add('--batch', type=int, help='number of images (default: any)')
    add(
        '--size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the padded images (default: any)',
    )


def _to_coco(add: Callable) -> None:
    add('store', help='folder of the labels')
    add('out', metavar='FILE', help='file to write')


def _from_coco(add: Callable) -> None:
    add('coco', help='COCO JSON with images, categories and annotations')
    add('store', help='folder of the labels')
    add('--results', metavar='FILE', help='COCO results, in place of annotations')
    add('--images', metavar='DIR', help='image folder; names are made to fit it')
    add('--classes', nargs='+', help="the student's classes, in its order")
    _layout(add)


def _convert_store(add: Callable) -> None:
    add('store', help='folder of the labels')
    add('out', help='folder of the copy')


def _merge_stores(add: Callable) -> None:
    add('stores', nargs='+', metavar='store', help='folders of the labels')
    add('--out', required=True, metavar='DIR', help='folder of the copy')


def _verify_store(add: Callable) -> None:
    add('store', help='folder of the labels')


def _report(add: Callable) -> None:
    add('work_dirs', nargs='+', metavar='DIR', help='work folders, or folders above')
    add('--out', metavar='FILE', help='default: report.html in the first folder')


def _show(result: Any, options: dict[str, Any]) -> None:
    print(f'{options["store"]}: {result}')


def _show_copy(result: Any, options: dict[str, Any]) -> None:
    print(f'{options["out"]}: {result}')


def _show_file(result: Any, options: dict[str, Any]) -> None:
    print(f'wrote {result}')


def _show_splits(result: Any, options: dict[str, Any]) -> None:
    for folder, counts in result.items():
        print(f'{folder}: {counts}')


def _show_export(result: Any, options: dict[str, Any]) -> None:
    print('largest differences between onnxruntime and torch:')
    for each in result:
        print(f'  {each}')
    print(f'wrote {options["out"]}')


def _show_models(result: Any, options: dict[str, Any]) -> None:
    for model in result:
        if model.weights:
            print(f'{model.name}\n  {model.config}\n  {model.weights}')
            print(f'  {model.results}')
    print('without weights:', ', '.join(m.name for m in result if not m.weights))


if __name__ == '__main__':
    main()
