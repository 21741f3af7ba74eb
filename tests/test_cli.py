"""Test the command: its help, its errors, and that each verb is a function."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from pets import write_pets

from mmcast import apis
from mmcast.cli import _joined, _parser, main

ROOT = Path(__file__).parents[1]
VERBS = dict(_parser()._subparsers._group_actions[0].choices.items())  # type: ignore[union-attr]


def command(*words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess:
    environment = {'PYTHONPATH': str(ROOT), 'PATH': '/usr/bin:/bin', 'COLUMNS': '80'}
    environment |= more
    return subprocess.run(
        [sys.executable, '-m', 'mmcast', *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )


@pytest.mark.parametrize('verb', VERBS)
def test_options_are_the_arguments_of_the_function(verb):
    function = getattr(apis, VERBS[verb].get_default('verb'))
    arguments = inspect.signature(function).parameters
    actions = [each for each in VERBS[verb]._actions if each.dest != 'help']
    assert {each.dest for each in actions} == set(arguments)
    for each in actions:
        needed = arguments[each.dest].default is inspect.Parameter.empty
        assert each.required == needed, each.dest
        assert each.help


@pytest.mark.parametrize('choice', ['teacher sam3', 'engine ray'])
def test_a_labelling_verb_is_found_with_and_without_an_equals_sign(choice):
    one = choice.replace(' ', '=')
    for words in ([f'--{one}'], f'--{choice}'.split()):
        found = _joined(['label', '--store', 'a=b', *words, '--images', 'c'])
        assert found == [f'label --{choice}', '--store', 'a=b', '--images', 'c']


def test_help_imports_neither_torch_nor_mmdet(tmp_path):
    code = (
        'import sys\n'
        'sys.orig_argv = ["python", "-m", "mmcast"]\n'
        'from mmcast.cli import main\n'
        'try:\n'
        '    main(["own-data", "--help"])\n'
        'except SystemExit:\n'
        '    pass\n'
        'assert not {"torch", "mmdet", "numpy", "rich"} & set(sys.modules)\n'
    )
    environment = {'PYTHONPATH': str(ROOT)}
    subprocess.run([sys.executable, '-c', code], check=True, env=environment)


def test_help_fits_a_screen(tmp_path):
    done = command('--help', cwd=tmp_path)
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)
    for verb in VERBS:
        lines = VERBS[verb].format_help().splitlines()
        assert len(lines) <= 50, verb


def test_an_error_is_one_line(tmp_path):
    done = command(
        *('own-data', 'pets', '--coco', 'none.json', '--images', '.'), cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "error: --coco 'none.json' is no file: give a COCO JSON"
    )
    assert 'Traceback' not in done.stderr


def test_letters_that_the_terminal_lacks_are_escaped(tmp_path):
    write_pets(tmp_path / 'pets', 'train.json', 0, 3, names=('\u732b', 'dog', 'x'))
    words = '--coco pets/train.json --images pets/images --size small --look'
    done = command(
        *('own-data', 'pets', *words.split()),
        cwd=tmp_path,
        PYTHONIOENCODING='cp1252',
    )
    assert done.returncode == 0, done.stderr
    assert r'\u732b: 3, dog: 1' in done.stdout


def test_a_file_that_cannot_be_written_is_told_before_the_work(tmp_path):
    """The model is not read; it does not exist."""
    with pytest.raises(IsADirectoryError, match='is a folder: give the path of a file'):
        main(['export-onnx', 'none.py', 'none.pth', '--out', str(tmp_path)])


def test_models_are_listed(capsys):
    main(['models'])
    printed = capsys.readouterr().out
    assert 'finetune_synthscapes\n' in printed
    assert 'without weights: ' in printed
    for model in apis.models():
        assert Path(model.config).is_file()
        assert model.weights is None or Path(model.weights).is_file()
