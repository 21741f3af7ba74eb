"""Compare a student through torch with its ONNX file, in two engines and quantised.

    python tools/benchmarks/deployment.py CONFIG CHECKPOINT student.onnx \\
        --calibrate data/photos --json work_dirs/deployment.json

All predict test images of the config. AP is COCO's mask AP of these predictions. Time
and memory are of one image, from pixels to masks; all take turns in one process. The
quantised file is written next to the ONNX file.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import onnxruntime
import torch
from mmdet.registry import DATASETS, METRICS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.progress import track
from runs import compare, hardware, predict_onnx

import mmcast
from mmcast.apis import load_model
from mmcast.deployment import compare as compare_logits
from mmcast.deployment.kinds import graph_of
from mmcast.files import write_atomic

ONNX = predict_onnx()
Predict = Callable[[dict[str, Any]], dict[str, torch.Tensor]]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('onnx', type=Path, help='file of mmcast export-onnx')
    parser.add_argument('--images', type=int, help='number of images (default: all)')
    parser.add_argument('--calibrate', type=Path, help='folder of images for int8')
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--repeats', type=int, default=30)
    parser.add_argument('--json', type=Path, help='file for the numbers')
    return parser.parse_args()


def through_torch(model: Any) -> Predict:
    """Return what predicts an item of the data set with torch."""

    @torch.no_grad()
    def predict(item: dict[str, Any]) -> dict[str, torch.Tensor]:
        batch = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
        found = model.test_step(batch)[0].pred_instances
        return {name: found[name] for name in ('bboxes', 'labels', 'scores', 'masks')}

    return predict


def through_onnx(model: ONNX.Model) -> Predict:
    """Return what predicts an item of the data set with onnxruntime."""

    def predict(item: dict[str, Any]) -> dict[str, torch.Tensor]:
        found = model(cv2.imread(item['data_samples'].img_path, cv2.IMREAD_COLOR))
        found['bboxes'] = found.pop('boxes')
        return {name: torch.from_numpy(value) for name, value in found.items()}

    return predict


class Images(CalibrationDataReader):
    """What a file is fed with for images of a folder, 32 of them."""

    def __init__(self, model: ONNX.Model, folder: Path) -> None:
        self.feeds = (
            model.feed(cv2.imread(str(path)))
            for path, _ in ONNX.files_in([folder])[:32]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def quantise(file: Path, folder: Path) -> Path:
    """Write a file whose convolutions are int8, calibrated on a folder's images."""
    out = file.with_suffix('.int8.onnx')
    quantize_static(
        file,
        out,
        Images(ONNX.Model(file), folder),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=['Conv'],
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    return out


class Agreement:
    """How instances of many images differ from torch's.

    Attributes:
        images: Images with the same instances in the same order.
        iou: The smallest IoU of two masks there.
        score: The largest difference of two scores there.
    """

    def __init__(self) -> None:
        self.images, self.iou, self.score = 0, 1.0, 0.0

    def add(self, found: dict[str, torch.Tensor], wanted: dict) -> None:
        if not torch.equal(found['labels'], wanted['labels']):
            return
        self.images += 1
        if not len(found['labels']):
            return
        height, width = wanted['masks'].shape[1:]
        masks = found['masks'][:, :height, :width].flatten(1)
        truth = wanted['masks'].flatten(1)
        either = (masks | truth).sum(1).clamp(min=1)
        iou = torch.where(
            (masks | truth).any(1), (masks & truth).sum(1) / either, torch.tensor(1.0)
        )
        self.iou = min(self.iou, float(iou.min()))
        difference = (found['scores'] - wanted['scores']).abs().max()
        self.score = max(self.score, float(difference))


def evaluate(
    predictors: dict[str, Predict], dataset: Any, evaluator: dict
) -> tuple[dict[str, float], dict[str, Agreement]]:
    """Return mask AP in percent, without rounding, and what agrees with torch."""
    metrics, agreements = {}, {name: Agreement() for name in predictors}
    with tempfile.TemporaryDirectory() as folder:
        for name in predictors:
            options = dict(format_only=True, outfile_prefix=f'{folder}/{name}')
            metrics[name] = METRICS.build({**evaluator, **options})
            metrics[name].dataset_meta = dataset.metainfo
        for item in track(dataset, 'predicting', console=Console(stderr=True)):
            wanted = None
            for name, predict in predictors.items():
                found = predict(item)
                wanted = found if wanted is None else wanted
                agreements[name].add(found, wanted)
                sample = DetDataSample(metainfo=item['data_samples'].metainfo)
                sample.pred_instances = InstanceData(**found)
                metrics[name].process({}, [sample.to_dict()])
        precision = {}
        for name, metric in metrics.items():
            ids = [result[1]['img_id'] for result in metric.results]
            metric.evaluate(len(dataset))
            truth = COCO(evaluator['ann_file'])
            found = truth.loadRes(f'{folder}/{name}.segm.json')
            judge = COCOeval(truth, found, 'segm')
            judge.params.imgIds = ids
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            precision[name] = 100 * float(judge.stats[0])
    return precision, agreements


def measure_time(
    model: Any,
    files: dict[str, tuple[Path, str]],
    threads: list[int],
    item: dict,
    repeats: int,
) -> dict[str, dict[str, Any]]:
    """Time one image, and take the memory of its first prediction."""
    image = cv2.imread(item['data_samples'].img_path, cv2.IMREAD_COLOR)
    actions: dict[str, Callable[[], Any]] = {}
    for count in threads:

        def with_torch(count: int = count) -> None:
            torch.set_num_threads(count)
            through_torch(model)(item)

        actions[f'torch {count}'] = with_torch
        for name, (file, engine) in files.items():
            session = ONNX.Model(file, count, engine)
            actions[f'{name} {count}'] = lambda session=session: session(image)
    return compare(actions, repeats, 'cpu')


def main() -> None:
    args = parse_args()
    model = load_model(args.config, args.checkpoint)
    config = model.cfg
    dataset = DATASETS.build(config.test_dataloader.dataset)
    evaluator = config.test_evaluator
    if isinstance(evaluator, list | tuple):
        evaluator = next(each for each in evaluator if 'CocoMetric' in each['type'])
    if args.images:
        dataset.get_subset_(list(range(min(args.images, len(dataset)))))
    files = {name: (args.onnx, name) for name in ONNX.ENGINES}
    if args.calibrate:
        files['int8'] = quantise(args.onnx, args.calibrate), 'onnxruntime'
    item = dataset[0]
    found = measure_time(model, files, args.threads, item, args.repeats)
    torch.set_num_threads(args.threads[0])
    side = graph_of(model, raw=False)
    height, width = (
        max(2, -(-n // side.step)) * side.step for n in item['inputs'].shape[1:]
    )
    logits = compare_logits(side, args.onnx.read_bytes(), (2, height, width))
    predictors = {'torch': through_torch(model)}
    predictors |= {
        name: through_onnx(ONNX.Model(file, 1, engine))
        for name, (file, engine) in files.items()
    }
    precision, agreements = evaluate(predictors, dataset, evaluator)
    report = dict(
        images=len(dataset),
        size=list(item['inputs'].shape[1:]),
        ap=precision,
        logits=logits.relative,
        same_as_torch={name: vars(each) for name, each in agreements.items()},
        mb_of_file={
            name: file.stat().st_size / 1e6 for name, (file, _) in files.items()
        },
        ms={name: 1000 * each['s'] for name, each in found.items()},
        peak_mb={name: each['mb'] for name, each in found.items()},
        device=hardware('cpu'),
        repeats=args.repeats,
        versions=dict(
            torch=torch.__version__,
            onnxruntime=onnxruntime.__version__,
            mmcast=mmcast.__version__,
        ),
    )
    print(json.dumps(report, indent=2))
    exact = [precision[name] for name in ('torch', *ONNX.ENGINES)]
    loss = max(exact) - min(exact)
    print(f'AP of torch and the engines differs by {loss:.3f}')
    if args.json:
        write_atomic(args.json, json.dumps(report, indent=2) + '\n')
    if not (loss <= 0.05 and logits.worst <= 1e-3):
        sys.exit('error: they differ by more than 0.05 AP, or logits by 1e-3')


if __name__ == '__main__':
    main()
