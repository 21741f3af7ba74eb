"""Run a function on two real ranks of one process group."""

import multiprocessing
import os

import torch

fork = multiprocessing.get_context('fork')


def _on_rank(function, rank, path):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{path}', rank=rank, world_size=2
    )
    torch.distributed.barrier()  # else a rank may leave while the other connects
    function(rank)
    torch.distributed.barrier()
    os._exit(0)  # taking the group down can hang with torch 2.6


def two_ranks(function, tmp_path):
    """Run ``function(rank)`` on two gloo ranks; return their exit codes."""
    processes = [
        fork.Process(
            target=_on_rank, args=(function, rank, tmp_path / 'rendezvous'), daemon=True
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()  # one that hangs would keep pipes of this process open
    assert None not in codes, 'a rank hangs'
    return codes
