# On COCO, with the next multiple of the patch as the size of all images.
_base_ = './dinov2_s_dpt.py'
network = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(type='BatchFixedSizePad', size=(1036, 1036), pad_mask=True)
        ]
    ),
)
