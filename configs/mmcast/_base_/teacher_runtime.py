# default_runtime.py for the stages that train a teacher: STUDENT and TEACHER
# do not matter.
_base_ = './default_runtime.py'
out = None if _base_.root == 'work_dirs' else _base_.root
default_hooks = dict(export=dict(out='teacher.pth'))
