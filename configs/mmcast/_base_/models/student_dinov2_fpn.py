# CAST, Table 5: DINOv2-S with an FPN in place of DPT.
_base_ = './student_dpt256.py'
model = dict(panoptic_head=dict(pixel_decoder=dict(type='FPNPixelDecoder')))
