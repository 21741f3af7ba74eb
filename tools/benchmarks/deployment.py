"""Compare a student through torch with its ONNX file, as it is and quantised.

    python tools/benchmarks/deployment.py CONFIG CHECKPOINT student.onnx \\
        --json work_dirs/deployment.json

All predict the validation images of the config. AP is COCO's mask AP of these
predictions. Time and memory are of one image, from pixels to masks; all take turns in
one process. The quantised files are written next to the ONNX file.
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
from onnxruntime.quantization import QuantType, quantize_dynamic
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.progress import track

import mmcast
from mmcast.apis import load_model
from mmcast.deployment import compare as compare_logits
from mmcast.deployment.graphs import graph_of
from mmcast.utils import write_atomic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'deployment'))
from predict_onnx import Model
from runs import compare, hardware

Predict = Callable[[dict[str, Any]], dict[str, torch.Tensor]]
# A convolution's weights must be unsigned for onnxruntime's CPU kernels.
QUANTISED = {'int8': None, 'int8_matmul': ['MatMul', 'Gemm']}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('onnx', type=Path, help='file of export_onnx.py')
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


def through_onnx(model: Model) -> Predict:
    """Return what predicts an item of the data set with onnxruntime."""

    def predict(item: dict[str, Any]) -> dict[str, torch.Tensor]:
        found = model(cv2.imread(item['data_samples'].img_path, cv2.IMREAD_COLOR))
        found['bboxes'] = found.pop('boxes')
        return {name: torch.from_numpy(value) for name, value in found.items()}

    return predict


def average_precision(predict: Predict, dataset: Any, evaluator: dict) -> float:
    """Return mask AP in percent, from 0 to 100, without rounding."""
    with tempfile.TemporaryDirectory() as folder:
        metric = METRICS.build(
            dict(evaluator, format_only=True, outfile_prefix=f'{folder}/found')
        )
        metric.dataset_meta = dataset.metainfo
        for item in track(dataset, 'predicting', console=Console(stderr=True)):
            sample = DetDataSample(metainfo=item['data_samples'].metainfo)
            sample.pred_instances = InstanceData(**predict(item))
            metric.process({}, [sample.to_dict()])
        metric.evaluate(len(dataset))
        truth = COCO(evaluator['ann_file'])
        judge = COCOeval(truth, truth.loadRes(f'{folder}/found.segm.json'), 'segm')
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return 100 * float(judge.stats[0])


def measure_time(
    model: Any, files: dict[str, Path], threads: list[int], item: dict, repeats: int
) -> dict[str, dict[str, Any]]:
    """Time one image, and take the memory of its first prediction."""
    image = item['inputs'].permute(1, 2, 0).contiguous().numpy()
    actions: dict[str, Callable[[], Any]] = {}
    for count in threads:

        def with_torch(count: int = count) -> None:
            torch.set_num_threads(count)
            through_torch(model)(item)

        actions[f'torch {count}'] = with_torch
        for name, file in files.items():
            session = Model(file, count)
            actions[f'{name} {count}'] = lambda session=session: session(image)
    return compare(actions, repeats, 'cpu')


def main() -> None:
    args = parse_args()
    model = load_model(args.config, args.checkpoint)
    config = model.cfg
    dataset = DATASETS.build(config.test_dataloader.dataset)
    evaluator = config.test_evaluator
    if isinstance(evaluator, list | tuple):
        evaluator = next(each for each in evaluator if each['type'] == 'CocoMetric')
    files = {'onnxruntime': args.onnx}
    for name, kinds in QUANTISED.items():
        files[name] = args.onnx.with_suffix(f'.{name}.onnx')
        quantize_dynamic(
            args.onnx,
            files[name],
            op_types_to_quantize=kinds,
            weight_type=QuantType.QUInt8,
        )
    item = dataset[0]
    found = measure_time(model, files, args.threads, item, args.repeats)
    torch.set_num_threads(args.threads[0])
    side = graph_of(model, raw=False)
    height, width = (
        max(2, -(-n // side.step)) * side.step for n in item['inputs'].shape[1:]
    )
    logits = compare_logits(side, args.onnx.read_bytes(), (2, height, width))
    predictors = {'torch': through_torch(model)}
    predictors |= {name: through_onnx(Model(file)) for name, file in files.items()}
    precision = {
        name: average_precision(predict, dataset, evaluator)
        for name, predict in predictors.items()
    }
    report = dict(
        images=len(dataset),
        size=list(item['inputs'].shape[1:]),
        ap=precision,
        logits=logits.relative,
        mb_of_file={name: file.stat().st_size / 1e6 for name, file in files.items()},
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
    loss = abs(precision['torch'] - precision['onnxruntime'])
    print(f'AP of torch and onnxruntime differ by {loss:.3f}')
    if args.json:
        write_atomic(args.json, json.dumps(report, indent=2) + '\n')
    if not (loss <= 0.05 and logits.worst <= 1e-3):
        sys.exit('error: they differ by more than 0.05 AP, or logits by 1e-3')


if __name__ == '__main__':
    main()
