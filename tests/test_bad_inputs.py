"""Test that every bad input has its line, and that good ones are read."""

from dataclasses import replace

import pytest
from bad_input_tables import MENDED
from bad_inputs import bad_inputs, mended, problem

INPUTS = list(bad_inputs())
KINDS = {bad.kind for bad in INPUTS}


def test_corpus_is_large():
    assert len(INPUTS) >= 200
    assert len(INPUTS) == len({(bad.kind, bad.name, bad.read) for bad in INPUTS})


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_bad_inputs_have_one_line(kind, tmp_path):
    of_kind = [bad for bad in INPUTS if bad.kind == kind and not mended(bad)]
    found = {
        bad.name: problem(bad, tmp_path / str(number))
        for number, bad in enumerate(of_kind)
    }
    assert not {name: why for name, why in found.items() if why}


def test_what_can_be_mended_is_read(tmp_path):
    found = {
        bad.name: problem(bad, tmp_path / str(number))
        for number, bad in enumerate(INPUTS)
        if mended(bad)
    }
    assert len(found) == len(MENDED)
    assert not {k: v for k, v in found.items() if not v.startswith('exit status 0')}


@pytest.mark.parametrize('kind', sorted(KINDS - {'setting'}))
def test_good_inputs_are_read(kind, tmp_path):
    """Otherwise the errors above would come from something else."""
    bad = next(bad for bad in INPUTS if bad.kind == kind)
    good = replace(bad, spoil=lambda root: None)
    assert problem(good, tmp_path / 'good').startswith('exit status 0')
