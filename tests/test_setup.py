"""Test the Makefile, and the set-up of an environment."""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from commands import ROOT, STACKS, load_setup_env, sh
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope='module')
def setup_env() -> ModuleType:
    return load_setup_env()


def make(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFL'))}
    return sh('make', '-s', *arguments, cwd=ROOT, env={**clean, **env})


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Make a PATH folder with a shell and make, but no Python and no compiler."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in 'sh', 'dirname', 'make', 'cat':
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f'#!/bin/sh\n{script}\n')
    (folder / name).chmod(0o755)


def one_error_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode
    lines = [x for x in result.stderr.splitlines() if not x.startswith('make:')]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith('error: ')
    return lines[0]


def test_help_lists_all_commands() -> None:
    commands = re.findall(r'^ *make (\w+)', make('help').stdout, re.MULTILINE)
    assert commands == ['quickstart', 'test', 'docs']


def test_missing_python_is_one_error_line(programs: Path, tmp_path: Path) -> None:
    venv_path = tmp_path / 'venv'
    line = one_error_line(make('test', f'VENV={venv_path}', PATH=str(programs)))
    assert 'apt-get install python3 python3-dev python3-venv' in line
    assert not venv_path.exists()


def test_unsupported_python_is_one_error_line(programs: Path, tmp_path: Path) -> None:
    program(programs, 'python3.9', f'exec {sys.executable} -c "raise SystemExit(1)"')
    chosen = f'PYTHON={programs}/python3.9'
    result = make('quickstart', f'VENV={tmp_path}/venv', chosen)
    assert 'not Python 3.10, 3.11 or 3.12' in one_error_line(result)


def test_missing_compiler_fails_before_files_are_made(
    programs: Path, tmp_path: Path
) -> None:
    """Check also that a Python that does not run, like a pyenv shim, is skipped."""
    program(
        programs, 'python3.12', 'echo "pyenv: python3.12: command not found"; exit 127'
    )
    program(programs, 'python3', f'exec {sys.executable} "$@"')
    result = make('test', f'VENV={tmp_path}/venv', PATH=str(programs))
    line = one_error_line(result)
    assert 'apt-get install g++' in line
    assert not (tmp_path / 'venv').exists()


def test_folder_without_environment_does_not_change(tmp_path: Path) -> None:
    (tmp_path / 'thesis.txt').write_text('mine')
    result = make('test', f'VENV={tmp_path}', f'PYTHON={sys.executable}')
    assert 'is no virtual environment' in one_error_line(result)
    assert (tmp_path / 'thesis.txt').read_text() == 'mine'


def test_each_stack_has_its_packages(setup_env: ModuleType) -> None:
    default, forks = setup_env.Stack(), setup_env.Stack('onedl')
    assert (default.mmcv, default.mim) == ('mmcv==2.1.0', ['openmim==0.3.9'])
    assert (forks.mmcv, forks.mim) == ('onedl-mmcv==2.3.6', ['onedl-mim==0.5.1'])
    assert forks.pins['torch'] == default.pins['torch']
    assert default.rivals == [
        *('onedl-mmcv', 'onedl-mmdetection', 'onedl-mmengine', 'onedl-mmpretrain')
    ]
    assert forks.rivals == ['mmcv', 'mmdet', 'mmengine', 'mmpretrain']
    for one, other in (default, forks), (forks, default):
        packages = [Requirement(line).name for line in one.packages]
        assert packages == other.rivals


def test_unknown_stack_is_one_error_line(tmp_path: Path) -> None:
    result = make('test', f'VENV={tmp_path}/venv', 'STACK=newest')
    known = ', '.join(STACKS)
    assert f"no stack 'newest'; there is {known}" in one_error_line(result)
    assert not (tmp_path / 'venv').exists()


def test_two_stacks_in_one_environment_are_refused(tmp_path: Path) -> None:
    venv.create(tmp_path, with_pip=True)
    info = next(tmp_path.glob('lib/*/site-packages')) / 'onedl_mmcv-2.3.6.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: onedl-mmcv\nVersion: 2.3.6\n'
    )
    (info / 'INSTALLER').write_text('pip\n')
    line = one_error_line(make('test', f'VENV={tmp_path}', 'STACK='))
    assert f'{tmp_path} has onedl-mmcv of another stack' in line


def is_installed(stack: str) -> bool:
    """Return whether this environment has all that a stack pins in its own file."""
    text = (ROOT / 'requirements' / f'stack_{stack}.txt').read_text()
    pins = map(Requirement, re.findall(r'^[a-z].*', text.replace('===', '=='), re.M))
    distributions = importlib.metadata.distributions()
    found = {canonicalize_name(each.name): each.version for each in distributions}
    return all(pin.specifier.contains(found.get(pin.name, '0')) for pin in pins)


def test_complete_environment_does_not_change() -> None:
    url = importlib.metadata.distribution('mmcast').read_text('direct_url.json')
    if json.loads(url or '{}').get('url') != ROOT.as_uri():
        pytest.skip('this environment has mmcast from elsewhere (not `make test`)')
    script = ROOT / 'tools' / 'misc' / 'setup_env.sh'
    stack = [f'--stack={name}' for name in STACKS if is_installed(name)]
    result = sh('sh', script, sys.prefix, '', '--tests', *stack, cwd=ROOT)
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')


def test_a_tree_without_the_links_of_mim_is_not_installed(
    setup_env: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone that was deleted and made again has the same path."""
    monkeypatch.setattr(setup_env, 'ROOT', tmp_path)
    assert not setup_env.is_this_tree(tmp_path.as_uri())
    (tmp_path / 'mmcast' / '.mim').mkdir(parents=True)
    assert setup_env.is_this_tree(tmp_path.as_uri())
    assert not setup_env.is_this_tree((tmp_path / 'other').as_uri())
    assert not setup_env.is_this_tree(None)


def test_half_installed_packages_count_as_missing(
    setup_env: ModuleType, tmp_path: Path
) -> None:
    venv.create(tmp_path, with_pip=True)
    environment = setup_env.Environment(tmp_path, setup_env.Stack())
    site = next(tmp_path.glob('lib/*/site-packages'))
    for name in 'whole', 'torn':
        info = site / f'{name}-1.5.dist-info'
        info.mkdir()
        text = f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n'
        (info / 'METADATA').write_text(text)
    (site / 'whole-1.5.dist-info' / 'INSTALLER').write_text('pip\n')
    wanted = ['whole>=1', 'whole>=2', 'torn>=1', 'absent']
    assert environment.probe(wanted) == (['whole>=2', 'torn>=1', 'absent'], None)
    assert not (site / 'torn-1.5.dist-info').exists()


@pytest.mark.parametrize(
    ('versions', 'missing'),
    [
        (('2.13.0', '0.28.0'), []),
        (('2.13.0+cpu', '0.28.0+cpu'), []),
        (('2.13.0+cpu', '0.28.0'), ['torch===2.13.0', 'torchvision===0.28.0']),
        (('2.12.0', '0.28.0'), ['torch===2.13.0']),
    ],
)
def test_torch_and_torchvision_have_to_match(
    setup_env: ModuleType, tmp_path: Path, versions: tuple[str, str], missing: list[str]
) -> None:
    for name, version in zip(('torch', 'torchvision'), versions, strict=True):
        info = tmp_path / f'{name}-{version}.dist-info'
        info.mkdir()
        text = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        (info / 'METADATA').write_text(text)
    # Found before this environment's own packages.
    code = f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n{setup_env.PROBE}'
    pins = setup_env.Stack().pins
    wanted = [pins['torch'], pins['torchvision']]
    result = sh(sys.executable, '-c', code, *wanted)
    assert json.loads(result.stdout)[0] == missing, result.stderr


def test_progress_counts_compiled_files(
    setup_env: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ['rule compile', 'build a.o: compile a.cpp', 'build b.o: cuda_compile b.cu']
    (tmp_path / 'build.ninja').write_text('\n'.join([*plan, 'build x.so: link a.o']))
    (tmp_path / 'a.o').touch()
    setup_env.show_progress(subprocess.Popen(['sleep', '1.5']), tmp_path)
    assert '1 of 2 files compiled' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('nvidia_smi', 'cuda'),
    [('echo "GPU 0: NVIDIA H200"', True), ('exit 9', False), (None, False)],
)
def test_cuda_ops_need_nvcc_and_a_gpu(
    setup_env: ModuleType,
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
    nvidia_smi: str | None,
    cuda: bool,
) -> None:
    program(programs, 'nvcc', 'exit 0')
    if nvidia_smi is not None:
        program(programs, 'nvidia-smi', nvidia_smi)
    monkeypatch.setenv('PATH', str(programs))
    monkeypatch.delenv('FORCE_CUDA', raising=False)
    assert setup_env.compile_with_cuda() is cuda


def test_pre_commit_and_make_test_run_the_same_checks() -> None:
    config = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())
    entries = [hook['entry'] for repo in config['repos'] for hook in repo['hooks']]
    lines = (ROOT / 'tools' / 'misc' / 'run_checks.sh').read_text().splitlines()
    checks = [line.strip() for line in lines]
    assert entries == [line for line in checks if line.startswith(('ruff', 'mypy'))]
