# What Guided Distillation sets whatever the network and the data, as published; an
# entry point adds student and teacher.
guided = dict(
    type='SemiSupervisedSegmentor',
    semi_weight=2.0,  # lambda_semi
    query_rule=dict(score_thr=0.7, min_area=5.0),
    strong_view=dict(
        type='StrongView',
        jitter_prob=0.8,
        grayscale_prob=0.2,
        blur_prob=0.5,
        blur_kernel=13,  # three deviations of the widest blur on either side
    ),
)
