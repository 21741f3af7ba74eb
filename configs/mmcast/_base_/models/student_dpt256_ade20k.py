_base_ = './student_dpt256.py'
model = dict(num_classes=100)
