"""Test the campaign of kills in short, and that it sees a difference."""

import re
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).parents[2] / 'tools/misc/crash_test.py'


def campaign(out):
    return subprocess.run(
        [
            *(sys.executable, SCRIPT, '--out', out, '--stages', 'supervised'),
            *('--kills', '2', '--longest', '12', '--images', '30'),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_killed_run_ends_as_the_straight_one(tmp_path):
    done = campaign(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / 'crash_test.md').read_text()
    assert re.search(r'\| supervised \| [12] \| 0 \|', table)
    left = tmp_path / 'straight/work_dirs/supervised_synthscapes/student.pth'
    content = torch.load(left, weights_only=True)
    content['state_dict']['backbone.conv1.weight'][0, 0, 0, 0] += 1
    from crash_test import differences

    other = tmp_path / 'changed.pth'
    torch.save(content, other)
    assert differences(left, other) == 1
    assert differences(left, left) == 0
