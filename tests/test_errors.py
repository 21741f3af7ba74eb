"""Test which errors end in one line, and that all others keep their traceback."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
from mmdet.registry import DATASETS
from torch.utils.data import DataLoader, Dataset

from mmcast.apis.ranks import raise_on_all_ranks
from mmcast.datasets.splits import read_list
from mmcast.errors import one_line
from mmcast.models.losses.draws import gumbel_top_k
from mmcast.testing import CONFIGS

ROOT = Path(__file__).parents[1]
TRAIN = Path(mmdet.__file__).parent / '.mim/tools/train.py'


def caught(function, *arguments, **settings):
    """Return the exception that a function raises."""
    with pytest.raises(BaseException) as error:  # noqa: PT011
        function(*arguments, **settings)
    return error.value


def in_package(source, name='mmcast.part'):
    """Return the function ``f`` of a module that has the given name and source."""
    module = {'__name__': name}
    exec(compile(source, 'part.py', 'exec'), module)
    return module['f']


def test_error_of_ours_is_one_line(tmp_path):
    error = caught(read_list, tmp_path / 'none.txt')
    assert one_line(error) == str(error)
    assert 'does not exist' in str(error)


def test_lines_of_a_message_are_joined():
    f = in_package('def f(): raise ValueError("a\\n  b")')
    assert one_line(caught(f)) == 'a b'


@pytest.mark.parametrize(
    'source',
    [
        'def f(): int("x")',  # a ValueError that nobody raised on purpose
        'def f(): open("/none")',
        'def f(): assert 0',
        'def f(): return {}[1]',
        'def f(): raise KeyError(1)',
        'def f(): raise AttributeError("x")',
        'def f(): raise NotImplementedError',
        'def f():\n  try: raise ValueError("foreseen")\n  except ValueError: {}[1]',
    ],
)
def test_bug_in_the_package_is_not(source):
    assert one_line(caught(in_package(source))) is None


@pytest.mark.parametrize('name', ['mmdet.part', 'mmcast_of_a_user', '__main__'])
def test_error_of_another_package_is_not(name):
    assert one_line(caught(in_package('def f(): raise ValueError("x")', name))) is None
    assert one_line(caught(read_list, None)) is None  # raised below a call of ours
    assert one_line(caught(gumbel_top_k)) is None


def test_error_that_is_raised_again_is_judged_by_its_origin(tmp_path):
    error = caught(raise_on_all_ranks, lambda: read_list(tmp_path / 'none.txt'))
    assert one_line(error) == str(error)
    assert one_line(caught(raise_on_all_ranks, lambda: int('x'))) is None


class Failing(Dataset):
    def __init__(self, fail):
        self.fail = fail

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.fail()


def from_worker(fail):
    return caught(next, iter(DataLoader(Failing(fail), num_workers=1)))


def test_error_of_a_worker_is_judged_by_its_origin(tmp_path):
    path = tmp_path / 'none.txt'
    error = from_worker(lambda: read_list(path))
    assert 'Original Traceback' in str(error)
    assert one_line(error) == str(caught(read_list, path))
    assert one_line(from_worker(lambda: int('x'))) is None
    assert one_line(from_worker(lambda: read_list(None))) is None
    assert one_line(from_worker(in_package('def f(): int("x")'))) is None


def test_unreadable_image_in_a_worker(synthscapes):
    """Check an error with a cause, whose class is of this package."""
    dataset = DATASETS.build(
        dict(
            type='ImageListDataset',
            data_prefix=dict(img=str(synthscapes / 'leftImg8bit/train')),
            pipeline=[dict(type='LoadImage', imdecode_backend='none')],
        )
    )
    message = one_line(caught(next, iter(DataLoader(dataset, num_workers=1))))
    assert message.startswith(
        f'{dataset.get_data_info(0)["img_path"]} cannot be read ('
    )
    assert message.endswith('): repair it, or take it off the list')


def test_another_ranks_error_has_no_traceback_inside():
    text = str(from_worker(lambda: read_list('/none.txt')))
    raised = f'raise RuntimeError({"Rank 1 failed: FileNotFoundError: " + text!r})'
    message = one_line(caught(in_package(f'def f(): {raised}')))
    assert message.startswith(
        "Rank 1 failed: FileNotFoundError: image list '/none.txt'"
    )


def kill(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ('number', 'remedy'),
    [
        (signal.SIGKILL, 'ran out of memory: lower num_workers of the dataloader or'),
        (signal.SIGBUS, 'ran out of shared memory: enlarge /dev/shm'),
    ],
)
def test_killed_worker_is_one_line(monkeypatch, number, remedy):
    error = from_worker(lambda: kill(number))
    message = one_line(error)
    assert 'was killed by the system' in message
    assert remedy in message
    assert message.endswith('continue with --resume')
    monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', 'mmcast', 'label'])
    message = one_line(error)
    assert 'lower --num-workers' in message
    assert message.endswith('run the command again')


def test_crashed_worker_is_a_bug():
    assert one_line(from_worker(lambda: kill(signal.SIGUSR1))) is None
    assert one_line(from_worker(lambda: os._exit(3))) is None


@pytest.mark.parametrize(
    ('number', 'remedy'),
    [
        (errno.EROFS, 'give another folder with --work-dir'),
        (errno.EACCES, 'give another folder with --work-dir'),
        (errno.ENOSPC, 'free space, then continue with --resume'),
    ],
)
def test_file_that_cannot_be_written_is_one_line(number, remedy):
    error = OSError(number, os.strerror(number), '/far/x')
    message = one_line(error)
    assert message.startswith(f'/far/x: {os.strerror(number)}: ')
    assert message.endswith(remedy)
    assert one_line(OSError(errno.EIO, 'x', '/far/x')) is None


@pytest.mark.parametrize(
    ('number', 'remedy'),
    [
        (errno.EACCES, 'change its permissions, or give another place'),
        (errno.ENOSPC, 'free space, then run the command again'),
    ],
)
def test_remedy_for_the_command_names_no_option_of_training(
    monkeypatch, number, remedy
):
    monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', 'mmcast', 'label'])
    message = one_line(OSError(number, os.strerror(number), '/far/x'))
    assert message == f'/far/x: {os.strerror(number)}: {remedy}'


def run_cold(*command, cwd, **environment):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def test_stock_script_ends_with_one_line(tmp_path, warm):
    config = CONFIGS / 'supervised_synthscapes.py'
    result = warm(TRAIN, config, cwd=tmp_path)
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr + result.stdout
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: data root 'data/synthscapes/target/' does not exist")
    assert result.stderr.count('error: ') == 1


def test_work_folder_that_cannot_be_written(tmp_path, warm):
    """Let mmengine fail to make the folder, before any hook runs."""
    config = CONFIGS / 'supervised_synthscapes.py'
    result = warm(TRAIN, config, '--work-dir', '/sys/run', cwd=tmp_path)
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith('error: /sys/run: ')
    assert last.endswith('or give another folder with --work-dir')


def test_traceback_can_be_asked_for(tmp_path, warm):
    config = CONFIGS / 'supervised_synthscapes.py'
    result = warm(TRAIN, config, cwd=tmp_path, MMCAST_TRACEBACK='1')
    assert result.returncode == 1
    assert 'Traceback (most recent call last)' in result.stderr
    assert "FileNotFoundError: data root 'data/synthscapes" in result.stderr


def test_error_of_a_tool_is_one_line(tmp_path, warm):
    tool = ROOT / 'tools/misc/export_part.py'
    result = warm(tool, 'none.pth', tmp_path / 'x.pth', cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith('error: ')
    assert 'none.pth' in result.stderr
    assert result.stderr.count('\n') == 1


def test_wrong_version_is_one_line(tmp_path):
    """Check an error of the import itself, which mmengine replaces by its own."""
    (tmp_path / 'sitecustomize.py').write_text(
        'import mmengine; mmengine.__version__ = "0.9"'
    )
    (tmp_path / 'x.py').write_text("custom_imports = dict(imports=['mmcast'])")
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    result = run_cold(TRAIN, 'x.py', cwd=tmp_path, PYTHONPATH=path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        'error: mmcast needs mmengine >= 0.10.4, < 0.11, but 0.9 is installed'
    )
    assert 'Traceback' not in result.stderr


def test_other_programs_keep_their_errors(tmp_path, warm):
    """Check a user's own script, and a stock one with another hook."""
    code = 'from mmcast.datasets.splits import read_list; read_list("none.txt")'
    (tmp_path / 'own.py').write_text(code)
    result = warm(tmp_path / 'own.py', cwd=tmp_path)
    assert result.returncode == 1
    assert 'Traceback' in result.stderr
    (tmp_path / 'sitecustomize.py').write_text(
        'import sys; sys.excepthook = lambda *_: print("their hook")'
    )
    config = CONFIGS / 'supervised_synthscapes.py'
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    result = run_cold(TRAIN, config, cwd=tmp_path, PYTHONPATH=path)
    assert result.stdout.endswith('their hook\n')
    assert 'error: ' not in result.stderr
