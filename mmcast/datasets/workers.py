"""Processes that read images and end with their parent."""

import ctypes
import multiprocessing
import os
import signal
import sys

from mmengine.registry import FUNCTIONS

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


@FUNCTIONS.register_module()
def end_with_parent(worker_id: int = 0) -> None:
    """Let the kernel kill this process when its parent ends, for whatever reason.

    A ``worker_init_fn`` for data loaders. Otherwise a worker of a trainer that was
    killed for memory waits for ever to hand over its batch. Does nothing but on Linux.

    Args:
        worker_id: Of the loader; unused.
    """
    if not sys.platform.startswith('linux'):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():  # it has ended already
        os._exit(1)
