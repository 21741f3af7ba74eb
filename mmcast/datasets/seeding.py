"""Random numbers of a sample that depend on its place in the sampler's stream alone.

So sample n of a run is the same for any number of workers, and after a resume.
"""

import random

import numpy as np
import torch


class PlacedIndex(int):
    """A data set's index that knows its place in the stream of all ranks.

    Args:
        index: Index of the sample.
        place: Its place in the stream, from 0.
        seed: Seed of the run.
    """

    place: int
    seed: int

    def __new__(cls, index: int, place: int, seed: int) -> 'PlacedIndex':
        self = super().__new__(cls, index)
        self.place = place
        self.seed = seed
        return self

    def __reduce__(self) -> tuple:  # int's own forgets place and seed
        return PlacedIndex, (int(self), self.place, self.seed)


SAMPLES, MODEL = 1, 2  # streams; trailing zeros of a key do not tell keys apart


def seed_everything(seed: int, stream: int, *key: int) -> None:
    """Seed random, numpy and torch.

    Args:
        seed: Seed of the run.
        stream: ``SAMPLES`` or ``MODEL``, so that the two differ.
        key: Further integers, none negative.
    """
    words = np.random.SeedSequence((seed, stream, *key)).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]) << 32 | int(words[3]))


def seed_sample(index: int) -> None:
    """Seed the random numbers of a sample if its index has a place."""
    if isinstance(index, PlacedIndex):
        seed_everything(index.seed, SAMPLES, index.place)
