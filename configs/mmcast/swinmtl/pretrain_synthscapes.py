# Pre-train SwinMTL's encoder on SynthScapes' images without labels, with SimMIM.
# Leaves work_dirs/swinmtl/pretrain_synthscapes/backbone.pth; a SwinMTL starts from it
# with model.backbone.init_cfg=dict(type='Pretrained', checkpoint=FILE).
_base_ = './_base_/simmim_synthscapes.py'
work_dir = 'work_dirs/swinmtl/pretrain_synthscapes'
