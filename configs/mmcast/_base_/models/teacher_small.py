# The student's detector with wider heads.
_base_ = './student_small.py'
model = dict(
    roi_head=dict(
        bbox_head=dict(fc_out_channels=512),
        mask_head=dict(num_convs=3, conv_out_channels=96),
    ),
)
