"""A labelling process with a stand-in for SAM 3, and without OpenMMLab.

An image's instances follow from its pixels. A prompt of "out of memory" fails.
"""

import json
import os
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace

for name in ('mmcv', 'mmdet', 'mmengine', 'mmpretrain', 'transformers'):
    sys.modules[name] = None  # an import of it fails

PACKAGE = Path(__file__).resolve().parents[1] / 'mmcast'
names = runpy.run_path(str(PACKAGE / 'sam3/__main__.py'), run_name='door')
names['open_door']()

import torch  # noqa: E402

from mmcast.sam3.job import Job  # noqa: E402
from mmcast.sam3.worker import run  # noqa: E402


def load(job):
    def label(image, min_score, max_instances):
        if job.prompts[0] == 'out of memory':
            raise RuntimeError('CUDA out of memory. Tried to allocate 20.00 MiB')
        if not image.any():
            raise IndexError('all is black')
        time.sleep(float(os.environ.get('SECONDS', 0)))
        masks = torch.stack([torch.from_numpy(image[..., i]) > 128 for i in range(2)])
        size = torch.tensor([0.0, 0.0, image.shape[1], image.shape[0]])
        return SimpleNamespace(
            labels=torch.tensor([1, 0]),
            scores=torch.tensor([0.9, image.mean() / 255]),
            boxes=size.repeat(2, 1),
            masks=masks,
            qualities=torch.tensor([0.8, 0.7]),
        )

    return label


out = os.fdopen(os.dup(1), 'w')
os.dup2(2, 1)
run(Job(**json.load(sys.stdin)), out, load)
