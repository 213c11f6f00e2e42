"""Tensors to be written into files."""

import pytest
import torch


@pytest.fixture
def tensors():
    return {"a": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b": torch.ones(4)}
