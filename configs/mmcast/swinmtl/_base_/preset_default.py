# Cityscapes' 19 classes; depth in metres.
preset = 'default'
preset_root = 'work_dirs/swinmtl'
label_table = 'cityscapes'
num_classes = 19
void = False
iou_metric = dict(type='SemSegMetric', iou_metrics=['mIoU'])
silog = dict()
