# Own data, size full: train Grounding-DINO again, with pseudo-labels.
_base_ = '../../selftrain_ade20k.py'
