"""Our generators keep the contract, and the contract finds those that do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurorecon.errors import InputError
from neurorecon.generators.base import Generator
from neurorecon.generators.latent_diffusion import AutoencoderGenerator, LatentDiffusion
from neurorecon.generators.vdvae import VdvaeGenerator
from neurorecon.models.load import load_vdvae
from neurorecon.testing import ContractError, check_generator, generator_checks


def conditions_of(*names):
    random = np.random.default_rng(0)
    shapes = {"text": (40, 128), "image": (65, 128), "init": (64, 64, 3), "latents": (6, 16, 16)}
    drawn = {name: random.standard_normal((5, *shapes[name])).astype(np.float32) for name in names}
    return {name: np.clip(0.2 * values + 0.5, 0, 1) if name == "init" else values / 3 for name, values in drawn.items()}


def latents(groups):
    count = load_vdvae()[0].group_boundaries(groups)[-1]
    return {"latents": np.random.default_rng(0).standard_normal((5, count)).astype(np.float32)}


CASES = {
    "text": (LatentDiffusion(steps=3, device="cpu"), conditions_of("text", "init")),
    "both": (LatentDiffusion("both", steps=3, device="cpu", eta=1.0), conditions_of("text", "image", "init")),
    "latents": (LatentDiffusion(steps=2, device="cpu", guidance=1.0), conditions_of("text", "latents")),
    "ancestral": (
        LatentDiffusion(steps=2, device="cpu", scheduler="EulerAncestralDiscreteScheduler"),
        conditions_of("text"),
    ),
    "autoencoder": (AutoencoderGenerator(device="cpu"), conditions_of("latents")),
    "vdvae": (VdvaeGenerator(device="cpu"), latents(10)),
    "vdvae, drawn": (VdvaeGenerator(device="cpu", temperature=1.0, pixels="sample"), latents(5)),
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers' Euler schedulers
@pytest.mark.parametrize("check", generator_checks(), ids=str)
@pytest.mark.parametrize("case", CASES)
def test_contract(case, check):
    check(*CASES[case])


class Shades(Generator):
    """A gray image of one condition, plus noise."""

    name = "shades"
    weights = ()
    conditions = {"gray": ()}  # noqa: RUF012
    image_shape = (4, 4, 3)
    dtype = "float32"
    device = "cpu"

    def __init__(self, batch_size=None):
        self.batch_size = batch_size

    def make(self, stimuli, conditions, seed):
        given = conditions.get("gray", torch.zeros(len(stimuli)))
        return given[:, None, None, None].expand(-1, 3, 4, 4)


class DependsOnTheBatch(Shades):
    def make(self, stimuli, conditions, seed):
        return super().make(stimuli, conditions, seed) - 0.1 * len(stimuli)


class Drawn(Shades):
    def make(self, stimuli, conditions, seed):
        return super().make(stimuli, conditions, seed) + 0.1 * torch.rand(1)


class Deaf(Shades):
    def make(self, stimuli, conditions, seed):
        return torch.zeros(len(stimuli), 3, 4, 4)


GRAYS = {"gray": np.linspace(0.5, 1, 6, dtype=np.float32)}


def test_a_simple_generator_keeps_it():
    assert len(check_generator(Shades(), GRAYS)) == len(generator_checks())


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [(DependsOnTheBatch, "may not depend"), (Drawn, "same bits"), (Deaf, "has to change the images")],
)
def test_what_breaks_it_is_found(kind, sentence):
    with pytest.raises(ContractError, match=sentence):
        check_generator(kind(), GRAYS)


def test_too_few_examples_are_refused():
    with pytest.raises(InputError, match="four or more"):
        check_generator(Shades(), {"gray": np.zeros(2)})
