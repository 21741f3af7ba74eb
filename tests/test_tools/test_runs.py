"""Test runs that are done once, their digests, and the AP of labels."""

import hashlib
import json
import os
import signal
import threading

import numpy as np
import pytest
from pycocotools import mask as mask_utils
from runs import digest, label_ap, mim, once, run_all

from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher


def test_digest_depends_on_file_names_and_contents(tmp_path):
    (tmp_path / 'sub').mkdir()
    config, weights = tmp_path / 'sub/a.py', tmp_path / 'b.pth'
    config.write_text('x = 1')
    weights.write_bytes(b'12')
    found = digest(tmp_path)
    expected = hashlib.sha256(b'b.pth' + b'12' + b'sub/a.py' + b'x = 1')
    assert found == expected.hexdigest()
    (tmp_path / 'notes.md').write_text('no part of a run')
    assert digest(tmp_path) == found
    seen = {found, digest(weights), digest(tmp_path, weights), digest('text', tmp_path)}
    weights.write_bytes(b'13')
    seen |= {digest(tmp_path), digest(weights), digest(tmp_path, weights)}
    weights.rename(tmp_path / 'c.pth')
    seen.add(digest(tmp_path))
    assert len(seen) == 8


def test_a_run_is_done_once_per_key(tmp_path):
    calls = []

    def action():
        calls.append(1)
        return dict(ap=len(calls))

    file = tmp_path / 'sub' / 'result.json'
    assert [once(file, 'a', action) for _ in range(3)] == [dict(ap=1)] * 3
    assert once(file, 'b', action) == dict(ap=2)
    assert json.loads(file.read_text()) == dict(key='b', result=dict(ap=2))

    def fails():
        raise RuntimeError('no')

    with pytest.raises(RuntimeError):
        once(file, 'c', fails)
    assert once(file, 'b', action) == dict(ap=2)


def test_a_failed_command_shows_its_last_lines(tmp_path):
    seen = []
    log = tmp_path / 'sub' / 'x.log'
    with pytest.raises(
        RuntimeError, match=r'(?s)No such option.*"mim --nothing" failed'
    ):
        mim('--nothing', log=log, on_line=seen.append)
    assert log.read_text() == ''.join(seen)


def fake_mim(tmp_path, monkeypatch, script):
    """Put a program in the place of mim."""
    program = tmp_path / 'bin' / 'mim'
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n' + script)
    program.chmod(0o755)
    monkeypatch.setattr('sys.executable', str(program.with_name('python')))


def test_a_process_that_outlives_mim_is_not_waited_for(tmp_path, monkeypatch):
    fake_mim(tmp_path, monkeypatch, f'sleep 100 & echo $! > {tmp_path}/pid; echo done')
    seen = []
    mim('train', log=tmp_path / 'x.log', on_line=seen.append)
    assert seen == ['done\n']
    os.kill(int((tmp_path / 'pid').read_text()), signal.SIGKILL)  # it still runs


def test_mim_finds_the_folder_that_two_at_once_would_both_make(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    fake_mim(tmp_path, monkeypatch, '[ -d "$HOME/.cache/mim" ] || exit 1')
    mim('train', log=tmp_path / 'x.log')


@pytest.mark.parametrize(
    'script',
    ['kill -KILL $$', 'echo "died with <Signals.SIGKILL: 9>."; exit 1'],
    ids=['mim', 'trainer'],
)
def test_a_killed_command_says_so(script, tmp_path, monkeypatch):
    fake_mim(tmp_path, monkeypatch, script)
    with pytest.raises(RuntimeError, match='"mim train" was killed'):
        mim('train', log=tmp_path / 'x.log')


def test_rules_of_the_papers_teacher(tmp_path):
    """A sure object, a ghost of another class, and an image where nothing is sure."""
    size, everywhere = (20, 20), dict(size=[20, 20])
    mask = np.zeros(size, np.uint8, order='F')
    mask[5:15, 5:15] = 1
    rle = mask_utils.encode(mask)
    ghost = mask_utils.encode(np.asfortranarray(np.roll(mask, 6)))
    text = dict(everywhere, counts=rle['counts'].decode())
    truth = dict(
        images=[dict(id=i, file_name=f'{i}.png', height=20, width=20) for i in (1, 2)],
        categories=[dict(id=1, name='a')],
        annotations=[
            dict(
                id=i,
                image_id=i,
                category_id=1,
                segmentation=text,
                area=100,
                bbox=[5, 5, 10, 10],
                iscrowd=0,
            )
            for i in (1, 2)
        ],
    )
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    store = PseudoLabelStore.create(
        tmp_path / 'store', classes=['a'], teacher=Teacher('', '', '')
    )
    box = [5, 5, 15, 15]
    store.write(
        *('1.png', size, [0, 0], [0.7, 0.5], [box, box], [ghost, rle]),
        *([0.2, 0.9], [0.9, 0.6]),
    )
    store.write('2.png', size, [0], [0.1], [box], [rle], [0.25], [0.4])
    stock = label_ap(store.root, tmp_path / 'truth.json')
    # Ranked ghost, object, object: precision 1/2 and then 2/3, which is 2/3 at all.
    assert stock['mask_ap50'] == pytest.approx(66.67, abs=0.01)
    theirs = label_ap(store.root, tmp_path / 'truth.json', 'teacher')
    assert theirs == dict(mask_ap=100.0, mask_ap50=100.0)
    # JSON does not take what numpy's numbers are compared to.
    assert {type(each) for each in (stock | theirs).values()} == {float}


def test_a_run_that_must_wait_takes_no_place():
    """With two jobs, `last` runs beside `first`, and `second` after it."""
    ended = []
    both = threading.Barrier(2)

    def work(name, number):
        if name != 'second':
            both.wait(timeout=60)
        ended.append(name)

    needs = {'second': [('first', 1), ('not asked for', 1)]}
    todo = [('first', 1), ('second', 1), ('last', 1)]
    run_all('x', todo, work, 2, lambda name, number: needs.get(name, []))
    assert sorted(ended) == ['first', 'last', 'second']
    assert ended.index('first') < ended.index('second')


def test_runs_that_need_each_other_are_named():
    with pytest.raises(ValueError, match=r"need each other: .*'a'"):
        run_all('x', [('a',), ('b',)], print, 2, lambda name: [('a',), ('b',)])


def test_nothing_starts_after_a_failure():
    started = []

    def work(name):
        started.append(name)
        raise RuntimeError('its log is x.log')

    with pytest.raises(SystemExit, match=r'^error: its log is x.log$'):
        run_all('x', [('a',), ('b',)], work, 1)
    assert started == ['a']
