# Mask2Former with ResNet-50 as teacher, pre-trained on COCO's instances, with the pixel
# contrast on the last map (stride 32).
_base_ = './student_r50.py'
weights = 'checkpoints/mask2former_r50_8xb2-lsj-50e_coco_20220506_191028-41b088b6.pth'
made_by = {
    weights: 'mim download mmdet --config mask2former_r50_8xb2-lsj-50e_coco '
    '--dest checkpoints'
}
model = dict(
    backbone=dict(init_cfg=None),
    init_cfg=dict(type='Pretrained', checkpoint=weights),
)
