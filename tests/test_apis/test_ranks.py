"""Test work on several ranks."""

from datetime import timedelta

import pytest
import torch.distributed
from gloo_ranks import two_ranks

from mmcast.apis.ranks import from_all_ranks, on_rank_zero, raise_on_all_ranks


def one_fails():
    if torch.distributed.get_rank() == 1:
        raise OSError('disk full')


def test_values_and_errors_reach_every_rank(tmp_path):
    def work(rank):
        assert from_all_ranks(rank) == [0, 1]
        assert on_rank_zero(lambda: f'of {rank}') == 'of 0'
        kind = OSError if rank else RuntimeError
        with pytest.raises(kind, match='disk full'):
            raise_on_all_ranks(one_fails)

    assert two_ranks(work, tmp_path) == [0, 0]


def test_ranks_wait_in_one_group_that_has_hours(tmp_path):
    """NCCL would end those that wait for 10 minutes for another one to label."""

    def work(rank):
        made = []
        new_group = torch.distributed.new_group

        def recorded(**options):
            made.append(options)
            return new_group(**options)

        torch.distributed.new_group = recorded
        for _ in range(2):
            on_rank_zero(lambda: None)
        (options,) = made
        assert options['backend'] == 'gloo'
        assert options['timeout'] > timedelta(days=7)

    assert two_ranks(work, tmp_path) == [0, 0]


def test_a_single_process_needs_no_group():
    assert from_all_ranks(3) == [3]
    assert on_rank_zero(lambda: 4) == 4
