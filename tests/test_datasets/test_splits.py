"""Test the lists, the random draw and the command-line tool."""

import json
import re
from pathlib import Path

import pytest

from mmcast.cli import main
from mmcast.datasets.coco_file import read_coco
from mmcast.datasets.splits import (
    check_lists,
    draw_order,
    format_list,
    read_list,
    to_image_name,
    to_instance_ids,
)

BOX = {'bbox': [0, 0, 2, 2], 'area': 4, 'iscrowd': 0}
BOX['segmentation'] = [[0, 0, 2, 0, 2, 2, 0, 2]]


def coco_of(classes_of: dict[str, list[str]], classes: list[str]) -> dict:
    """Make a COCO file in which each image shows the given classes."""
    ids = {name: i for i, name in enumerate(classes, 7)}
    annotations = [
        {**BOX, 'image_id': i, 'category_id': ids[c]}
        for i, shown in enumerate(classes_of.values())
        for c in shown
    ]
    return {
        'images': [
            {'id': i, 'file_name': name, 'height': 4, 'width': 4}
            for i, name in enumerate(classes_of)
        ],
        'categories': [{'id': i, 'name': name} for name, i in ids.items()],
        'annotations': [{**a, 'id': i} for i, a in enumerate(annotations)],
    }


@pytest.fixture
def coco_file(tmp_path: Path) -> Path:
    """List 100 images: all show a car, every 4th a bus, numbers 30, 60, 90 a train."""
    classes_of = {
        f'{i:03}.png': ['car']
        + ['bus'] * (i % 4 == 0)
        + ['train'] * (i % 30 == 0 and i > 0)
        for i in range(100)
    }
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(coco_of(classes_of, ['car', 'bus', 'train'])))
    return path


class TestLists:
    def test_round_trip_of_both_formats(self, tmp_path: Path) -> None:
        names = [
            'ulm/ulm_000075_000019_leftImg8bit.png',
            'bremen/bremen_0_leftImg8bit.png',
        ]
        for list_format in ('names', 'instance-ids'):
            path = tmp_path / list_format
            path.write_text(format_list(names, list_format))
            assert read_list(path) == names
        assert path.read_text() == (
            'ulm_000075_000019_gtFine_instanceIds.png\nbremen_0_gtFine_instanceIds.png\n'
        )

    def test_names_of_guided_distillation(self) -> None:
        line = 'bremen_000041_000019_gtFine_instanceIds.png'
        name = 'bremen/bremen_000041_000019_leftImg8bit.png'
        assert to_image_name(line) == name
        assert to_instance_ids(name) == line
        for other in ('a.jpg', 'ulm/bonn_0_leftImg8bit.png', 'bonn_0_leftImg8bit.png'):
            with pytest.raises(ValueError, match='cannot be written as instance-ids'):
                to_instance_ids(other)

    @pytest.mark.parametrize(
        'text', ['a.png\r\nb/c.png\r\n', '\ufeffa.png\n./b//c.png']
    )
    def test_other_line_endings_and_path_spellings(
        self, tmp_path: Path, text: str
    ) -> None:
        path = tmp_path / 'list.txt'
        path.write_bytes(text.encode())
        assert read_list(path) == ['a.png', 'b/c.png']

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('', 'list.txt. is empty'),
            ('\n \n', 'list.txt. is empty'),
            ('a.png\n\nb.png\n', 'list.txt:2: the line is blank'),
            ('a.png\nb.png\n./a.png\n', "list.txt:3: 'a.png' is on line 1"),
            ('a.png\n/data/b.png\n', 'list.txt:2: .*not below the image folder'),
            ('a/../../b.png\n', 'list.txt:1: .*not below the image folder'),
            (b'\x89PNG\r\n\x1a\n\xff', 'not a text file'),
        ],
    )
    def test_errors_name_the_line(self, tmp_path: Path, text, message: str) -> None:
        path = tmp_path / 'list.txt'
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match=message) as error:
            read_list(path)
        assert '\n' not in str(error.value)

    def test_missing_list_raises(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match='mmcast split'):
            read_list(tmp_path / 'none.txt')

    def test_check_lists(self) -> None:
        check_lists(['a'], ['b', 'c'], {'a', 'b', 'c'})
        for labeled, unlabeled, message in [
            ([], ['b'], r'^labeled.txt is empty'),
            (['a'], [], r'^unlabeled.txt is empty'),
            (['a'], ['b', 'x'], r"^unlabeled.txt:2: 'x' is not an image"),
            (['c', 'a'], ['b', 'a'], r'^unlabeled.txt:2: .* \(labeled.txt:2\)'),
        ]:
            with pytest.raises(ValueError, match=message):
                check_lists(labeled, unlabeled, {'a', 'b', 'c'})


class TestDraw:
    names = [f'{i}.png' for i in range(200)]

    def test_order_depends_only_on_the_seed(self) -> None:
        order, at_least = draw_order(self.names, 3)
        assert at_least == 1
        assert sorted(order) == sorted(self.names)
        assert order == draw_order(self.names[::-1], 3)[0]
        assert order != draw_order(self.names, 4)[0]
        # A user's split must not change with a release.
        assert draw_order(list('abcdefgh'), 0)[0] == list('ebfcadhg')

    def test_draw_is_uniform(self) -> None:
        """Expect each of 20 images in 500 of 2000 draws of 5 images, +- 5 sigma."""
        hits = dict.fromkeys(self.names[:20], 0)
        for seed in range(2000):
            for name in draw_order(list(hits), seed)[0][:5]:
                hits[name] += 1
        assert all(
            abs(n - 500) < 5 * (2000 * 0.25 * 0.75) ** 0.5 for n in hits.values()
        )

    def test_draw_is_class_balanced(self) -> None:
        classes_of = {
            name: {'car'}
            | ({'bus'} if i % 20 == 0 else set())
            | ({'train'} if i < 2 else set())
            for i, name in enumerate(self.names)
        }
        order, at_least = draw_order(self.names, 0, 5, classes_of)
        assert sorted(order) == sorted(self.names)
        counts = {
            c: sum(c in classes_of[name] for name in order[:at_least])
            for c in ('car', 'bus', 'train')
        }
        assert counts['train'] == 2  # all that exist
        assert counts['bus'] == 5
        assert at_least <= 6  # the 5 buses include or nearly include the 2 trains
        assert counts['car'] == at_least >= 5


class TestCoco:
    def test_crowds_and_ignored_do_not_count(self, tmp_path: Path) -> None:
        coco = coco_of({'a.png': ['car', 'bus'], 'b.png': ['car']}, ['car', 'bus'])
        coco['annotations'][1]['iscrowd'] = 1
        coco['annotations'][2]['ignore'] = 1
        path = tmp_path / 'ann.json'
        path.write_text(json.dumps(coco))
        found = read_coco(path)
        assert found.classes == ('car', 'bus')
        assert found.classes_of() == {'a.png': {'car'}, 'b.png': set()}

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            (lambda c: c.pop('images'), "no 'images'"),
            (lambda c: c['images'][0].pop('width'), 'height and width 4 and None'),
            (
                lambda c: c['images'].append({**c['images'][0], 'id': 9}),
                "'a.png' twice",
            ),
            (lambda c: c['categories'].append(c['categories'][0]), "'car' twice"),
            (lambda c: c['annotations'][0].update(image_id=9), 'image_id 9'),
            (lambda c: c['annotations'][0].update(category_id=1), 'category_id 1'),
            (
                lambda c: c['images'].append({**c['images'][0], 'file_name': 'b'}),
                'the id 0',
            ),
        ],
    )
    def test_broken_files_raise(self, tmp_path: Path, change, message: str) -> None:
        coco = coco_of({'a.png': ['car', 'bus']}, ['car', 'bus'])
        change(coco)
        path = tmp_path / 'ann.json'
        path.write_text(json.dumps(coco))
        with pytest.raises(ValueError, match=message):
            read_coco(path)
        path.write_text(json.dumps(coco)[:-9])
        with pytest.raises(ValueError, match='not a COCO JSON'):
            read_coco(path)

    def test_missing_file_names_the_command(self) -> None:
        path = 'data/x/annotations/instancesonly_filtered_gtFine_train.json'
        with pytest.raises(FileNotFoundError, match=r'cityscapes\.py data/x'):
            read_coco(path)


def split(*args: object) -> str:
    """Run the verb in this process; return its error, or ''."""
    try:
        main(['split', *map(str, args)])
    except (OSError, ValueError) as error:
        return str(error)
    return ''


class TestVerb:
    def test_lists_are_written(self, coco_file: Path, tmp_path: Path, capsys) -> None:
        out = tmp_path / 'splits'
        options = ['--coco', coco_file, '--fraction', '0.1', '--out', out]
        options += ['--per-class', '1']
        assert not split(*options)
        assert '10 labelled, 90 unlabelled' in capsys.readouterr().out
        labeled = read_list(out / 'labeled.txt')
        check_lists(
            labeled,
            read_list(out / 'unlabeled.txt'),
            {f'{i:03}.png' for i in range(100)},
        )
        assert len(labeled) == 10
        assert set(labeled) & {'030.png', '060.png', '090.png'}
        error = split(*options, '--seed', '1')
        assert 'give another --out' in error
        assert '\n' not in error
        assert read_list(out / 'labeled.txt') == labeled

    def test_a_category_without_an_object_is_never_missing(
        self, tmp_path: Path, capsys
    ) -> None:
        """As the root that Roboflow adds."""
        classes_of = {f'{i}.png': ['car', 'bus'] for i in range(4)}
        path = tmp_path / 'train.json'
        path.write_text(json.dumps(coco_of(classes_of, ['things', 'car', 'bus'])))
        assert not split('--coco', path, '--count', 1, '--out', tmp_path / 'out')
        printed = capsys.readouterr().out
        assert 'with car: 1, bus: 1; no object of: things\n' in printed

    def test_names_fit_the_image_folder(self, tmp_path: Path) -> None:
        """As in training, which would refuse the names of the file."""
        names = [f'{i}.png' for i in range(4)]
        for name in names:
            (tmp_path / name).write_bytes(b'')
        path = tmp_path / 'train.json'
        content = coco_of({f'/far/images/{name}': ['car'] for name in names}, ['car'])
        path.write_text(json.dumps(content))
        args = ['--count', 1, '--out', tmp_path / 'out', '--images']
        assert 'is not below the image folder' in split('--coco', path, *args[:-1])
        assert "none' is no folder" in split('--coco', path, *args, tmp_path / 'none')
        assert 'give both' in split('--list', path, *args, tmp_path)
        assert 'is a folder: give a file' in split('--list', tmp_path, *args[:-1])
        assert 'cannot write in' in split('--coco', path, '--count', 1, '--out', path)
        assert not split('--coco', path, *args, tmp_path)
        labeled, rest = (
            read_list(tmp_path / f'out/{n}labeled.txt') for n in ('', 'un')
        )
        assert sorted(labeled + rest) == names

    def test_nested_lists(self, coco_file: Path, tmp_path: Path) -> None:
        args = ['--coco', coco_file, '--fraction', 0.05, 0.1, 0.3, '--out', tmp_path]
        args += ['--per-class', 1]
        assert not split(*args, '--nested')
        lists = [set(read_list(tmp_path / f'{p}pct/labeled.txt')) for p in (5, 10, 30)]
        assert [len(names) for names in lists] == [5, 10, 30]
        assert lists[0] < lists[1] < lists[2]
        for p in (5, 10, 30):
            rest = read_list(tmp_path / f'{p}pct/unlabeled.txt')
            assert len(rest) == 100 - p
        args[-3] = tmp_path / 'independent'
        assert not split(*args)
        small, middle, large = (
            set(read_list(tmp_path / f'independent/{p}pct/labeled.txt'))
            for p in (5, 10, 30)
        )
        assert not (small < middle < large)

    def test_existing_lists(self, coco_file: Path, tmp_path: Path) -> None:
        labeled, unlabeled = tmp_path / 'l.txt', tmp_path / 'u.txt'
        labeled.write_text('003.png\n030.png\n000.png\n')
        out = tmp_path / 'out'
        args = ['--coco', coco_file, '--labeled', labeled, '--out', out]
        assert not split(*args)
        assert len(read_list(out / 'unlabeled.txt')) == 97
        unlabeled.write_text('001.png\n030.png\n')
        args[-1] = tmp_path / 'out2'
        error = split(*args, '--unlabeled', unlabeled)
        assert f'{unlabeled}:2:' in error
        assert f'{labeled}:2' in error
        labeled.write_text('003.png\nx.png\n')
        assert f"{labeled}:2: 'x.png'" in split(*args)
        assert not (tmp_path / 'out2').exists()

    def test_pool_with_the_labelled_images(
        self, coco_file: Path, tmp_path: Path
    ) -> None:
        args = ['--coco', coco_file, '--per-class', 2, '--pool', 'all']
        assert not split(*args, '--out', tmp_path)
        assert len(read_list(tmp_path / 'unlabeled.txt')) == 100
        assert 2 <= len(read_list(tmp_path / 'labeled.txt')) <= 4

    @pytest.mark.parametrize(
        ('args', 'message'),
        [
            (['--count', 1], 'no labelled image shows: .*train'),
            (['--fraction', 0.001], '0 labelled images'),
            (['--count', 101], '101 labelled images'),
            (['--count', 100], '--pool all'),
            (['--count', 3, '--per-class', 10], 'more than the 3 asked for'),
            (['--fraction', 'nan'], '--fraction nan: give shares of 0 to 1'),
            (['--fraction', 0.1, 'inf'], '--fraction 0.1, inf: give shares'),
            (
                ['--per-class', -1, '--allow-missing-classes'],
                '--per-class -1 is negative',
            ),
            (['--count', 9, '--split', 'val'], '--split is the split of --cityscapes'),
            (['--labeled', 'l.txt', '--seed', 0], 'leave out .*--seed'),
        ],
    )
    def test_errors(self, coco_file: Path, tmp_path: Path, args, message: str) -> None:
        out = tmp_path / 'out'
        error = split('--coco', coco_file, *args, '--out', out)
        assert '\n' not in error
        assert re.search(message, error)
        assert not out.exists()

    def test_per_class_needs_an_object(self, tmp_path: Path) -> None:
        path = tmp_path / 'train.json'
        path.write_text(json.dumps(coco_of({'a.png': [], 'b.png': []}, ['car'])))
        args = ['--coco', path, '--out', tmp_path / 'out']
        assert 'no image shows an object: annotate' in split(*args, '--per-class', 1)
        assert not (tmp_path / 'out').exists()
        assert not split(*args, '--count', 1)

    def test_list_as_source_and_missing_classes(
        self, coco_file: Path, tmp_path: Path
    ) -> None:
        names = tmp_path / 'all.txt'
        names.write_text(''.join(f'a/{i}.jpg\n' for i in range(10)))
        args = ['--list', names, '--count', 3, '--out', tmp_path / 'of_list']
        assert not split(*args)
        assert len(read_list(tmp_path / 'of_list/labeled.txt')) == 3
        args = ['--coco', coco_file, '--count', 1, '--allow-missing-classes']
        assert not split(*args, '--out', tmp_path / 'one')
