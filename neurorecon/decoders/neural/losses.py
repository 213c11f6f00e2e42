"""Losses of neural decoders: functions of what a network gave and of what was measured, both standardized or not.

Imported late, as it needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from neurorecon.errors import InputError, UnknownNameError

#: Temperature of contrastive losses: where CLIP's training began (Radford et al., 2021).
TEMPERATURE = 0.07


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error over samples and values."""
    return functional.mse_loss(outputs, targets)


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error over samples and values."""
    return functional.l1_loss(outputs, targets)


def cosine(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return one less the cosine between what was given and what was measured, mean over samples."""
    return (1 - functional.cosine_similarity(_vectors(outputs), _vectors(targets))).mean()


def info_nce(outputs: Tensor, targets: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the contrastive loss: each sample has to be told from the others of its batch, in both directions.

    Repeats of one stimulus in a batch count as different; :func:`soft_clip` knows that they are alike.

    Parameters
    ----------
    outputs, targets : tensor, shape (sample, ...)
        Of the same shape; only directions count, not lengths.
    temperature : float
        What cosines are divided by.

    References
    ----------
    van den Oord, Li & Vinyals (2018). Representation learning with contrastive predictive coding.
    arXiv:1807.03748. In both directions: Radford et al. (2021). Learning transferable visual models from
    natural language supervision. ICML.
    """
    logits = _cosines(outputs, targets) / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def soft_clip(outputs: Tensor, targets: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the contrastive loss that grades confusions by how alike the targets are.

    Parameters
    ----------
    outputs, targets : tensor, shape (sample, ...)
        Of the same shape; only directions count, not lengths.
    temperature : float
        What cosines are divided by.

    References
    ----------
    Scotti et al. (2023). Reconstructing the mind's eye: fMRI-to-image with contrastive learning and diffusion
    priors. NeurIPS. Equation 2.
    """
    wanted = (_cosines(targets, targets) / temperature).softmax(dim=1)
    logits = _cosines(outputs, targets) / temperature
    return (functional.cross_entropy(logits, wanted) + functional.cross_entropy(logits.T, wanted)) / 2


LOSSES = {"mse": mse, "mae": mae, "cosine": cosine, "info_nce": info_nce, "soft_clip": soft_clip}
_CONTRASTIVE = ("info_nce", "soft_clip")


def weights_of_losses(loss: str | Mapping[str, float]) -> dict[str, float]:
    """Return what is to be summed: names of losses with their weights.

    Parameters
    ----------
    loss : str or dict of str to float
        A name, or names with weights.

    Raises
    ------
    UnknownNameError
        Where there is no such loss.
    InputError
        Where a weight is negative, or all are zero.
    """
    weights = {loss: 1.0} if isinstance(loss, str) else dict(loss)
    for name in weights:
        if name not in LOSSES:
            raise UnknownNameError("loss", name, LOSSES)
    if not all(weight >= 0 for weight in weights.values()) or not any(weights.values()):
        raise InputError("weights of losses are 0 or more, and not all 0", given=repr(loss))
    return weights


def weighted_loss(
    outputs: Tensor, targets: Tensor, loss: str | Mapping[str, float] = "mse", temperature: float = TEMPERATURE
) -> Tensor:
    """Return the weighted sum of named losses.

    Parameters
    ----------
    outputs, targets : tensor, shape (sample, ...)
        What the network gave, and what was measured.
    loss : str or dict of str to float
        One of ``"mse"``, ``"mae"``, ``"cosine"``, ``"info_nce"``, ``"soft_clip"``, or several with weights.
    temperature : float
        Of the contrastive losses.
    """
    total = outputs.new_zeros(())
    for name, weight in weights_of_losses(loss).items():
        settings = {"temperature": temperature} if name in _CONTRASTIVE else {}
        total = total + weight * LOSSES[name](outputs, targets, **settings)
    return total


def _vectors(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1)


def _cosines(one: Tensor, other: Tensor) -> Tensor:
    return functional.normalize(_vectors(one)) @ functional.normalize(_vectors(other)).T
