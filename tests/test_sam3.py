"""Test labelling with a real, small SAM 3, where its environment is.

``SAM3_ENV`` names the folder; `mmcast label --teacher sam3` makes ``.venv-sam3``.
"""

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmcast.cli import main
from mmcast.datasets.pseudo_label_store import PseudoLabelStore

ENV = Path(os.environ.get('SAM3_ENV', '.venv-sam3')).absolute()
CHECKS = Path(__file__).with_name('sam3_checks.py')

pytestmark = pytest.mark.skipif(
    not (ENV / 'bin/python').is_file(), reason='there is no environment for SAM 3'
)


def test_model_and_command(tmp_path, monkeypatch):
    """The model is the library's; the command labels with it, in two processes."""
    monkeypatch.chdir(tmp_path)
    python = ENV / 'bin/python'
    checks = [python, '-I', CHECKS, 'weights']
    done = subprocess.run(checks, capture_output=True, text=True, check=False)
    assert done.stdout == 'all checks passed\n', done.stderr

    rng = np.random.default_rng(0)
    Path('images').mkdir()
    for i in range(4):
        small = rng.integers(0, 256, (6, 9, 3), np.uint8)
        cv2.imwrite(f'images/{i}.png', small.repeat(10, 0).repeat(10, 1))
    words = ['--classes', 'person', 'rider', 'car', '--prompts', 'rider=on a bicycle']
    words += ['--weights', 'weights', '--env', str(ENV), '--images', 'images']
    for store, processes in (('one', '1'), ('two', '2')):
        more = ['--store', store, '--processes', processes]
        main(['label', '--teacher', 'sam3', *words, *more])
    one, two = (dict(PseudoLabelStore.open(name).entries()) for name in ('one', 'two'))
    assert len(one) == len(two) == 4
    for name, entry in one.items():
        assert len(entry.scores) > 0
        assert entry.masks == two[name].masks
        assert entry.scores.tolist() == two[name].scores.tolist()
        assert entry.class_scores.tolist() == entry.scores.tolist()
        assert (entry.mask_qualities >= 0.5).all()
