"""The rows of docs/results.md, on SynthScapes."""

from dataclasses import replace

from results_bench import (
    LABELED,
    LABELLER,
    PSEUDO_LABELS,
    TAKE_OVER,
    UNLABELED,
    Row,
)

IMAGES = dict(train=2000, val=200, test=100, labeled=10)
MORE_LABELS = (100, 200, 400, 600)  # the paper's 5, 10, 20 and 30 %
# With these, half of a batch is labelled. Ten images would be learnt by heart.
EQUAL_PARTS = {
    'train_dataloader.sampler.source_ratio': [1, 1],
    'model.semi_weight': 1.0,
}
SCORE_THR = f'{PSEUDO_LABELS}score_thr'
CONTRAST = 'model.student.pixel_contrast.'
NMS_THR = 'model.nms_thr'


def teacher(title: str, config: str | None, judge: str = 'adapt', **kwargs) -> Row:
    return Row(title, config, file='teacher.pth', judge=judge, **kwargs)


def distilled(title: str, options: dict | None = None, **kwargs) -> Row:
    return Row(
        title,
        'distill',
        options or {},
        {LABELLER: kwargs.pop('labels', 'adapted_teacher')},
        **kwargs,
    )


def guided(title: str, stage_a: str | None, **kwargs) -> Row:
    config = 'guided_distillation/distill'
    if stage_a is None:
        options = {
            'default_hooks.teacher_update.guided': False,
            'model.teacher.checkpoint': None,
        }
        return Row(title, config, options, **kwargs)
    return Row(title, config, {}, {'model.teacher.checkpoint': stage_a}, **kwargs)


NO_CONTRAST = {'model.student.pixel_contrast': None}
ALL_LABELS = {LABELED: None, 'train_dataloader.batch_size': 8}
ROWS = {
    'zero_shot_teacher': teacher('teacher, zero-shot', None),
    'adapted_teacher': teacher(
        'teacher, adapted on labels', 'adapt', against='zero_shot_teacher'
    ),
    'selftrained_teacher': teacher(
        'teacher, self-trained',
        'selftrain',
        reads={LABELLER: 'adapted_teacher'},
        against='adapted_teacher',
        paper=30.5,
    ),
    'composite_teacher': teacher(
        'the same with a segmenter in small',
        *('adapt_composite', 'adapt_composite'),
        against='adapted_teacher',
    ),
    'supervised_student': Row('student on labels alone', 'supervised', paper=21.1),
    'supervised_student_twice': Row(
        'the same, twice as long',
        'supervised',
        against='supervised_student',
        share=2.0,
    ),
    'unguided_student': guided(
        'Guided Distillation without guidance', None, against='supervised_student'
    ),
    'guided_student': guided(
        'Guided Distillation',
        'supervised_student',
        against='supervised_student',
        paper=30.8,
    ),
    'pseudo_labels_student': distilled(
        'labels and pseudo-labels',
        NO_CONTRAST,
        against='supervised_student',
        paper=30.7,
    ),
    'distilled_student': distilled(
        'CAST, distilled: + contrast', against='pseudo_labels_student', paper=32.2
    ),
    'distilled_student_twice': distilled(
        'the same, twice as long', against='supervised_student_twice', share=2.0
    ),
    'composite_labels_student': distilled(
        'labels of the teacher with a segmenter',
        labels='composite_teacher',
        against='distilled_student',
    ),
    'refined_student': Row(
        'CAST, refined',
        'finetune',
        reads={'load_from': 'distilled_student'},
        against='distilled_student',
        paper=33.9,
    ),
    'refined_student_twice': Row(
        'CAST, refined after twice as long',
        'finetune',
        reads={'load_from': 'distilled_student_twice'},
        against='distilled_student_twice',
    ),
    'oracle_student': Row(
        'student on the true labels of all images',
        'supervised',
        ALL_LABELS,
        against='adapted_teacher',
    ),
    'oracle_student_twice': Row(
        'the same, twice as long',
        'supervised',
        ALL_LABELS,
        against='oracle_student',
        share=2.0,
    ),
    'same_batches_student': distilled(
        'labels alone, the same batches', {**NO_CONTRAST, 'model.semi_weight': 0.0}
    ),
    'contrast_student': distilled(
        'labels and contrast',
        # The config's contrast is a tenth of a sum over eight images; here is one.
        {'model.semi_weight': 0.0, f'{CONTRAST}loss.loss_weight': 0.1},
        against='same_batches_student',
        paper=27.5,
    ),
    'zero_shot_labels_student': distilled(
        'without adaptation',
        labels='zero_shot_teacher',
        against='distilled_student',
    ),
    'selftrained_labels_student': distilled(
        'with self-training',
        labels='selftrained_teacher',
        against='distilled_student',
    ),
    **{
        f'{score}_scores_student': distilled(
            f'{score} scores',
            {f'{CONTRAST}loss.score': score},
            against='pseudo_labels_student',
            paper=paper,
        )
        for score, paper in (('uniform', 29.4), ('mask', 30.6), ('class', 31.1))
    },
    'sampled_negatives_student': distilled(
        'default, sampled negatives',
        {f'{CONTRAST}loss.negatives': 'sampled'},
        against='distilled_student',
    ),
    'paper_preset_student': distilled(
        'preset paper', {f'{CONTRAST}preset': 'paper'}, against='distilled_student'
    ),
    'research_code_student': distilled(
        'preset research_code',
        {
            f'{CONTRAST}preset': 'research_code',
            f'{CONTRAST}loss.temperature.start': 0.3,
            f'{CONTRAST}loss.temperature.end': 0.07,
            f'{CONTRAST}loss.temperature.iters': '{iterations}',
        },
        against='distilled_student',
    ),
    'adapted_teacher_no_contrast': teacher(
        'teacher, adapted without contrast',
        'adapt',
        options={'model.pixel_contrast': None},
        against='zero_shot_teacher',
    ),
    'adapted_teacher_finer_contrast': teacher(
        'teacher, adapted with the contrast at stride 8',
        'adapt',
        options={
            'model.pixel_contrast.in_index': 1,
            'model.pixel_contrast.in_channels': 64,
        },
        against='zero_shot_teacher',
    ),
    'selftrained_teacher_no_contrast': teacher(
        'teacher, self-trained without contrast',
        'selftrain',
        options=NO_CONTRAST,
        reads={LABELLER: 'adapted_teacher'},
        against='adapted_teacher',
    ),
    'selftrained_teacher_finer_contrast': teacher(
        'teacher, self-trained with the contrast at stride 8',
        'selftrain',
        options={f'{CONTRAST}in_index': 1, f'{CONTRAST}in_channels': 64},
        reads={LABELLER: 'adapted_teacher'},
        against='adapted_teacher',
    ),
    **{
        f'score_thr_{thr}_student': distilled(
            f'labels above {thr}', {SCORE_THR: thr}, against='distilled_student'
        )
        for thr in (0.1, 0.3, 0.5, 0.7)
    },
}
BY_LABELS = (
    *('adapted_teacher', 'supervised_student', 'supervised_student_twice'),
    *('guided_student', 'pseudo_labels_student', 'distilled_student'),
    *('distilled_student_twice', 'refined_student', 'refined_student_twice'),
)


def with_labels(name: str, count: int) -> Row:
    """Return a row of the main table with another number of labelled images."""
    row = ROWS[name]
    changes: dict[str, object] = {LABELED: f'splits/{count}img/labeled.txt'}
    if row.config == 'supervised':
        changes['train_dataloader.batch_size'] = 8  # as the other students have
    # Guided Distillation labels all images and has no list of unlabelled ones.
    if LABELLER in row.reads:
        changes[UNLABELED] = f'splits/{count}img/unlabeled.txt'
        changes |= EQUAL_PARTS
        if name != 'pseudo_labels_student':
            # Beside the sum of two means, as in the paper.
            changes[f'{CONTRAST}loss.loss_weight'] = 0.1
    against = row.against
    if name == 'distilled_student':
        against = 'adapted_teacher'
    if against and against != 'zero_shot_teacher':
        against = f'{against}_{count}'
    return replace(
        row,
        title=f'{row.title}, {count} labels',
        options={**row.options, **changes},
        # At least 300 iterations, and six passes: the config's 30 are for 10 labels.
        share=max(10.0, count / 20) if name == 'adapted_teacher' else row.share,
        labels=count,
        reads={key: f'{read}_{count}' for key, read in row.reads.items()},
        against=against,
        paper=None,
    )


ROWS = {
    name: row if LABELED in row.options else replace(row, labels=IMAGES['labeled'])
    for name, row in ROWS.items()
}
ROWS |= {
    f'{name}_{count}': with_labels(name, count)
    for count in MORE_LABELS
    for name in BY_LABELS
}
# Guided Distillation: when the average takes over (the config: after 1,111 of 2,000
# iterations), longer training, and labels without duplicates.
GUIDANCE = (
    ('frozen', 'the teacher never follows', {TAKE_OVER: None}, 1.0),
    ('early', 'the average takes over after 17 %', {TAKE_OVER: 340}, 1.0),
    ('late', 'the average takes over after 90 %', {TAKE_OVER: 1800}, 1.0),
    (
        'passed',
        'the average takes over when the student is better',
        {
            TAKE_OVER: 0,
            'default_hooks.teacher_update.burn_in_metric': 'coco/segm_mAP',
            'train_cfg.val_interval': 100,
            'train_cfg.val_begin': 100,
        },
        1.0,
    ),
    ('nms', 'no two labels with an IoU above 0.5', {NMS_THR: 0.5}, 1.0),
    (
        'both',
        'the two together: frozen, no duplicates',
        {TAKE_OVER: None, NMS_THR: 0.5},
        1.0,
    ),
    ('long', 'four times as long', {}, 4.0),
)


def guidance(labels: str) -> dict[str, Row]:
    """Return the rows over ``guided_student``; ``labels`` is '', or as '_200'."""
    base = ROWS[f'guided_student{labels}']
    return {
        f'guided_{name}_student{labels}': replace(
            base,
            title=title,
            options={**base.options, **options},
            against=f'guided_student{labels}',
            share=share,
            paper=None,
        )
        for name, title, options, share in GUIDANCE
    }


GUIDED, GUIDED_200 = guidance(''), guidance('_200')
ROWS |= {**GUIDED, **GUIDED_200}
# A student as large as its teacher, which can learn more than a teacher of 200 labels
# knows. It sees 8,000 images, half as many as the others, in batches of the same size.
LARGE = {
    'large_oracle_student': teacher(
        'student as large as the teacher, on the true labels of all images',
        'adapt',
        options=ALL_LABELS,
        against='adapted_teacher_200',
        share=1000 / 30,
    ),
    'large_supervised_student_200': replace(
        ROWS['adapted_teacher_200'],
        title='student as large as the teacher, 200 labels alone',
        options={
            **ROWS['adapted_teacher_200'].options,
            'train_dataloader.batch_size': 8,
        },
        against='adapted_teacher_200',
        share=1000 / 30,
    ),
    'large_distilled_student_200': teacher(
        'student as large as the teacher, distilled, 200 labels',
        'selftrain',
        options=ROWS['distilled_student_200'].options,
        reads={LABELLER: 'adapted_teacher_200'},
        against='adapted_teacher_200',
        labels=200,
        share=1000 / 300,
    ),
}
ROWS |= LARGE
