"""mmdet's CityScapesMetric on several machines."""

import os
import socket
import tempfile
from typing import Any

from mmdet.evaluation import CityScapesMetric
from mmdet.registry import METRICS
from mmengine.dist import all_gather_object


@METRICS.register_module()
class SharedCityScapesMetric(CityScapesMetric):
    """``CityScapesMetric`` whose rank 0 finds what the ranks of all machines write.

    mmdet's writes predicted masks to the temporary folder of each machine, and rank 0
    reads them all. With several machines here they go to ``work_dirs``, where all
    machines find the checkpoints, too, and are removed at the end.

    Args:
        kwargs: As for mmdet's ``CityScapesMetric``; ``outfile_prefix`` may be left out.
    """

    tmp_dir: Any  # of mmdet's: a temporary folder, or None

    def __init__(self, outfile_prefix: str | None = None, **kwargs: Any) -> None:
        super().__init__(outfile_prefix, **kwargs)
        machines = {*all_gather_object(socket.gethostname())}
        if self.tmp_dir is None or len(machines) == 1:
            return
        self.tmp_dir.cleanup()
        os.makedirs('work_dirs', exist_ok=True)
        folder = os.path.abspath('work_dirs')
        self.tmp_dir = tempfile.TemporaryDirectory(dir=folder, prefix='.cityscapes.')
        self.outfile_prefix = os.path.join(self.tmp_dir.name, 'results')
        os.makedirs(self.outfile_prefix)
