# A small Swin V2 for images of 128x256, and what its trainings share.
data_root = 'data/synthscapes/target/'
encoder = dict(
    type='SwinV2',
    arch=dict(
        embed_dims=48,
        depths=[2, 2, 4],
        num_heads=[2, 4, 8],
        extra_norm_every_n_blocks=0,
    ),
    window_size=[8, 8, 8],
    pretrained_window_sizes=[0, 0, 0],
    shift=[True, True, False],
    out_indices=(2,),
    drop_path_rate=0.1,
)
# No change of scale: it would change the depth at which a size is seen.
views = [
    dict(type='ExactRandomCrop', crop_size=(128, 128)),
    dict(type='RandomFlip', prob=0.5),
]
