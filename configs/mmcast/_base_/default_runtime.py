# Settings for every entry point: the plugin, hooks, logging, and three switches.
custom_imports = dict(imports=['mmcast'], allow_failed_imports=False)
default_scope = 'mmdet'

# Switches are environment variables: SPLIT=5pct reads the lists in splits/5pct,
# STUDENT=r50_dpt trains _base_/models/student_r50_dpt.py, STUDENT=FILE.py your own,
# TEACHER=sam3 takes the labels of stage 2 from work_dirs/sam3_DATA/pseudo_labels. A
# run with a switch leaves its files in folders of its own: work_dirs/5pct,
# work_dirs/5pct/r50_dpt, work_dirs/sam3/r50_dpt.
root = 'work_dirs/{{$SPLIT:10pct}}'.removesuffix('/10pct')
student_name = '{{$STUDENT:default}}'.rpartition('/')[2].removesuffix('.py')
teacher_name = '{{$TEACHER:default}}'
switches = [name for name in (teacher_name, student_name) if name != 'default']
student_root = '/'.join([root, *switches])
out = None if student_root == 'work_dirs' else student_root

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    # Metrics belong to an iteration: these runs have no epochs.
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=5000, max_keep_ckpts=2
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    random_state=dict(type='RandomStateHook'),
    skip_invalid_loss=dict(type='SkipInvalidLossHook', patience=10),
    unreadable_images=dict(type='UnreadableImagesHook'),
    visualization=dict(type='DetVisualizationHook'),
    preflight=dict(type='PreflightHook'),
    export=dict(type='ExportHook', out='student.pth'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
