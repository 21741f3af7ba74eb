"""Test that the tables of the results pages follow from the JSON files next to them."""

import json
import statistics
from itertools import pairwise
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / 'docs'
FILES = {
    'results.md': ('results', 'results_short'),
    'results_tables.md': ('results', 'results_short', 'results_more_labels'),
    'photographs.md': ('photographs',),
}


def spread(values):
    """Return mean, lowest and highest of the values as the pages have them."""
    mean, low, high = (
        f'{value:.1f}'.replace('-0.0', '0.0')
        for value in (statistics.mean(values), min(values), max(values))
    )
    return f'{mean} ({low} to {high})' if len(values) > 1 else mean


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip('|').split('|')]


def is_of_runs(columns):
    """Return whether each row of a table is a run: its gains, or its seeds."""
    return {'gain', 'over'} <= {*columns} or {'iterations', 'seed 0', 'mean'} <= {
        *columns
    }


def table_rows(page):
    """Yield each row of the tables of mask AP, as a dict by column."""
    columns = None
    for line, following in pairwise([*(DOCS / page).read_text().splitlines(), '']):
        if following.startswith('|---'):
            columns = cells_of(line)
        elif not line.startswith('|'):
            columns = None
        elif is_of_runs(columns or []) and not line.startswith('|---'):
            yield dict(zip(columns, cells_of(line), strict=True))


def fits(cells, runs, every):
    """Return whether a row of a table can be this run's, over any other run."""

    def of(key):
        return [runs[seed][key] for seed in sorted(runs)]

    draws = [
        cells[key]
        for key in sorted(cells)
        if key.startswith(('draw ', 'seed ')) and cells[key]
    ]
    if draws and draws != [f'{value:.1f}' for value in of('mask_ap')]:
        return False
    if cells.get('mask AP', spread(of('mask_ap'))) != spread(of('mask_ap')):
        return False
    mean = f'{statistics.mean(of("mask_ap")):.1f}'
    if cells.get('mean') not in (None, '', mean):
        return False
    ap50 = f'{statistics.mean(of("mask_ap50")):.1f}'
    if cells.get('mask AP50', ap50) != ap50:
        return False
    gains = [
        [runs[seed]['mask_ap'] - other[seed]['mask_ap'] for seed in sorted(runs)]
        for other in every
        if runs.keys() <= other.keys()
    ]
    gain = cells.get('gain', '').removeprefix('+')
    return not gain or gain in map(spread, gains)


@pytest.mark.parametrize('page', FILES)
def test_tables_follow_from_the_runs(page):
    found = list(table_rows(page))
    assert len(found) > 10
    files = [json.loads((DOCS / f'{name}.json').read_text()) for name in FILES[page]]
    for cells in found:
        assert any(
            fits(cells, runs, file['runs'].values())
            for file in files
            for runs in file['runs'].values()
        ), cells


def test_more_labels_follow_from_the_runs():
    """The table by numbers of labels has means, and the gain over labels alone."""
    runs = json.loads((DOCS / 'results_more_labels.json').read_text())['runs']
    columns = ('adapted_teacher', 'supervised_student_twice')
    columns += ('distilled_student_twice', 'refined_student_twice')
    page = (DOCS / 'results_tables.md').read_text()
    section = page.partition('### 100 to 600 labels (the paper: Table 6)')[2]
    (table, *_) = [e for e in section.split('\n\n') if e.startswith('| labelled')]
    for line in table.splitlines()[2:]:
        count, *cells = cells_of(line)
        of = [
            [runs[f'{name}_{count}'][seed]['mask_ap'] for seed in '012']
            for name in columns
        ]
        gains = [round(a - b, 3) for a, b in zip(of[3], of[1], strict=True)]
        assert cells == [
            *(f'{statistics.mean(each):.1f}' for each in of),
            f'{statistics.mean(gains):+.1f} ({min(gains):.1f} to {max(gains):.1f})',
        ]


@pytest.mark.parametrize(
    'file', sorted(DOCS.glob('*.json')), ids=lambda path: path.stem
)
def test_rows_follow_from_the_runs(file):
    """Gains are differences with the same seed."""
    found = json.loads(file.read_text())
    runs = found.get('runs', {})
    for row in found['rows'] if runs else []:
        for key in ('mask_ap', 'mask_ap50'):
            of = [runs[row['name']][str(seed)][key] for seed in row['seeds']]
            assert row[key] == of, row['name']
        if other := row.get('against'):
            assert row['gain'] == [
                round(
                    runs[row['name']][seed]['mask_ap'] - runs[other][seed]['mask_ap'], 3
                )
                for seed in map(str, row['seeds'])
                if seed in runs[other]
            ], row['name']
