"""The rows of docs/photographs.md, on Clothing Co-Parsing."""

from dataclasses import replace
from pathlib import Path

from results_bench import LABELED, LABELLER, PSEUDO_LABELS, UNLABELED, Bench, Row
from runs import digest

from mmcast.files import write_atomic

LABELS = (60, 30, 180)  # the first one has no number in its rows' names
DATA = Path('data/ccp')
NO_CONTRAST = {'model.pixel_contrast': None}
# Scores of merged views are lower. Both thresholds are near the best F1 of the labels
# on `val`.
ONE_VIEW = {
    'default_hooks.pseudo_labels.views': None,
    f'{PSEUDO_LABELS}score_thr': 0.6,
}


def of(name: str, count: int) -> str:
    """Return the name of a row with a number of labels."""
    return name if count == LABELS[0] else f'{name}_{count}'


def rows_with(count: int) -> dict[str, Row]:
    """Return the rows with a number of labels, by name."""
    labeled = {LABELED: f'splits/{count}_{{seed}}/labeled.txt'}
    both = {**labeled, UNLABELED: f'splits/{count}_{{seed}}/unlabeled.txt'}
    supervised, adapted = of('supervised_student', count), of('adapted_teacher', count)
    pseudo, distilled = (
        of('pseudo_labels_student', count),
        of('distilled_student', count),
    )
    guided = 'guided_distillation/distill'
    twice = of('supervised_student_twice', count)
    unguided = {
        'default_hooks.teacher_update.guided': False,
        'model.teacher.checkpoint': None,
    }
    teacher = dict(file='teacher.pth', judge='adapt')
    start = {'model.student.init_cfg.checkpoint': supervised}
    by_teacher = {**start, LABELLER: adapted}
    rows = {
        'supervised_student': Row('student on labels alone', 'supervised', labeled),
        'supervised_student_twice': Row(
            *('the same, twice as long', 'supervised', labeled),
            against=supervised,
            share=2.0,
        ),
        'continued_student': Row(
            'the same, trained on as long as the distilled one',
            'supervised',
            {**labeled, 'optim_wrapper.optimizer.lr': 7e-4},
            {'load_from': supervised},
            against=supervised,
        ),
        'adapted_teacher': Row(
            'teacher, adapted on labels',
            'adapt',
            labeled,
            against=supervised,
            **teacher,
        ),
        'adapted_teacher_views': Row(
            'its labels, four views merged',
            None,
            reads={LABELLER: adapted},
            against=adapted,
            views=True,
            **teacher,
        ),
        'selftrained_teacher': Row(
            'teacher, self-trained',
            'selftrain',
            both,
            {LABELLER: adapted},
            against=adapted,
            views=True,
            **teacher,
        ),
        'plain_labels_student': Row(
            'labels and pseudo-labels of one view',
            'distill',
            {**both, **NO_CONTRAST, **ONE_VIEW},
            by_teacher,
            against=of('continued_student', count),
        ),
        'pseudo_labels_student': Row(
            'labels and pseudo-labels',
            'distill',
            {**both, **NO_CONTRAST},
            by_teacher,
            against=of('continued_student', count),
            views=True,
        ),
        'distilled_student': Row(
            'CAST, distilled: + contrast',
            *('distill', both, by_teacher),
            against=pseudo,
            views=True,
        ),
        'refined_student': Row(
            'CAST, refined',
            *('finetune', labeled, {'load_from': distilled}),
            against=distilled,
        ),
        'second_round_student': Row(
            "second round: the student's own labels",
            *('distill', {**both, **NO_CONTRAST}, {**start, LABELLER: pseudo}),
            against=pseudo,
            views=True,
        ),
        'unguided_student': Row(
            'Guided Distillation without guidance',
            *(guided, {**both, **unguided}),
            against=twice,
            share=2.0,
        ),
        'guided_student': Row(
            'Guided Distillation',
            *(guided, both, {'model.teacher.checkpoint': supervised}),
            against=twice,
            share=2.0,  # from ImageNet's weights, with 2 labelled images in a batch
        ),
    }
    return {of(name, count): replace(row, labels=count) for name, row in rows.items()}


ROWS = {name: row for count in LABELS for name, row in rows_with(count).items()}
ROWS |= {
    'random_student': Row(
        'student on labels alone, from random weights',
        'supervised',
        {
            LABELED: f'splits/{LABELS[0]}_{{seed}}/labeled.txt',
            'model.backbone.init_cfg': None,
            'model.backbone.frozen_stages': -1,
            'model.backbone.norm_eval': False,
        },
        against='supervised_student',
        labels=LABELS[0],
    ),
    'oracle_student': Row(
        'student on the true labels of 604 photographs',
        'supervised',
        {LABELED: None},
        against='adapted_teacher',
    ),
}
MAIN = (
    *('supervised_student', 'supervised_student_twice', 'continued_student'),
    'random_student',
    *('adapted_teacher', 'adapted_teacher_views', 'selftrained_teacher'),
    *('plain_labels_student', 'pseudo_labels_student', 'distilled_student'),
    *('refined_student', 'second_round_student'),
    *('unguided_student', 'guided_student', 'oracle_student'),
)
# In the order of what they are worth, if the hours end early.
BY_LABELS = (
    *('supervised_student', 'continued_student', 'adapted_teacher'),
    *('adapted_teacher_views', 'pseudo_labels_student', 'distilled_student'),
    *('refined_student', 'supervised_student_twice', 'guided_student'),
)


def make_data(root: Path, seed: int) -> None:
    """Link a seed's folder to the photographs.

    Raises:
        RuntimeError: They are not there, or not those of this folder's results.
    """
    if not (DATA / 'annotations' / 'train.json').is_file():
        raise RuntimeError(
            f'{DATA} has no photographs: make them with tools/dataset_converters/ccp.py'
        )
    link, seen = root / DATA, root / 'data' / 'ccp.sha256'
    lists = (DATA / 'splits').glob(f'*_{seed}/*.txt')
    found = digest(*sorted((DATA / 'annotations').glob('*.json')), *sorted(lists))
    if seen.is_file() and seen.read_text() != found:
        raise RuntimeError(
            f'{DATA} has other annotations or lists than the results in {root.parent}: '
            'give another folder as --out'
        )
    write_atomic(seen, found)
    if link.is_symlink():
        link.unlink()  # the photographs may have been moved
    if not link.exists():
        link.symlink_to(DATA.resolve(), target_is_directory=True)


def evaluated_on(split: str) -> dict[str, object]:
    return {
        'test_dataloader.dataset.ann_file': f'annotations/{split}.json',
        'test_dataloader.dataset.data_prefix.img': f'images/{split}/',
        'test_evaluator.ann_file': DATA / 'annotations' / f'{split}.json',
    }


BENCH = Bench(
    name='ccp',
    rows=ROWS,
    tables={
        'main': ('60 labels', MAIN),
        **{
            f'labels_{count}': (
                f'{count} labels',
                tuple(of(name, count) for name in BY_LABELS),
            )
            for count in LABELS[1:]
        },
    },
    regime={
        **{
            f'oracle student over teacher, {count} labels': (
                *('oracle_student', of('adapted_teacher', count), 0.0, None),
            )
            for count in LABELS
        },
        **{
            f'teacher over labels alone, {count} labels': (
                of('adapted_teacher', count),
                *(of('supervised_student', count), 0.0, None),
            )
            for count in LABELS
        },
        'labels alone, twice as long': (
            *('supervised_student_twice', 'supervised_student', None, 0.5),
        ),
    },
    make_data=make_data,
    images=dict(train=604, val=100, test=300, unlabeled=600),
    image_size=(384, 255),
    options=evaluated_on,
    # The list is the same for each number of labels.
    unlabeled=(
        *('--img-root', 'data/ccp/images/train'),
        *('--list', 'data/ccp/splits/60_{seed}/unlabeled.txt'),
    ),
)
