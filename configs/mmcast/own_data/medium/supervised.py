# Own data, size medium: train RTMDet-Ins-s, pre-trained on COCO, on the labels alone.
_base_ = './student.py'
