"""Export real models to ONNX, and run them with and without torch."""

import json
import math
import re
import runpy
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmcv.transforms import Compose
from mmdet.apis import inference_detector
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config

from mmcast.apis import load_model
from mmcast.checkpoints import save_plain
from mmcast.datasets.image_names import IMAGE_SUFFIXES
from mmcast.deployment import check_packages, compare, export_onnx
from mmcast.deployment.deformable import sizes_as_numbers
from mmcast.deployment.kinds import graph_of
from mmcast.deployment.onnx_export import Difference
from mmcast.deployment.view import View, view_of
from mmcast.testing import shrink

try:
    check_packages()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)
import onnx
import onnxruntime

ROOT = Path(__file__).parents[2]
EXPORT = ROOT / 'mmcast/__main__.py', 'export-onnx'
PREDICT = ROOT / 'tools/deployment/predict_onnx.py'
CLASSES = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
# Runs a script where only Python itself and these packages can be imported.
ALONE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] not in {{*sys.stdlib_module_names, *{allowed!r}}}:
            raise ImportError(f'{{name}} is blocked')
sys.meta_path.insert(0, Refuse())
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name='__main__')
"""
ALLOWED = ('numpy', 'cv2', 'onnxruntime', 'openvino', 'openvino_telemetry')


def alone(*argv):
    code = ALONE.format(allowed=ALLOWED, argv=[str(word) for word in argv])
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)


@pytest.fixture(scope='module')
def student(tmp_path_factory):
    """Make SynthScapes' student with its real weights and one decoder layer."""
    root = tmp_path_factory.mktemp('onnx')
    config = root / 'student.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/mmcast/supervised_synthscapes.py'\n"
        'model = dict(panoptic_head=dict(transformer_decoder=dict(num_layers=1)),\n'
        '    test_cfg=dict(max_per_image=20))\n'
    )
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    model.init_weights()
    meta = dict(dataset_meta=dict(classes=CLASSES))
    save_plain(model.state_dict(), meta, root / 'student.pth')
    return config, root / 'student.pth'


@pytest.fixture(scope='module')
def exported(student, warm):
    """Export it with the tool for any number of images of any size."""
    out = student[1].with_name('student.onnx')
    result = warm(*EXPORT, *student, '--out', out, check=True)
    assert 'largest differences' in result.stdout
    return out


@pytest.fixture(scope='module')
def street(tmp_path_factory):
    """Draw an image whose sides are no multiples of anything."""
    image = np.random.default_rng(0).integers(0, 90, (75, 131, 3), np.uint8)
    cv2.rectangle(image, (30, 20), (70, 60), (40, 90, 220), -1)
    path = tmp_path_factory.mktemp('images') / 'sub' / 'street.png'
    path.parent.mkdir()
    assert cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize('shape', [(1, 64, 64), (3, 96, 160), (2, 192, 64)])
def test_any_number_of_images_of_any_size(student, exported, shape):
    graph = graph_of(load_model(*student), raw=False)
    found = compare(graph, exported.read_bytes(), shape, seed=3)
    assert set(found.relative) == {'class_logits', 'mask_logits'}
    assert found.worst < 1e-4


def test_compare_sees_another_network(student, exported):
    model = load_model(*student)
    with torch.no_grad():
        model.panoptic_head.cls_embed.bias += 0.1
    graph = graph_of(model, raw=False)
    assert compare(graph, exported.read_bytes(), (1, 64, 64)).worst > 1e-3


def test_predictions_are_those_of_mmdet(student, exported, street):
    model = load_model(*student)
    wanted = inference_detector(model, str(street)).pred_instances
    found = runpy.run_path(str(PREDICT))['Model'](exported)(cv2.imread(str(street)))
    scores, order = wanted.scores.sort(descending=True)
    real = scores > 0  # a file gives none of the others
    scores, order = scores[real], order[real]
    np.testing.assert_allclose(found['scores'], scores, atol=1e-5)
    # Those whose score no other instance has.
    gaps = np.diff(found['scores'], prepend=2, append=-1)
    clear = (gaps[:-1] < -1e-4) & (gaps[1:] < -1e-4)
    assert clear.sum() >= 5
    np.testing.assert_array_equal(
        found['labels'][clear], wanted.labels[order].numpy()[clear]
    )
    np.testing.assert_allclose(
        found['boxes'][clear], wanted.bboxes[order].numpy()[clear], atol=1
    )
    masks = wanted.masks[order].numpy()[clear]
    assert found['masks'][clear].any()
    assert (found['masks'][clear] != masks).mean() < 1e-3


def test_the_file_says_what_it_needs(exported):
    session = onnxruntime.InferenceSession(exported)
    about = json.loads(session.get_modelmeta().custom_metadata_map['mmcast'])
    assert about['classes'] == list(CLASSES)
    assert (about['task'], about['step'], about['raw']) == ('instances', 32, False)
    assert [each.name for each in session.get_inputs()] == [
        'images',
        'size',
        'original',
    ]
    (domain,) = {each.domain for each in onnx.load(exported).opset_import} - {'ai.onnx'}
    assert domain == ''


def test_predict_knows_the_images_that_labelling_knows():
    assert set(runpy.run_path(str(PREDICT))['IMAGES']) == set(IMAGE_SUFFIXES)


def test_an_image_that_the_model_fails_on_is_named(
    exported, street, tmp_path, monkeypatch, capsys
):
    image = cv2.imread(str(street))
    photos = tmp_path / 'photos'
    (photos / '@eaDir').mkdir(parents=True)
    cv2.imwrite(str(photos / 'good.png'), image)
    cv2.imwrite(str(photos / '@eaDir/thumbnail.png'), image)
    cv2.imwrite(str(photos / 'strip.png'), np.zeros((1, 3000, 3), np.uint8))
    script = runpy.run_path(str(PREDICT))
    real = script['Model'].__call__

    def fail_on_strips(self, frame):
        if len(frame) == 1:
            raise RuntimeError('a kernel is larger\nthan its input')
        return real(self, frame)

    monkeypatch.setattr(script['Model'], '__call__', fail_on_strips)
    words = [exported, photos, '--out', tmp_path / 'drawn']
    monkeypatch.setattr(sys, 'argv', ['predict_onnx.py', *map(str, words)])
    script['main']()
    printed = capsys.readouterr().out
    why = 'cannot be predicted (a kernel is larger than its input), left out'
    assert f'[2/2] {photos}/strip.png: {why}' in printed
    assert '1 of 2 are left out' in printed
    assert [p.name for p in (tmp_path / 'drawn').iterdir()] == ['good.png']


@pytest.mark.parametrize('engine', ['onnxruntime', 'openvino'])
def test_predict_runs_without_torch(exported, street, tmp_path, engine):
    pytest.importorskip(engine)
    args = PREDICT, exported, street.parents[1], '--out', tmp_path, '--score-thr', 0.01
    result = alone(*args, '--engine', engine)
    assert result.returncode == 0, result.stderr
    drawn = cv2.imread(str(tmp_path / 'sub/street.png'))
    image = cv2.imread(str(street))
    assert drawn.shape == image.shape
    assert (drawn != image).any()
    assert 'instances' in result.stdout


def test_two_images_of_one_stem_a_video_and_chosen_classes(exported, street, tmp_path):
    image = cv2.imread(str(street))
    photos = tmp_path / 'photos'
    photos.mkdir()
    cv2.imwrite(str(photos / 'a.png'), image)
    cv2.imwrite(str(photos / 'a.jpg'), image)
    height, width = 64, 128
    film = cv2.VideoWriter(
        str(photos / 'b.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 5, (width, height)
    )
    for _ in range(3):
        film.write(image[:height, :width])
    film.release()
    (photos / 'broken.jpg').write_bytes(b'no image')
    out = tmp_path / 'drawn'
    args = PREDICT, exported, photos, '--out', out, '--classes', 'car', 'person'
    result = alone(*args, '--score-thr', 0, '--threads', 1)
    assert result.returncode == 0, result.stderr
    found = sorted(p.relative_to(out).as_posix() for p in out.rglob('*.png'))
    assert found == [
        'a.jpg.png',
        'a.png.png',
        'b/000000.png',
        'b/000001.png',
        'b/000002.png',
    ]
    assert f'[4/4] {photos / "broken.jpg"}: cannot be read, left out' in result.stdout
    assert '3 frames' in result.stdout
    result = alone(PREDICT, exported, photos, '--out', out, '--classes', 'cow')
    assert result.returncode == 1
    assert result.stderr.startswith('error: --classes cow: the model has person, rider')
    result = alone(PREDICT, exported, photos / 'c.png', '--out', out)
    assert result.stderr == f'error: {photos}/c.png does not exist: correct the path\n'


@pytest.mark.parametrize(
    ('given', 'wanted'),
    [
        (['day', 'night'], ['day/1', 'day/deep/2', 'night/1', 'night/deep/2']),
        (['day/1.png', 'night/1.png'], ['day/1', 'night/1']),
        (['day', 'night/1.png'], ['day/1', 'deep/2', 'night/1']),
        (['day/deep', 'night/deep'], ['1/deep/2', '2/deep/2']),
        (['day', 'night', 'all'], ['1/day/1', '3/day/1', 'night/1']),
        (['same'], ['a', 'a.jpg.png']),
    ],
)
def test_images_of_one_name_have_drawings_of_their_own(given, wanted, tmp_path):
    for name in ('day/1', 'day/deep/2', 'night/1', 'night/deep/2', 'all/day/1'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f'{name}.png').touch()
    (tmp_path / 'same').mkdir()
    for name in ('a.jpg', 'a.jpg.png'):
        (tmp_path / 'same' / name).touch()
    files = runpy.run_path(str(PREDICT))['files_in'](
        [tmp_path / each for each in given]
    )
    drawn = sorted(target.as_posix() for _, target in files)
    assert len(set(drawn)) == len(files)
    assert set(wanted) <= set(drawn)


@pytest.mark.parametrize('size', [(75, 131), (201, 90), (128, 160), (700, 701)])
@pytest.mark.parametrize(
    'steps',
    [
        [dict(type='Resize', scale=(160, 128), keep_ratio=True)],
        [dict(type='Resize', scale=(128, 333), keep_ratio=True)],
        [dict(type='Resize', scale=(160, 96))],
        [
            dict(type='mmdet.Resize', scale=(160, 160), keep_ratio=True),
            dict(type='Pad', size=(160, 192), pad_val=dict(img=(114, 114, 114))),
        ],
        [
            dict(type='Resize', scale=200, keep_ratio=True),
            dict(type='Pad', size_divisor=32, pad_val=0),
        ],
    ],
)
def test_an_image_is_resized_as_in_testing(size, steps):
    """Compare the script's pixels with those of the test pipeline."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    results = Compose([TRANSFORMS.build(each) for each in steps])(
        dict(img=image, img_shape=size)
    )
    loader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile'), *steps]))
    view = view_of(Config(dict(test_dataloader=loader)))
    about = dict(asdict(view), step=1)
    script = runpy.run_path(str(PREDICT))
    small = script['resized'](image, about)
    padded = script['padded'](small, about)
    if view.pad_value is None:
        np.testing.assert_array_equal(small, results['img'])
        return
    padded[small.shape[0] :] = view.pad_value  # the graph does this
    padded[:, small.shape[1] :] = view.pad_value
    np.testing.assert_array_equal(padded, results['img'])


@pytest.mark.parametrize(
    ('step', 'told'),
    [
        (dict(type='CenterCrop', crop_size=8), 'CenterCrop is not exported'),
        (dict(type='Resize', scale_factor=0.5), r'Resize \(scale_factor\)'),
        (dict(type='Pad', pad_to_square=True), r'Pad \(pad_to_square\)'),
        (
            dict(type='mmdet.LoadImageFromFile', color_type='grayscale'),
            "LoadImageFromFile with color_type='grayscale' is not exported",
        ),
        (
            dict(type='LoadImageFromFile', imdecode_backend='pillow'),
            "imdecode_backend='pillow' is not exported: images are read with 'cv2'",
        ),
    ],
)
def test_a_pipeline_that_the_script_does_not_know_is_refused(step, told):
    loader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile'), step]))
    with pytest.raises(ValueError, match=told):
        view_of(Config(dict(test_dataloader=loader)))


@pytest.mark.parametrize('wrapper', ['RepeatDataset', 'ConcatDataset'])
def test_the_pipeline_of_a_wrapped_data_set_is_found(wrapper):
    resize = dict(type='Resize', scale=(160, 128), keep_ratio=True)
    inner = dict(pipeline=[dict(type='LoadImageFromFile'), resize])
    wrapped = dict(type=wrapper, dataset=inner)
    if wrapper == 'ConcatDataset':
        wrapped = dict(type=wrapper, datasets=[inner])
    view = view_of(Config(dict(test_dataloader=dict(dataset=wrapped))))
    assert view.scale == (160, 128)


@pytest.mark.parametrize(
    'config',
    [
        dict(test_pipeline=[dict(type='Resize', scale=8)]),
        dict(test_dataloader=None),
        dict(test_dataloader=dict(dataset=dict(type='CocoDataset'))),
        dict(test_dataloader=dict(dataset=dict(pipeline=[]))),
    ],
)
def test_a_config_without_a_test_pipeline_is_refused(config):
    with pytest.raises(ValueError, match='has no test pipeline'):
        view_of(Config(config))
    assert view_of(Config(config), raw=True) == View()


def test_the_block_on_torch_works(student, tmp_path):
    result = alone(*EXPORT, *student, '--out', tmp_path / 'x.onnx')
    assert 'is blocked' in result.stderr
    assert result.returncode != 0


@pytest.mark.parametrize('name', ['missing.onnx', 'text.onnx', 'foreign.onnx'])
def test_predict_refuses_in_one_line(name, street, tmp_path):
    (tmp_path / 'text.onnx').write_text('no model')
    node = onnx.helper.make_node('Relu', ['x'], ['y'])
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])
        for name in 'xy'
    )
    foreign = onnx.helper.make_model(
        onnx.helper.make_graph([node], 'g', [x], [y]),
        opset_imports=[onnx.helper.make_opsetid('', 18)],
        ir_version=10,
    )
    onnx.save(foreign, tmp_path / 'foreign.onnx')
    result = alone(PREDICT, tmp_path / name, street, '--out', tmp_path / 'o')
    assert result.returncode == 1
    assert result.stderr.startswith(f'error: {tmp_path / name} ')
    assert result.stderr.count('\n') == 1
    assert not (tmp_path / 'o').exists()


@pytest.mark.parametrize(
    ('photos', 'out'),
    [('photos/a.png', 'photos'), ('photos', 'photos'), ('photos', 'photos/drawn')],
)
def test_no_drawing_replaces_an_image_or_is_predicted(
    exported, tmp_path, monkeypatch, photos, out
):
    monkeypatch.chdir(tmp_path)
    for name in ('photos/a.png', 'photos/drawn/b.png'):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(name, np.zeros((64, 64, 3), np.uint8))
    before = {path: path.read_bytes() for path in tmp_path.rglob('*.png')}
    result = alone(PREDICT, exported, photos, '--out', out)
    assert result.returncode == 1
    assert re.fullmatch(rf'error: --out {out} has images .*folder\n', result.stderr)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob('*.png')}
    Path('file').touch()
    result = alone(PREDICT, exported, photos, '--out', 'file')
    assert re.fullmatch(r'error: .*file.*\n', result.stderr)


def test_missing_packages_are_told_before_any_work(tmp_path, warm):
    script = tmp_path / 'export.py'
    script.write_text(
        'import sys\n'
        'import importlib.util as util\n'
        'find = util.find_spec\n'
        'util.find_spec = lambda name, package=None: (\n'
        '    None if name == "onnxscript" else find(name, package))\n'
        'sys.argv[1:] = ["export-onnx", "no.py", "no.pth", "--out", "x.onnx"]\n'
        'from mmcast.cli import main\n'
        'main()\n'
    )
    result = warm(script, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == (
        'error: the export to ONNX needs onnxscript: pip install onnx onnxscript '
        'onnxruntime'
    )
    check_packages()


def test_a_torch_that_cannot_export_is_told(monkeypatch):
    monkeypatch.setattr(torch.export, 'export', lambda module: module)
    with pytest.raises(ImportError, match='needs a newer one'):
        check_packages()


def test_what_cannot_be_exported_leaves_no_file(
    student, exported, tmp_path, monkeypatch
):
    out = tmp_path / 'x.onnx'
    model = load_model(*student)
    with pytest.raises(ValueError, match='so give --size 64 128'):
        export_onnx(model, out, size=(60, 128))
    with pytest.raises(ValueError, match='Linear cannot be exported'):
        graph_of(torch.nn.Linear(1, 1), raw=True)
    with pytest.raises(FileNotFoundError, match=r'no\.py does not exist'):
        load_model('no.py', student[1])
    # An impossible tolerance: the results differ by rounding. Tracing takes long.
    traced = onnx.load(exported)
    del traced.metadata_props[:]
    monkeypatch.setattr(
        'mmcast.deployment.onnx_export._traced',
        lambda *_: SimpleNamespace(model_proto=traced),
    )
    with pytest.raises(ArithmeticError, match='was not written'):
        export_onnx(model, out, tolerance=0.0)
    unlike = Difference((1,), dict(class_logits=1e-6, mask_logits=math.nan), 0.0)
    monkeypatch.setattr('mmcast.deployment.onnx_export.compare', lambda *_: unlike)
    del traced.metadata_props[:]
    with pytest.raises(ArithmeticError, match='mask_logits nan'):
        export_onnx(model, out)
    assert not list(tmp_path.iterdir())


def shrunk(name):
    """Make a published student small, with random weights."""
    config = Config.fromfile(ROOT / f'configs/mmcast/_base_/models/{name}.py').model
    shrink(config)
    config.pixel_contrast = None
    torch.manual_seed(0)
    model = MODELS.build(config).eval()
    model.init_weights()
    loader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))
    model.cfg = Config(dict(test_dataloader=loader))
    model.dataset_meta = dict(classes=CLASSES)
    return model


# SynthScapes' student above has the parts of the small student_r50_dpt.
@pytest.mark.parametrize(
    ('name', 'raw'), [('student_dpt256', True), ('student_dinov2_fpn', False)]
)
def test_published_students_are_exported_for_any_size(name, raw, tmp_path):
    out = tmp_path / 'x.onnx'
    differences = export_onnx(shrunk(name), out, raw=raw)
    assert len(differences) > 1  # batches of several sizes
    assert all(found.worst < 1e-4 for found in differences)
    outputs = {each.name for each in onnxruntime.InferenceSession(out).get_outputs()}
    logits = {'class_logits', 'mask_logits'}
    assert outputs == logits if raw else outputs > logits


@pytest.fixture
def deformable():
    """Make a small student with mmdet's pixel decoder, its offsets not constant."""
    model = shrunk('student_r50')
    for name, weight in model.named_parameters():
        if 'sampling_offsets' in name or 'attention_weights' in name:
            weight.data += 0.3 * torch.randn_like(weight)
    return model


@pytest.mark.parametrize('size', [(64, 96), (32, 160)])
def test_deformable_decoder_with_sizes_as_numbers_is_mmdets(deformable, size):
    decoder = deformable.panoptic_head.pixel_decoder
    with torch.no_grad():
        maps = deformable.extract_feat(torch.randn(2, 3, *size))
        mask_features, levels = decoder(maps)
        with sizes_as_numbers(deformable):
            found, found_levels = decoder(maps)
        torch.testing.assert_close(found, mask_features)
        torch.testing.assert_close(found_levels, levels)
    assert 'forward' not in vars(decoder)


def test_deformable_decoder_is_exported(deformable, tmp_path):
    """The comparison runs mmdet's own code on torch's side."""
    out = tmp_path / 'x.onnx'
    (found,) = export_onnx(deformable, out, batch=1, size=(64, 128))
    assert found.worst < 1e-4
    assert 'forward' not in vars(deformable.panoptic_head.pixel_decoder)
    nodes = {node.op_type for node in onnx.load(out).graph.node}
    assert 'GridSample' in nodes


def test_a_model_that_fixes_the_batch_says_what_to_give(student, tmp_path):
    """Compute the batch with a division, as mmdet's Swin does."""
    model = load_model(*student)
    extract = model.extract_feat
    model.extract_feat = lambda x: extract(x.reshape(int(x.numel() / 24576), 3, 64, -1))
    with pytest.raises(ValueError, match='give --batch N --size HEIGHT WIDTH'):
        export_onnx(model, tmp_path / 'x.onnx', size=(64, 128))
    assert not list(tmp_path.iterdir())


def test_deformable_attention_elsewhere_is_refused():
    model = torch.nn.Sequential(MultiScaleDeformableAttention(embed_dims=32))
    with (
        pytest.raises(ValueError, match=r"^0: torch's exporter follows deformable"),
        sizes_as_numbers(model),
    ):
        pass


def test_depth_and_labels_at_a_fixed_size(street, tmp_path):
    """Export SynthScapes' SwinMTL, predict an image and refuse a larger one."""
    config = Config.fromfile(ROOT / 'configs/mmcast/swinmtl/synthscapes.py')
    torch.manual_seed(0)
    config.model.critic = None
    config.model.backbone.arch.depths = [2, 1, 1]
    model = MODELS.build(config.model)
    model.cfg, model.dataset_meta = config, dict(classes=('road',))
    out = tmp_path / 'depth.onnx'
    with pytest.raises(ValueError, match='give --size'):
        export_onnx(model, out)
    (found,) = export_onnx(model, out, batch=1, size=(64, 64))
    assert found.worst < 1e-4
    small = tmp_path / 'small.png'
    cv2.imwrite(str(small), cv2.imread(str(street))[:60, :50])
    result = alone(PREDICT, out, street, small, '--out', tmp_path / 'drawn')
    assert result.returncode == 0, result.stderr
    told = '75x131 does not fit into 64x64, and shrinking changes depth: export with'
    assert told in result.stdout
    (drawn,) = (tmp_path / 'drawn').iterdir()
    assert cv2.imread(str(drawn)).shape == (60, 150, 3)


def about(scale=None, keep_ratio=True, task='instances', step=32):
    return dict(
        scale=scale, keep_ratio=keep_ratio, task=task, step=step, pad=None, pad_step=1
    )


def test_depth_of_an_image_that_does_not_fit_is_refused():
    resized = runpy.run_path(str(PREDICT))['resized']
    image = np.zeros((1000, 2048, 3), np.uint8)
    depth = about(task='depth_and_labels')
    with pytest.raises(ValueError, match='export with --size 1024 2048, or') as error:
        resized(image, depth, (512, 1024))
    assert len(str(error.value)) < 200  # what the script prints
    assert resized(image, depth, (1024, 2048)) is image


def test_images_that_are_predicted_smaller_than_in_testing_are_counted(
    tmp_path, monkeypatch, capsys
):
    script = runpy.run_path(str(PREDICT))
    made = about((1333, 800))
    portrait, landscape = (
        np.zeros((*sides, 3), np.uint8) for sides in ((1333, 800), (1080, 1920))
    )
    assert script['resized'](landscape, made, (800, 1344)).shape == (750, 1333, 3)
    assert script['resized'](portrait, made, (800, 1344)).shape == (800, 480, 3)

    class Model:
        size = (800, 1344)
        about = dict(made, classes=[])

        def __init__(self, *_):
            pass

        def __call__(self, image):
            return dict.fromkeys(('scores', 'labels', 'masks', 'boxes'), np.zeros(0))

    for name, image in dict(a=portrait, b=portrait, c=landscape).items():
        cv2.imwrite(str(tmp_path / f'{name}.png'), image)
    monkeypatch.setitem(script['main'].__globals__, 'Model', Model)
    words = [PREDICT, tmp_path, '--out', tmp_path / 'drawn']
    monkeypatch.setattr(sys, 'argv', ['predict_onnx.py', *map(str, words)])
    script['main']()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('warning: 2 images are larger than the file takes')
    assert line.endswith('export with --size 1344 1344')


@pytest.mark.parametrize('size', [(64, 128), (96, 128)])
def test_a_size_below_that_of_each_image_is_refused(size, tmp_path, monkeypatch):
    model = shrunk('student_r50')
    resize = dict(type='Resize', scale=(160, 96))
    model.cfg.test_dataloader.dataset.pipeline.append(resize)
    monkeypatch.setattr('mmcast.deployment.onnx_export._traced', pytest.fail)
    with pytest.raises(ValueError, match='at least 96 x 160, so give --size 96 160'):
        export_onnx(model, tmp_path / 'x.onnx', size=size)
