# Guided Distillation, stage A on SynthScapes: the teacher of the burn-in, of the
# student's architecture, on the labelled split alone: the baseline by another name.
# Leaves work_dirs/guided_teacher_synthscapes/teacher.pth.
_base_ = './supervised_synthscapes.py'
custom_hooks = [dict(type='StudentExportHook', out='teacher.pth', attr='')]
