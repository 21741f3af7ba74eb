# Guided Distillation, stage A on SynthScapes: train the teacher of the burn-in, with
# the student's architecture, on the labelled split alone. It is the baseline,
# supervised_synthscapes.py, under another name.
# Leaves work_dirs/guided_distillation/teacher_synthscapes/teacher.pth.
_base_ = [
    '../_base_/models/student_synthscapes.py',
    '../_base_/datasets/synthscapes.py',
    '../_base_/schedules/synthscapes.py',
    './_base_/method.py',
]
model = dict(pixel_contrast=None)
work_dir = f'{_base_.root}/teacher_synthscapes'
