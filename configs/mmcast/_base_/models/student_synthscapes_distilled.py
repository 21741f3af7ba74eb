# SynthScapes' student where a batch's loss is the sum over 8 images: 8 x 0.1 for the
# contrast.
_base_ = './student_synthscapes.py'
model = dict(pixel_contrast=dict(loss=dict(loss_weight=0.8)))
