# Own data, size full, stage 1: train Grounding-DINO on the labels, SAM 2 not.
_base_ = '../../adapt_ade20k.py'
