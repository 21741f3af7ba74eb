"""Label a share of the images: ``python -I mmcast/sam3/__main__.py < job.json``.

It runs where torch, transformers 5 and pycocotools are, without OpenMMLab, and mmcast
need not be installed there. Each image's outcome is a line of JSON on stdout.
"""

import json
import os
import sys
from pathlib import Path
from types import ModuleType

# Their own `__init__` import OpenMMLab.
PACKAGES = ('mmcast', 'mmcast.datasets', 'mmcast.models')


def open_door() -> None:
    """Make the modules of mmcast that need no OpenMMLab importable.

    Empty packages stand in for those that would import it.
    """
    above = Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        module = ModuleType(name)
        module.__path__ = [str(above.joinpath(*name.split('.')))]
        sys.modules[name] = module


def main() -> None:
    """Read the job from stdin, and label."""
    # What libraries print must not be between the lines.
    out = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    os.environ['HF_HUB_OFFLINE'] = '1'  # all files are given
    open_door()
    from mmcast.sam3.job import Job
    from mmcast.sam3.worker import run

    run(Job(**json.load(sys.stdin)), out)


if __name__ == '__main__':
    main()
