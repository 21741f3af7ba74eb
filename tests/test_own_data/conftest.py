"""The fixture that the tests of `mmcast own-data` share."""

from pathlib import Path

import pytest
from pets import write_pets

from mmcast.console import make_console


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder of a user, with data and without configs."""
    write_pets(tmp_path / 'data/pets', 'train.json', 0, 20, unlabelled=5)
    monkeypatch.chdir(tmp_path)
    # Lines are not broken, whatever terminal an earlier test left.
    wide = make_console(highlight=False, width=200, height=50)
    monkeypatch.setattr('mmcast.own_data.prepare.console', wide)
    return tmp_path
