"""Optimizers and learning rates over a training run, by name. Imported late, as it needs torch."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from neurorecon.errors import InputError, UnknownNameError

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
SCHEDULES = ("constant", "linear", "cosine", "exponential", "one_cycle")


def named_optimizer(
    name: str, network: nn.Module, learning_rate: float, weight_decay: float, momentum: float
) -> Optimizer:
    """Return an optimizer of all weights that are trained.

    Vectors (biases, gains of normalizations) are not decayed, as the intercept of a ridge regression is not.

    Parameters
    ----------
    name : {"adamw", "adam", "sgd"}
        "adamw" decays weights beside the gradient, the other two through it: there it is a penalty of
        ``weight_decay / 2`` times the sum of squares, added to the loss.
    network : Module
        Whose weights.
    learning_rate, weight_decay : float
        As in torch.
    momentum : float
        Of "sgd"; above 0 it is Nesterov's.
    """
    if name not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("this network has no weights to train", given=type(network).__name__)
    groups = [
        {"params": [weights for weights in trained if weights.ndim > 1], "weight_decay": weight_decay},
        {"params": [weights for weights in trained if weights.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0)
    return OPTIMIZERS[name](groups, lr=learning_rate)


def named_schedule(name: str, optimizer: Optimizer, n_steps: int, warmup: float) -> lr_scheduler.LRScheduler:
    """Return a schedule of the learning rate, stepped after each batch.

    Parameters
    ----------
    name : {"constant", "linear", "cosine", "exponential", "one_cycle"}
        After the warm-up: unchanged; down to 0 in a line or along a cosine; down to a thousandth by the same
        factor each step. "one_cycle" rises and falls along cosines (Smith & Topin, 2019).
    optimizer : Optimizer
        Its learning rates are the highest.
    n_steps : int
        Batches of the whole run.
    warmup : float
        Share of the steps in which the learning rate rises in a line.
    """
    if name not in SCHEDULES:
        raise UnknownNameError("schedule", name, SCHEDULES)
    if not 0 <= warmup < 1:
        raise InputError("warmup is a share of the training", given=warmup, expected="0 or more, below 1")
    highest = [group["lr"] for group in optimizer.param_groups]
    rising = round(warmup * n_steps)
    if name == "one_cycle":
        share = warmup or 0.3
        # Momentum stays as it is: Adam's is part of its estimates.
        return lr_scheduler.OneCycleLR(optimizer, highest, total_steps=n_steps, pct_start=share, cycle_momentum=False)
    falling = max(1, n_steps - rising)
    after = _after(name, optimizer, falling)
    if not rising:
        return after
    before = lr_scheduler.LinearLR(optimizer, 1 / (rising + 1), 1.0, total_iters=rising)
    return lr_scheduler.SequentialLR(optimizer, [before, after], milestones=[rising])


def _after(name: str, optimizer: Optimizer, n_steps: int) -> lr_scheduler.LRScheduler:
    if name == "linear":
        return lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=n_steps)
    if name == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_steps)
    if name == "exponential":
        return lr_scheduler.ExponentialLR(optimizer, 0.001 ** (1 / n_steps))
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)
