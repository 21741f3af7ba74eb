"""Execute the notebooks, with few images and iterations."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from warm import Warm

from mmcast._requirements import mim_name

DEMO = Path(__file__).resolve().parents[2] / 'demo'


def test_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: Warm) -> None:
    """Run all stages; the table has a row for each."""
    monkeypatch.setenv('MMCAST_DEMO_LENGTH', '0.005')
    monkeypatch.setenv('MMCAST_DEMO_IMAGES', '24')
    monkeypatch.setenv('MMCAST_DEMO_BIN', str(warm.bin))
    monkeypatch.setenv('MMCAST_DEMO_PROJECT', mim_name())
    notebook = nbformat.read(DEMO / 'own_data.ipynb', 4)
    resources = {'metadata': {'path': str(tmp_path)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()
    text = ''.join(
        output.get('text', '')
        for cell in notebook.cells
        if cell.cell_type == 'code'
        for output in cell.outputs
    )
    rows = re.findall(r'^\| (.+?) \| (\d+\.\d) \| \d+\.\d \| \d+\.\d \|$', text, re.M)
    assert [name for name, _ in rows] == [
        'adapted teacher',
        'supervised student',
        'distilled student',
        'refined student',
    ]
    assert text.count('has mask AP') == 4
    picture = tmp_path / 'own_data_demo/work_dirs/shapes/predictions.jpg'
    assert picture.stat().st_size > 10_000
    report = tmp_path / 'own_data_demo/work_dirs/shapes/report.html'
    assert 'id="labels"' in report.read_text()


def test_the_committed_notebook_has_no_paths_of_a_machine() -> None:
    text = (DEMO / 'own_data.ipynb').read_text()
    assert '/home/' not in text
    assert '/tmp/' not in text
    assert '/work/' not in text
