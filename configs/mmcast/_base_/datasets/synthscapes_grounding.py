# SynthScapes for a composite teacher, which segments the image as it was loaded.
_base_ = ['./synthscapes.py', './grounding_views.py']
test_pipeline = [*_base_.load_and_keep, *_base_.annotate_and_pack]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
