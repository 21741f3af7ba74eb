"""Test the campaign of kills in short, and that it sees a difference."""

import re
import sys

import crash_test
import torch


def test_killed_run_ends_as_the_straight_one(tmp_path, monkeypatch, warm):
    python, train = sys.executable, crash_test.train

    def train_cold_if_killed(stage, root, seconds, after=''):
        with monkeypatch.context() as patch:
            if seconds is not None:
                patch.setattr(sys, 'executable', python)
            return train(stage, root, seconds, after)

    monkeypatch.setattr(sys, 'executable', str(warm.bin / 'python'))
    monkeypatch.setattr(crash_test, 'train', train_cold_if_killed)
    monkeypatch.setitem(crash_test.STAGES, 'supervised', ('student.pth', 12))
    options = ['--stages', 'supervised', '--kills', '2', '--longest', '12']
    options += ['--images', '30', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', ['crash_test.py', *options])
    crash_test.main()
    table = (tmp_path / 'crash_test.md').read_text()
    assert re.search(r'\| supervised \| [12] \| 0 \|', table)
    left = tmp_path / 'straight/work_dirs/supervised_synthscapes/student.pth'
    content = torch.load(left, weights_only=True)
    content['state_dict']['backbone.conv1.weight'][0, 0, 0, 0] += 1
    other = tmp_path / 'changed.pth'
    torch.save(content, other)
    assert crash_test.differences(left, other) == 1
    assert crash_test.differences(left, left) == 0
