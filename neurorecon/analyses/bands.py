"""Which targets of a store are the bands of an encoding model: one for each role, unless they are named."""

from __future__ import annotations

from collections.abc import Sequence

from neurorecon.errors import InputError
from neurorecon.store.store import Store

#: What can play each role; where no bands are named, the first that the store holds does. One target a role, because
#: two that say the same share its variance, and neither wins.
ROLES: dict[str, tuple[str, ...]] = {
    "semantic": ("clip_image", "clip_vision", "category"),
    "structure": ("vqvae",),
    "low-level": ("vdvae", "gabor"),
    "motion": ("motion", "optical_flow"),
}


def default_bands(store: Store) -> list[str]:
    """Return the targets that are used where none are named: one for each of :data:`ROLES`, else all of the store."""
    known = store.targets_available
    players = [[name for name in candidates if name in known] for candidates in ROLES.values()]
    return [names[0] for names in players if names] or known


def choose_bands(
    store: Store, bands: Sequence[str] | None, subject: str | None = None, task: str | None = None
) -> list[str]:
    """Return the targets to use as bands.

    Parameters
    ----------
    store : Store
        Where they are.
    bands : sequence of str or None
        Those that the user asks for; None for the default ones.
    subject, task : str, optional
        Of the default bands, those that stimuli of this task lack are left out: images have no motion.

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        Where the store holds no target, or an empty list was asked for.
    UnknownNameError
        For a name that the store does not hold.
    """
    names = list(dict.fromkeys(_defaults_of(store, subject, task) if bands is None else bands))
    if not names:
        raise InputError(
            "there is nothing to predict from",
            given=f"the store {store.name!r}, targets: {', '.join(store.targets_available) or 'none'}",
            expected="at least one target",
            todo="compute one first: neurorecon features --target clip_image",
        )
    for name in names:
        store.target_stimuli(name)  # raises, with the names that exist
    return names


def _defaults_of(store: Store, subject: str | None, task: str | None) -> list[str]:
    names = default_bands(store)
    if subject is None or task is None:
        return names
    samples = store.samples(subject)
    shown = set(samples.loc[samples["task"] == task, "stimulus"])
    defined = [name for name in names if shown <= set(store.target_stimuli(name).tolist())]
    return defined or names  # where none is left, the choice of the task says what is wrong
