"""Stock detectors as ONNX files predict what mmdet predicts."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.apis import inference_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from torch.nn.modules.batchnorm import _BatchNorm

from mmcast.deployment import check_packages, export_onnx, selection
from mmcast.deployment.kinds import graph_of
from mmcast.deployment.onnx_export import metadata
from mmcast.testing import stock_detector

try:
    check_packages()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

PREDICT = runpy.run_path(
    str(Path(__file__).parents[2] / 'tools/deployment/predict_onnx.py')
)
LOAD = dict(type='LoadImageFromFile')
RESIZE = dict(type='Resize', scale=(160, 128), keep_ratio=True)
PACK = dict(
    type='PackDetInputs',
    meta_keys=('img_path', 'ori_shape', 'img_shape', 'scale_factor'),
)
PAD = dict(type='Pad', size=(160, 160), pad_val=dict(img=(114, 114, 114)))
PIPELINES = {
    'rtmdet_ins': [LOAD, RESIZE, PAD, PACK],
    'mask_rcnn': [LOAD, RESIZE, PACK],
    'condinst': [LOAD, RESIZE, PACK],
}
FACTORS = {  # of random weights, so that scores and masks differ from place to place
    'rtmdet_ins': {'rtm_cls': 0.6, 'rtm_reg': 3, 'rtm_kernel': 3},
    'mask_rcnn': {'fc_cls': 40, 'fc_reg': 100, 'rpn_reg': 10, 'conv_logits': 3},
    'condinst': {'conv_cls': 20, 'controller': 40, 'conv_pred': 30, 'conv_reg': 5},
}


def pipeline_config(family):
    """Return a config that has a test pipeline alone."""
    loader = dict(dataset=dict(pipeline=PIPELINES[family]))
    return Config(dict(test_dataloader=loader, default_scope='mmdet'))


def detector(family, photographs):
    """Build a detector with random weights that finds something everywhere."""
    torch.manual_seed(0)
    config = stock_detector(family)
    if family == 'rtmdet_ins':  # many random boxes overlap by exactly 0.6
        config.test_cfg.nms.iou_threshold = 0.61
    model = MODELS.build(config)
    model.init_weights()
    model = revert_sync_batchnorm(model).eval()
    model.cfg = pipeline_config(family)
    model.dataset_meta = dict(classes=tuple('abcdefgh'))
    norms = [part for part in model.modules() if isinstance(part, _BatchNorm)]
    for each in norms:  # statistics of what they get, as after a training
        each.train().momentum = None
        each.reset_running_stats()
    for path in photographs:
        inference_detector(model, str(path))
    model.eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            for part, factor in FACTORS[family].items():
                if part in name and name.endswith('weight'):
                    weight *= factor
    return model


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """Write images with shapes: one wide, one high, one of the network's own size."""
    root = tmp_path_factory.mktemp('photographs')
    random = np.random.default_rng(0)
    for name, (height, width) in dict(
        wide=(75, 131), high=(201, 90), same=(110, 160)
    ).items():
        image = random.integers(0, 90, (height, width, 3), np.uint8)
        for _ in range(6):
            x, y, size = random.integers(0, 70, 3)
            colour = [int(each) for each in random.integers(0, 255, 3)]
            cv2.rectangle(image, (x, y), (x + size, y + size), colour, -1)
        cv2.imwrite(str(root / f'{name}.png'), image)
    return sorted(root.iterdir())


@pytest.fixture(scope='module', params=PIPELINES)
def exported(request, photographs, tmp_path_factory):
    """Export a detector, if it can be for any number of images of any size."""
    model = detector(request.param, photographs)
    out = tmp_path_factory.mktemp('exported') / f'{request.param}.onnx'
    size = None
    if request.param == 'condinst':
        with pytest.raises(ValueError, match='CondInst is exported at one size'):
            export_onnx(model, out)
        size = (128, 160)
        photographs = [path for path in photographs if path.stem == 'same']
    differences = export_onnx(model, out, size=size)
    assert len(differences) == 2
    assert max(each.worst for each in differences) < 1e-4
    return model, out, photographs


def check_same(found, wanted):
    """Compare with mmdet's instances, in their order."""
    assert len(wanted.scores) >= 5
    wanted = {name: value.numpy() for name, value in wanted.items()}
    wanted['boxes'] = wanted.pop('bboxes')
    for each in (found, wanted):  # some random scores are equal
        order = np.lexsort((each['labels'], -each['scores'].round(4)))
        each.update({name: value[order] for name, value in each.items()})
    np.testing.assert_array_equal(found['labels'], wanted['labels'])
    np.testing.assert_allclose(found['scores'], wanted['scores'], atol=1e-4)
    np.testing.assert_allclose(found['boxes'], wanted['boxes'], atol=0.05)
    # RTMDet-Ins of mmdet may lack the last row or column of the image.
    masks = wanted['masks']
    missing = np.subtract(found['masks'].shape, masks.shape)
    assert missing.max() <= 1
    masks = np.pad(masks, [(0, each) for each in missing])
    assert masks.any((1, 2)).sum() >= 5
    differ = (found['masks'] != masks).sum((1, 2))
    assert (differ <= 1 + 1e-3 * masks.sum((1, 2))).all()


@pytest.mark.parametrize('engine', ['onnxruntime', 'openvino'])
def test_a_file_predicts_what_mmdet_does(exported, engine):
    pytest.importorskip(engine)
    model, out, photographs = exported
    predict = PREDICT['Model'](out, 1, engine)
    for path in photographs:
        wanted = inference_detector(model, str(path)).pred_instances
        check_same(predict(cv2.imread(str(path))), wanted)


@pytest.mark.parametrize('family', PIPELINES)
def test_without_an_instance_one_row_has_the_score_0(family, photographs):
    model = detector(family, photographs)
    limits = model.bbox_head if hasattr(model, 'bbox_head') else model.roi_head
    limits.test_cfg.score_thr = 1.1
    image = torch.from_numpy(cv2.imread(str(photographs[1])))
    image = F.pad(image, (0, 0, 0, 160 - image.shape[1], 0, 128 - image.shape[0]))
    size = torch.tensor([128, 160])
    with torch.no_grad():
        boxes, _, scores, masks = graph_of(model, raw=False)(image[None], size, size)[
            :4
        ]
    assert boxes.shape == (1, 1, 4)
    assert scores.tolist() == [[0.0]]
    assert masks.shape == (1, 1, 128, 160)


@pytest.mark.parametrize('count', [5, 200])
def test_best_are_the_best_of_all_cells_and_channels(count):
    scores = torch.rand(2, 7, 4, 5).where(torch.rand(2, 7, 4, 5) > 0.3, 0)
    values, channels, cells = selection.best(scores, count)
    wanted = scores.flatten(1).sort(1, descending=True)[0]
    wanted = F.pad(wanted, (0, max(0, count - wanted.shape[1])))[:, :count]
    torch.testing.assert_close(values, wanted)
    images = torch.arange(2)[:, None]
    found = scores.flatten(2)[images, channels, cells]
    assert torch.equal(found[values > 0], values[values > 0])


@pytest.mark.parametrize('change', ['soft_nms', 'agnostic', 'roi_head', 'kind'])
def test_what_is_not_exported_is_told(change):
    model = MODELS.build(stock_detector('mask_rcnn'))
    model.cfg = pipeline_config('mask_rcnn')
    if change == 'soft_nms':
        model.roi_head.test_cfg.nms.type = 'soft_nms'
        told = "suppression 'soft_nms' is not exported: set type='nms'"
    elif change == 'agnostic':
        model.roi_head.test_cfg.nms.class_agnostic = True
        told = "option 'class_agnostic' of test_cfg's suppression is not exported"
    elif change == 'roi_head':
        model.roi_head.mask_head = torch.nn.Identity()
        told = 'a Mask R-CNN with Identity is not exported'
    else:
        model = torch.nn.Identity()
        told = 'Identity cannot be exported'
    with pytest.raises(ValueError, match=told):
        graph_of(model, raw=False)


def test_a_preprocessor_without_mean_and_std_is_exported(tmp_path, monkeypatch):
    config = stock_detector('mask_rcnn')
    for name in ('mean', 'std'):
        config.data_preprocessor.pop(name)
    model = MODELS.build(config)
    model.cfg, model.dataset_meta = Config(), {}
    about = metadata(model, graph_of(model, raw=True))
    assert (about['mean'], about['std']) == ([0.0] * 3, [1.0] * 3)
    assert about['rgb'] is config.data_preprocessor.bgr_to_rgb
    # A preprocessor of another kind fails before the long work.
    monkeypatch.setattr('mmcast.deployment.onnx_export._traced', pytest.fail)
    del model.data_preprocessor._enable_normalize
    with pytest.raises(AttributeError, match='_enable_normalize'):
        export_onnx(model, tmp_path / 'x.onnx', raw=True)


@pytest.mark.parametrize('part', ['bbox', 'rpn'])
def test_scores_that_are_computed_otherwise_are_refused(part):
    config = stock_detector('mask_rcnn')
    if part == 'bbox':
        head, told = config.roi_head.bbox_head, 'SeesawLoss computes scores in its own'
        head.loss_cls = dict(type='SeesawLoss', num_classes=head.num_classes)
    else:
        head, told = config.rpn_head, 'rpn_head with softmax is not exported'
        head.loss_cls = dict(type='CrossEntropyLoss', use_sigmoid=False)
    model = MODELS.build(config)
    model.cfg = Config()
    with pytest.raises(ValueError, match=told):
        graph_of(model, raw=False)


def test_boxes_alone_are_refused():
    model = MODELS.build(stock_detector('rtmdet_ins'))
    model.cfg = Config()
    del model.bbox_head.mask_head
    with pytest.raises(ValueError, match='a RTMDet without masks is not exported'):
        graph_of(model, raw=False)
