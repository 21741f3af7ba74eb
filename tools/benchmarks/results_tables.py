"""The tables of docs/results.md and results_tables.md, and SynthScapes' images."""

import shutil
from pathlib import Path

from results_bench import CONFIGS, Bench
from results_rows import (
    BY_LABELS,
    GUIDED,
    GUIDED_200,
    IMAGES,
    LARGE,
    MORE_LABELS,
    ROWS,
)
from runs import ANNOTATIONS, make_synthscapes

from mmcast.datasets.synthscapes.generate import GENERATOR_VERSION
from mmcast.files import write_atomic

WEIGHTS = CONFIGS / 'weights'
TABLES = {
    'main': (
        'Methods (the paper: Table 1)',
        (
            *('zero_shot_teacher', 'adapted_teacher', 'selftrained_teacher'),
            *('supervised_student', 'supervised_student_twice'),
            *('unguided_student', 'guided_student', 'pseudo_labels_student'),
            *('distilled_student', 'refined_student'),
            *('oracle_student', 'oracle_student_twice'),
        ),
    ),
    'losses': (
        'Losses (the paper: Table 2)',
        (
            *('same_batches_student', 'supervised_student', 'contrast_student'),
            *('pseudo_labels_student', 'distilled_student'),
        ),
    ),
    'stages': (
        'Stages (the paper: Table 3)',
        (
            *('supervised_student', 'zero_shot_labels_student', 'distilled_student'),
            *('selftrained_labels_student', 'refined_student'),
        ),
    ),
    'scores': (
        'Scores of negatives (the paper: Table 4)',
        (
            *('pseudo_labels_student', 'uniform_scores_student', 'mask_scores_student'),
            *('class_scores_student', 'distilled_student'),
        ),
    ),
    'negatives': (
        'Negatives and presets',
        (
            *('distilled_student', 'sampled_negatives_student'),
            *('paper_preset_student', 'research_code_student'),
        ),
    ),
    'thresholds': (
        'Thresholds of the pseudo-labels',
        (
            *('score_thr_0.1_student', 'score_thr_0.3_student'),
            *('score_thr_0.5_student', 'distilled_student', 'score_thr_0.7_student'),
        ),
    ),
    'teachers': (
        'Contrast in the teacher',
        (
            *('zero_shot_teacher', 'adapted_teacher_no_contrast', 'adapted_teacher'),
            *('adapted_teacher_finer_contrast', 'selftrained_teacher_no_contrast'),
            *('selftrained_teacher', 'selftrained_teacher_finer_contrast'),
        ),
    ),
    'composite': (
        'A teacher with a segmenter in small',
        (
            *('adapted_teacher', 'composite_teacher'),
            *('distilled_student', 'composite_labels_student'),
        ),
    ),
    'guidance': (
        'Guided Distillation with 10 and 200 labels',
        (
            *('supervised_student', 'guided_student', *GUIDED),
            *('supervised_student_200', 'guided_student_200', *GUIDED_200),
        ),
    ),
    'large': (
        'A student as large as its teacher, 200 labels',
        ('adapted_teacher_200', *LARGE),
    ),
    'fractions': (
        'More labels (the paper: Table 6)',
        tuple(
            f'{name}{suffix}'
            for suffix in ('', *(f'_{count}' for count in MORE_LABELS))
            for name in BY_LABELS
        ),
    ),
}
DATA = Path('data/synthscapes/target')


def make_data(root: Path, seed: int) -> None:
    """Make a seed's images and lists, unless they are complete.

    Raises:
        RuntimeError: A script failed.
    """
    done = root / DATA / 'splits' / 'done'
    recipe = repr((IMAGES, MORE_LABELS, GENERATOR_VERSION, seed))
    if done.is_file() and done.read_text() != recipe:
        shutil.rmtree(root / DATA)
    if not done.is_file():
        make_synthscapes(root / DATA, **IMAGES, more_labels=MORE_LABELS, seed=seed)
        write_atomic(done, recipe)


def evaluated_on(split: str) -> dict[str, object]:
    return {
        'test_dataloader.dataset.ann_file': ANNOTATIONS.format(split),
        'test_dataloader.dataset.data_prefix.img': f'leftImg8bit/{split}/',
        'test_evaluator.ann_file': DATA / ANNOTATIONS.format(split),
    }


BENCH = Bench(
    name='synthscapes',
    rows=ROWS,
    tables=TABLES,
    regime={
        'oracle student over adapted teacher': (
            *('oracle_student', 'adapted_teacher', 5.0, None),
        ),
        'large oracle student over teacher of 200 labels': (
            *('large_oracle_student', 'adapted_teacher_200', 5.0, None),
        ),
        **{
            f'oracle student over teacher of {count} labels': (
                *('oracle_student', f'adapted_teacher_{count}', 5.0, None),
            )
            for count in MORE_LABELS
        },
        'supervised student, twice as long': (
            *('supervised_student_twice', 'supervised_student', None, 0.5),
        ),
        'adapted teacher over zero-shot': (
            *('adapted_teacher', 'zero_shot_teacher', 5.0, None),
        ),
        'zero-shot teacher': ('zero_shot_teacher', None, 15.0, None),
    },
    make_data=make_data,
    images=IMAGES,
    image_size=(128, 256),
    inputs=(MORE_LABELS, GENERATOR_VERSION),
    options=evaluated_on,
    unlabeled=('--img-root', str(DATA / 'leftImg8bit' / 'train')),
    starts={
        'adapt': (WEIGHTS / 'synthscapes_teacher.pth',),
        'adapt_composite': (
            WEIGHTS / 'synthscapes_segmenter.pth',
            WEIGHTS / 'synthscapes_teacher.pth',
        ),
        'supervised': (WEIGHTS / 'synthscapes_student.pth',),
    },
)
