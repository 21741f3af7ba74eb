# This package's hooks, for a config that has mmdet's own ones.
mmcast_hooks = dict(
    random_state=dict(type='RandomStateHook'),
    skip_invalid_loss=dict(type='SkipInvalidLossHook', patience=10),
    unreadable_images=dict(type='UnreadableImagesHook'),
    preflight=dict(type='PreflightHook'),
    export=dict(type='ExportHook', out='student.pth'),
)
