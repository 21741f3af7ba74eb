# What the paper's research code does: 20 classes with 13 void ids as traffic light, and
# depth that is encoded from 1e-4 m and decoded from 1e-3 m.
preset = 'research_code'
preset_root = 'work_dirs/swinmtl_research_code'
label_table = 'cityscapes_research_code'
num_classes = 20
void = True
iou_metric = dict(type='PerImageSemSegMetric')
silog = dict(silog_lambda=0.5, silog_scale=1.0)
