"""Test that images which two data sets share are found by their files."""

import os
import shutil
from pathlib import Path

import pytest
from mmdet.registry import DATASETS
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmcast.datasets.overlap import image_paths
from mmcast.datasets.splits import read_list
from mmcast.testing import THINGS, reduced

JSON = 'annotations/instancesonly_filtered_gtFine_train.json'


@pytest.fixture
def records(monkeypatch):
    """Collect what mmengine's logger gets: level and text."""
    found = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(
        logger, 'handle', lambda record: found.append((record.levelname, record.msg))
    )
    return found


def about_overlap(records):
    return [each for each in records if 'unlabelled images' in each[1]]


@pytest.fixture
def data(synthscapes, tmp_path):
    return shutil.copytree(synthscapes, tmp_path / 'data')


def unlabeled_images(folder, **changes):
    return dict(
        type='ImageListDataset',
        data_prefix=dict(img=str(folder)),
        metainfo=THINGS,
        **changes,
    )


def build(data, folder, unlabeled=None, image_list='splits/labeled.txt', **settings):
    settings.setdefault(
        'unlabeled_dataset', unlabeled_images(folder, **unlabeled or {})
    )
    return DATASETS.build(
        dict(
            type='SemiSupervisedDataset',
            labeled_dataset=dict(
                type='ListedCocoDataset',
                data_root=str(data),
                ann_file=JSON,
                image_list=image_list,
                data_prefix=dict(img='leftImg8bit/train/'),
                metainfo=THINGS,
            ),
            weak_view=[],
            **settings,
        )
    )


def names_of(dataset):
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    return [info['img_name'] for info in infos]


@pytest.mark.parametrize('serialize', [True, False])
def test_whole_folder_leaves_out_labelled_images(serialize, data, records):
    images = data / 'leftImg8bit/train'
    dataset = build(data, images, dict(serialize_data=serialize))
    labeled = read_list(data / 'splits/labeled.txt')
    wanted = read_list(data / 'splits/unlabeled.txt')
    assert names_of(dataset.datasets[1]) == wanted
    assert len(dataset) == 4 + len(wanted) == dataset.cumulative_sizes[-1]
    # An item behind those that were left out is the right one.
    last = dataset[len(dataset) - 1]['data_samples']['unsup']
    assert last.img_path.endswith(wanted[-1])
    ((level, text),) = about_overlap(records)
    assert level == 'INFO'
    assert text.startswith(
        f"left out 4 of 12 unlabelled images below '{images}', since they are labelled "
        f'images: {images / labeled[0]}, '
    )
    assert text.count('.png') == 3


def test_several_folders_leave_out_labelled_images(data, records):
    """The second of three folders has labelled images."""
    images = data / 'leftImg8bit/train'
    others = [shutil.copytree(images, data / name) for name in ('a', 'b')]
    parts = [unlabeled_images(each) for each in (others[0], images, others[1])]
    both = dict(type='ConcatDataset', datasets=parts)
    dataset = build(data, images, unlabeled_dataset=both)
    wanted = read_list(data / 'splits/unlabeled.txt')
    assert names_of(dataset.datasets[1].datasets[1]) == wanted
    assert len(dataset) == 4 + 12 + len(wanted) + 12
    paths = [
        dataset[index]['data_samples']['unsup'].img_path
        for index in range(16, len(dataset))
    ]
    assert paths[: len(wanted)] == [str(images / name) for name in wanted]
    assert paths[-1].startswith(str(others[1]))
    ((_, text),) = about_overlap(records)
    assert text.startswith('left out 4 of 12 unlabelled images')


def test_labelled_images_can_stay(data, records):
    images = data / 'leftImg8bit/train'
    dataset = build(data, images, leave_out_labeled=False)
    assert len(dataset.datasets[1]) == 12
    assert about_overlap(records) == []


def test_list_stays_as_it_is_with_a_warning(data, records):
    both = data / 'both.txt'
    names = read_list(data / 'splits/labeled.txt')[:1]
    names += read_list(data / 'splits/unlabeled.txt')
    both.write_text(''.join(f'{name}\n' for name in names))
    images = data / 'leftImg8bit/train'
    dataset = build(data, images, dict(ann_file=str(both)))
    assert names_of(dataset.datasets[1]) == names
    assert about_overlap(records) == [
        (
            'WARNING',
            f'1 of 9 unlabelled images are labelled images, too: {images / names[0]}; '
            f"take them off '{both}', or set leave_out_labeled=False if you want both",
        )
    ]
    records.clear()
    build(data, images, dict(ann_file=str(both)), leave_out_labeled=False)
    unlabeled = dict(ann_file=str(data / 'splits/unlabeled.txt'))
    assert names_of(build(data, images, unlabeled).datasets[1]) == names[1:]
    assert about_overlap(records) == []


def test_same_name_in_another_folder_is_another_image(data, records):
    other = shutil.copytree(data / 'leftImg8bit/train', data / 'other')
    assert len(build(data, other).datasets[1]) == 12
    assert about_overlap(records) == []


def test_links_to_labelled_images_are_found(data):
    """Link to the folder of all images, then to images under other names."""
    images = data / 'leftImg8bit/train'
    folder = data / 'link'
    folder.symlink_to(os.path.relpath(images, data), target_is_directory=True)
    assert len(build(data, folder).datasets[1]) == 8
    labeled, unlabeled = (
        read_list(data / f'splits/{kind}.txt') for kind in ('labeled', 'unlabeled')
    )
    (images / 'a.png').symlink_to(labeled[2])
    (images / 'b.png').symlink_to(unlabeled[2])
    dataset = build(data, images).datasets[1]
    names = names_of(dataset)
    assert sorted(names) == sorted(['b.png', *unlabeled])
    found = [*image_paths(dataset)][names.index('b.png')]
    assert found == str((images / unlabeled[2]).resolve())


def test_paths_below_the_current_folder(data, monkeypatch):
    monkeypatch.chdir(data / 'leftImg8bit/train')
    paths = {str(path.resolve()) for path in Path().rglob('*.png')}
    assert len(paths) == 12
    assert {*image_paths(DATASETS.build(unlabeled_images('')))} == paths


def test_folder_of_labelled_images_alone_raises(data):
    with pytest.raises(ValueError, match=r'all 12 images below .* are labelled images'):
        build(data, data / 'leftImg8bit/train', image_list=None)


class Seen(Hook):
    """Record the unlabelled images of each batch."""

    def __init__(self):
        self.paths = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        samples = data_batch['data_samples']['unsup']
        self.paths += [sample.img_path for sample in samples if sample]


def prepare(data, iterations, workers=0, online=False, **changes):
    """Let all images below one folder, training and validation, be unlabelled."""
    config = reduced('distill_synthscapes', data, {})
    config.update(changes)
    unlabeled = config.train_dataloader.dataset.unlabeled_dataset
    unlabeled.update(ann_file='', data_prefix=dict(img='leftImg8bit/'))
    if online:
        del config.train_dataloader.dataset['pseudo_labels']
        del config.default_hooks['pseudo_labels']
    config.train_dataloader.num_workers = workers
    config.train_cfg.max_iters = iterations
    config.default_hooks.checkpoint.interval = 4
    seen = Seen()
    runner = Runner.from_cfg(config)
    runner.register_hook(seen)
    return runner, seen


def log_of(runner):
    return ''.join(path.read_text() for path in Path(runner.log_dir).glob('*.log'))


@pytest.mark.parametrize('workers', [0, 2])
def test_validation_images_are_neither_labelled_nor_learnt_from(
    workers, data, work_of_adapt, tmp_path, monkeypatch
):
    monkeypatch.chdir(shutil.copytree(work_of_adapt, tmp_path / 'run'))
    images = data / 'leftImg8bit'
    rest = {f'{images}/train/{n}' for n in read_list(data / 'splits/unlabeled.txt')}
    runner, seen = prepare(data, 16, workers)
    runner.train()
    assert set(seen.paths) == rest
    log = log_of(runner)
    assert f"left out 4 of 12 unlabelled images below '{images}/', since they" in log
    assert 'since they are validation images' in log
    assert 'Pseudo-labels of 8 images (8 labelled now)' in log

    # A resumed run draws the same images as one that was never stopped.
    resumed, later = prepare(
        data,
        16,
        workers,
        resume=True,
        load_from='work_dirs/distill_synthscapes/iter_12.pth',
    )
    resumed.train()
    assert later.paths == seen.paths[-len(later.paths) :]
    assert 0 < len(later.paths) < len(seen.paths)


@pytest.mark.parametrize('workers', [0, 2])
def test_validation_images_are_left_out_without_pseudo_labels(
    workers, data, tmp_path, monkeypatch
):
    """Train where no other hook starts the loader again."""
    monkeypatch.chdir(tmp_path)
    images = data / 'leftImg8bit'
    runner, seen = prepare(data, 8, workers, online=True)
    runner.train()
    names = read_list(data / 'splits/unlabeled.txt')
    assert set(seen.paths) == {f'{images}/train/{name}' for name in names}
    assert len(seen.paths) == 8


def test_labelled_validation_images_are_named(
    data, work_of_adapt, tmp_path, monkeypatch
):
    monkeypatch.chdir(shutil.copytree(work_of_adapt, tmp_path / 'run'))
    shutil.rmtree(data / 'leftImg8bit/val')
    (data / 'leftImg8bit/val').symlink_to(data / 'leftImg8bit/train')
    shutil.copy(data / JSON, data / JSON.replace('train', 'val'))
    config = reduced('supervised_synthscapes', data, {})
    config.train_cfg.max_iters = 1
    runner = Runner.from_cfg(config)
    runner.train()
    images = (data / 'leftImg8bit/train').resolve()
    first = read_list(data / 'splits/labeled.txt')[0]
    text = f'4 of 4 labelled images are validation images, too: {images / first}, '
    assert text in log_of(runner)
