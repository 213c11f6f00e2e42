"""Our own decoders keep the contract that those of others are held to."""

import pytest

from neurorecon.decoders import (
    BandedRidge,
    CNNDecoder,
    GRUDecoder,
    MLPDecoder,
    NeuralDecoder,
    RidgeDecoder,
    TransformerDecoder,
)
from neurorecon.testing import decoder_checks


class GatedDecoder(NeuralDecoder):
    """The example of docs/extending.md."""

    def __init__(self, width=64, **training):
        super().__init__(**training)
        self.width = width

    def build_network(self, input_shape, target_shape):
        import torch

        from neurorecon.decoders.neural.layers import Heads

        wide = torch.nn.Linear(input_shape[0], 2 * self.width)
        return torch.nn.Sequential(wide, torch.nn.GLU(), Heads(self.width, target_shape))


CHUNKS = {"width": 16, "max_epochs": 25, "batch_size": 8, "learning_rate": 0.02, "hidden": ()}

DECODERS = {
    "ridge": RidgeDecoder([0.1, 1.0, 10.0], cv=3),
    "banded ridge": BandedRidge(alphas=[0.01, 0.1, 1.0], cv=3),
    "GRU": GRUDecoder(4, **CHUNKS),
    "convolutions": CNNDecoder(4, **CHUNKS),
    "transformer": TransformerDecoder(4, **CHUNKS),
    "perceptron that is rescaled": MLPDecoder(
        (), max_epochs=60, batch_size=8, learning_rate=0.03, renorm="train", validation_fraction=0.5
    ),
    "perceptron": MLPDecoder((16,), max_epochs=25, batch_size=8, learning_rate=0.02),
    "the example in the docs": GatedDecoder(32, max_epochs=25, batch_size=8, learning_rate=0.02),
}


@pytest.mark.parametrize("check", decoder_checks(), ids=str)
@pytest.mark.parametrize("name", DECODERS)
def test_contract(name, check):
    check(DECODERS[name])
