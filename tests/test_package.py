"""Test the built package, and the check of its requirements at import."""

import email
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from commands import ROOT, STACKS, load_setup_env, sh
from packaging.requirements import Requirement

import mmcast
from mmcast import _requirements
from mmcast._requirements import check_requirements, distribution_of, mim_name
from mmcast.apis import model_files

SHIPPED = (
    *('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md'),
    *('model-index.yml', 'requirements', 'configs', 'tools', 'mmcast'),
)
BUILD = 'import sys; from setuptools import build_meta as b; b.{}(sys.argv[1])'


# -- the built package ---------------------------------------------------------------


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the files that go into the package, as in a fresh clone."""
    target = tmp_path_factory.mktemp('clone')
    ignore = shutil.ignore_patterns('__pycache__', '.mim')
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignore)
        else:
            shutil.copy2(ROOT / name, target / name)
    return target


@pytest.fixture(scope='module')
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp('wheel')
    result = sh(sys.executable, '-c', BUILD.format('build_wheel'), out, cwd=tree)
    assert result.returncode == 0, result.stderr
    return zipfile.ZipFile(next(out.glob('*.whl')))


def test_wheel_holds_package_configs_and_licence(
    wheel: zipfile.ZipFile, tree: Path
) -> None:
    names = set(wheel.namelist())
    for folder, where in ('mmcast', ''), ('configs', 'mmcast/.mim/'):
        for path in (tree / folder).rglob('*.py'):
            assert where + path.relative_to(tree).as_posix() in names
    assert 'mmcast/report/report.html.j2' in names
    assert 'mmcast/.mim/model-index.yml' in names
    assert 'mmcast/.mim/configs/mmcast/metafile.yml' in names
    assert any(name.endswith('licenses/LICENSE') for name in names)
    assert not any(name.startswith(('tests/', 'configs/', 'tools/')) for name in names)
    assert not any('__pycache__' in name for name in names)


def tools_of(wheel: zipfile.ZipFile) -> set[str]:
    start = 'mmcast/.mim/tools/'
    names = wheel.namelist()
    return {name.removeprefix(start) for name in names if name.startswith(start)}


def test_wheel_holds_the_tools_that_users_call(
    wheel: zipfile.ZipFile, tree: Path
) -> None:
    """It has no benchmark, no campaign and no set-up."""
    converters = (tree / 'tools/dataset_converters').iterdir()
    assert tools_of(wheel) == {
        'analysis_tools/point_cloud.py',
        *(f'dataset_converters/{path.name}' for path in converters),
        'deployment/predict_onnx.py',
        'misc/assemble_teacher.py',
        'misc/convert_swinmtl.py',
        'misc/export_part.py',
    }


def test_messages_and_pages_name_tools_of_the_wheel(wheel: zipfile.ZipFile) -> None:
    named = set()
    for name in wheel.namelist():
        if name.endswith('.py') and not name.startswith('mmcast/.mim/'):
            text = wheel.read(name).decode()
            named |= set(re.findall(r'tool\(["\']([\w/]+\.py)', text))
    assert 'dataset_converters/nyuv2.py' in named
    pages = [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]
    pages += [path for path in (ROOT / 'configs').rglob('*.*') if path.suffix != '.pth']
    for page in pages:
        named |= set(re.findall(r'tools/([\w/]+\.py)', page.read_text()))
    # Pages say how numbers were measured.
    measured = {name for name in named if name.startswith('benchmarks/')}
    assert named - measured <= tools_of(wheel)


def test_wheel_from_sdist_is_the_same(
    wheel: zipfile.ZipFile, tree: Path, tmp_path: Path
) -> None:
    result = sh(sys.executable, '-c', BUILD.format('build_sdist'), tmp_path, cwd=tree)
    assert result.returncode == 0, result.stderr
    with tarfile.open(next(tmp_path.glob('*.tar.gz'))) as archive:
        archive.extractall(tmp_path)
    source = next(path for path in tmp_path.iterdir() if path.is_dir())
    build = sh(sys.executable, '-c', BUILD.format('build_wheel'), tmp_path, cwd=source)
    assert build.returncode == 0, build.stderr
    again = zipfile.ZipFile(next(tmp_path.glob('*.whl')))
    assert sorted(again.namelist()) == sorted(wheel.namelist())


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith('/METADATA'))
    metadata = email.message_from_string(wheel.read(name).decode())
    assert metadata['Version'] == mmcast.__version__
    assert metadata['License'] == 'Apache-2.0'
    assert metadata['Requires-Python'] == '>=3.10,<3.13'
    extras = set(metadata.get_all('Provides-Extra'))
    assert extras == {
        *('mim', 'mminstall', 'onnx', 'openvino', 'ray', 'report', 'tests', 'timm'),
        'vfm',
    }
    required = [Requirement(text) for text in metadata.get_all('Requires-Dist')]
    always = {r.name for r in required if r.marker is None}
    # OpenMMLab packages are checked by import name, so pip does not require them.
    assert not always & {'torch', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain'}
    assert 'pycocotools' in always
    assert not always & {'jinja2', 'matplotlib', 'tqdm'}


def test_editable_install_wins_over_a_folder_of_the_same_name(
    tree: Path, tmp_path: Path
) -> None:
    """Import next to a clone named mmcast, which is a folder without a module.

    `mim` and messages follow links to the clone's configs and tools, all of them.
    """
    clone = tmp_path / 'mmcast'
    shutil.copytree(tree, clone)
    site = tmp_path / 'site'
    site.mkdir()
    result = sh(sys.executable, '-c', BUILD.format('build_editable'), site, cwd=clone)
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(next(site.glob('*.whl'))) as archive:
        archive.extractall(site)
    code = (
        'import site, sys; from importlib.util import find_spec\n'
        'sys.path.insert(0, "")\n'
        'site.addsitedir(sys.argv[1])\n'
        'print(find_spec("mmcast").origin)'
    )
    found = sh(sys.executable, '-S', '-I', '-c', code, site, cwd=tmp_path)
    assert found.stdout.strip() == str(clone / 'mmcast/__init__.py'), found.stderr
    for name in 'configs', 'tools', 'model-index.yml':
        link = clone / 'mmcast/.mim' / name
        assert link.is_symlink()
        assert link.resolve() == clone / name


def test_files_of_the_model_index_exist() -> None:
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    for metafile in index['Import']:
        content = yaml.safe_load((ROOT / metafile).read_text())
        names = [model['Name'] for model in content['Models']]
        assert len(set(names)) == len(names) > 0
        for model in content['Models']:
            for key in ('Config', 'Weights'):
                assert (ROOT / model.get(key, '')).exists(), model[key]


def test_models_by_name_from_the_wheel_in_an_empty_folder(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    """Install the wheel beside the stack, without this checkout."""
    venv.create(tmp_path / 'env')
    python, empty = tmp_path / 'env/bin/python', tmp_path / 'empty'
    empty.mkdir()
    (site,) = (tmp_path / 'env/lib').glob('python*/site-packages')
    # Python does not follow the editable install in a folder that it finds like this.
    (site / 'stack.pth').write_text(sysconfig.get_path('purelib') + '\n')
    result = sh(
        *(sys.executable, '-m', 'pip', '--python', python, 'install', '--no-deps'),
        wheel.filename,
    )
    assert result.returncode == 0, result.stderr
    # onedl-mim 0.5.1 looks for the metafiles next to the distribution's first file.
    if mim_name() == 'mmdet':
        result = sh(
            *(python, '-c', 'from mim.cli import cli; cli()', 'search', 'mmcast'),
            *('--config', 'finetune_synthscapes', '--field', 'config', 'weight'),
            cwd=empty,
        )
        assert result.returncode == 0, result.stderr
        found = ''.join(result.stdout.split())
        assert 'weights/synthscapes_refined_student.pth' in found
    plain = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    result = sh(python, '-c', BY_NAME, cwd=empty, env=plain)
    assert result.returncode == 0, result.stderr
    package, *counts = result.stdout.split('\n')[-5:-1]
    assert Path(package).is_relative_to(site)
    assert len(counts) == 3
    assert all(int(count) > 0 for count in counts)


BY_NAME = """
import mmcast, numpy as np
from mmcast.apis import model_files
from mmdet.apis import DetInferencer, inference_detector, init_detector

image = np.random.default_rng(0).integers(0, 255, (128, 256, 3), np.uint8)
models = ['pretrain_teacher_synthscapes', 'supervised_synthscapes']
found = [
    inference_detector(init_detector(*model_files(name), device='cpu'), image)
    for name in models
]
inferencer = DetInferencer(*model_files('finetune_synthscapes'), device='cpu')
predicted = inferencer(image)['predictions'][0]['scores']
counts = [*(len(each.pred_instances) for each in found), len(predicted)]
print(mmcast.__path__[0], *counts, sep='\\n')
"""


def test_a_model_without_weights_is_told_with_those_that_have() -> None:
    with pytest.raises(ValueError, match=r'has no weights yet.*finetune_synthscapes'):
        model_files('distill_cityscapes')
    with pytest.raises(ValueError, match=r'is none of the.*finetune_synthscapes'):
        model_files('no_such_model')


@pytest.mark.parametrize('stack', ['', *STACKS])
def test_pinned_versions_are_within_the_extras(stack: str) -> None:
    versions = load_setup_env().Stack(stack)
    files = (ROOT / 'requirements').glob('*.txt')
    names = [path.stem for path in files if not path.stem.startswith('stack')]
    assert len(names) > 5
    for name in names:
        text = (ROOT / 'requirements' / f'{name}.txt').read_text()
        ranges = {
            r.name: r.specifier
            for r in map(Requirement, re.findall(r'^[a-z][^#\n]*', text, re.MULTILINE))
        }
        for line in versions.read(name):
            pinned = Requirement(line)
            for specifier in pinned.specifier:
                if specifier.operator == '==':
                    assert ranges[pinned.name].contains(specifier.version), line


# -- the check at import -------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'version'),
    [('mmcv', '2.0.1'), ('mmcv', '2.4.0'), ('mmdet', '3.2.0'), ('mmengine', '0.10.3')],
)
def test_unsupported_version_raises(
    monkeypatch: pytest.MonkeyPatch, name: str, version: str
) -> None:
    monkeypatch.setattr(importlib.import_module(name), '__version__', version)
    with pytest.raises(ImportError, match=f'{name} >= .* but {version} is') as caught:
        check_requirements()
    assert 'make quickstart' in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('version', ['2.3.6', '2.1.0'])
def test_versions_of_the_forks_are_accepted(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    for name, found in ('mmcv', version), ('mmdet', '3.5.1'), ('mmengine', '0.10.12'):
        monkeypatch.setattr(importlib.import_module(name), '__version__', found)
    check_requirements()


def test_mim_calls_the_forks_by_their_projects_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / 'onedl_mmdetection-3.5.1.dist-info'
    info.mkdir()
    text = 'Metadata-Version: 2.1\nName: onedl-mmdetection\nVersion: 3.5.1\n'
    (info / 'METADATA').write_text(text)
    (info / 'top_level.txt').write_text('mmdet\n')
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    _requirements._distributions.cache_clear()
    try:
        assert distribution_of('mmdet').version == '3.5.1'
        assert mim_name() == 'mmdetection'
        with pytest.raises(KeyError):
            distribution_of('mmcv')
    finally:
        _requirements._distributions.cache_clear()


@pytest.mark.parametrize(
    ('missing', 'message'),
    [('mmdet', 'mmdet .* not installed'), ('mmcv._ext', 'compiled ops')],
)
def test_missing_package_raises(
    monkeypatch: pytest.MonkeyPatch, missing: str, message: str
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        'find_spec',
        lambda name: None if name == missing else find_spec(name),
    )
    with pytest.raises(ImportError, match=message):
        check_requirements()


def test_mmdets_own_version_error_is_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    if not distribution_of('mmdet').version.startswith('3.3'):
        pytest.skip('mmdet 3.3 refuses mmcv 2.2')
    monkeypatch.setattr(importlib.import_module('mmcv'), '__version__', '2.2.0')
    monkeypatch.delitem(sys.modules, 'mmdet')
    with pytest.raises(ImportError, match=r'mmdet refuses to load: MMCV==2\.2\.0'):
        check_requirements()


def test_transformers_5_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """What `pip install transformers` brings; mmdet's import would fail in 40 lines."""
    info = tmp_path / 'transformers-5.24.0.dist-info'
    info.mkdir()
    text = 'Metadata-Version: 2.1\nName: transformers\nVersion: 5.24.0\n'
    (info / 'METADATA').write_text(text)
    result = subprocess.run(
        [sys.executable, '-c', 'import mmcast'],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
    )
    last = result.stderr.splitlines()[-1]
    assert '5.24.0 is installed: pip install' in last, result.stderr
