"""The record of how a result was made from a store; it goes into every file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurorecon.provenance import collect
from neurorecon.store.store import Store


def record_of(
    store: Store, command: str, *, seed: int | None = None, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return how a result is being made from a store.

    Parameters
    ----------
    store : Store
        Its name, snapshot and digest go into the record, and whether its responses are simulated.
    command : str
        The command line or script.
    seed : int, optional
        Seed of everything random.
    settings : mapping, optional
        Further settings, e.g. ``found.settings`` of a map.

    Returns
    -------
    dict
        JSON types only; see :func:`neurorecon.provenance.collect`.
    """
    return collect(
        command,
        store=store.location,
        snapshot=store.snapshot,
        digests={"store": store.digest},
        seed=seed,
        simulated=store.simulated,
        extra=settings,
    )
