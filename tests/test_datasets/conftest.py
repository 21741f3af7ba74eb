"""Fixtures that the tests of NYU Depth v2's converter share."""

from pathlib import Path

import pytest
from nyuv2_files import Arrays, content, write_mat, write_splits


@pytest.fixture
def arrays() -> Arrays:
    return content()


@pytest.fixture
def files(tmp_path: Path, arrays: Arrays) -> tuple[Path, Path]:
    mat = write_mat(tmp_path / 'labeled.mat', arrays)
    return mat, write_splits(tmp_path / 'splits.mat')
