# Mask2Former with DPT as pixel decoder, for a backbone that gives a feature pyramid.
_base_ = './mask2former.py'
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    panoptic_head=dict(pixel_decoder=dict(type='DPTPixelDecoder')),
)
