"""One thread, and a look at the random state that nothing of ours may touch."""

import pickle
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def global_randomness() -> Callable[[], bytes]:
    """`global_randomness()`: the state of torch's, numpy's and python's global generators."""
    return lambda: pickle.dumps((torch.get_rng_state().tolist(), np.random.get_state(), random.getstate()))
