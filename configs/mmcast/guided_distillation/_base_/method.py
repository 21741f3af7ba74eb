# The published settings of Guided Distillation for every network and data set.
_base_ = '../../_base_/default_runtime.py'
root = f'{_base_.student_root}/guided_distillation'
default_hooks = dict(export=dict(out='teacher.pth'))  # of stage A
guided = dict(
    type='SemiSupervisedSegmentor',
    semi_weight=2.0,  # lambda_semi
    query_rule=dict(score_thr=0.7, min_area=5.0),
    strong_view=dict(
        type='StrongView',
        jitter_prob=0.8,
        grayscale_prob=0.2,
        blur_prob=0.5,
        blur_kernel=13,  # three standard deviations of the widest blur, each side
    ),
)
# For stage B. The switch is the default of the published code; its README does not give
# the number of iterations.
teacher_update = dict(type='TeacherUpdateHook', burn_in_iters=50000, momentum=0.9996)
# The log averages the teacher's values over its window, too.
log_processor = dict(mean_pattern=r'.*(loss|time|data_time|grad_norm|teacher_).*')
