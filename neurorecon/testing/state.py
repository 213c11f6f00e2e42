"""What belongs to the process and has to stay as it is: random numbers, threads, settings."""

from __future__ import annotations

import pickle
import random
from importlib.util import find_spec
from typing import Any

import numpy as np


def draw() -> None:
    """Draw from the generators of the process."""
    random.random()
    np.random.random()  # noqa: NPY002  (the global state is what is tested)
    if find_spec("torch") is not None:
        import torch

        torch.rand(1)


def global_state() -> dict[str, Any]:
    """Return all that is compared, by what it is called in messages."""
    state = {
        "the random numbers of Python": random.getstate(),
        "the random numbers of NumPy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "NumPy's handling of errors": np.geterr(),
    }
    if find_spec("torch") is None:
        return state
    import torch

    return {
        **state,
        "the random numbers of torch": torch.get_rng_state().numpy().tobytes(),
        "the number of torch's threads": torch.get_num_threads(),
        "whether torch keeps gradients": torch.is_grad_enabled(),
        "torch's default type": torch.get_default_dtype(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's autocast": torch.is_autocast_enabled("cpu"),
        "the precision of torch's matrix products": torch.get_float32_matmul_precision(),
        "the settings of cuDNN": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark),
    }
