_base_ = './teacher_swin_l.py'
model = dict(num_classes=100)
