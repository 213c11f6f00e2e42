"""The first groups of the VDVAE taught once more, from coarse to fine: first what a scene is, then what is where."""

from neurorecon.models.training.gist.described import Described
from neurorecon.models.training.gist.loss import loss
from neurorecon.models.training.gist.network import Learner, begin, make
from neurorecon.models.training.gist.taught import Taught
from neurorecon.models.training.loop import Plan

__all__ = ["PLAN", "Described", "Learner", "Taught", "begin", "loss", "make"]

PLAN = Plan(
    "gist",
    steps=11_000,
    batch=96,
    learning_rate=1.5e-3,
    weight_decay=0.01,
    warmup=300,
    average=0.998,
    clip=1.0,
    hold=0.6,
)
