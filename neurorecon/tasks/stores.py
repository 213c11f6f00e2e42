"""A store that travels to workers: by its place and its state, never by its data."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from neurorecon.io.files import is_url
from neurorecon.store.store import Store, open_store


class StoreReference:
    """A store for tasks: here the one that is open, in a worker the same state of it, opened once.

    Parameters
    ----------
    store : Store
        It has to lie where all workers can read it.
    """

    def __init__(self, store: Store) -> None:
        self._store: Store | None = store
        place = store.location
        self.location = place if is_url(place) else os.fspath(Path(place).absolute())
        self.snapshot = store.snapshot

    def open(self) -> Store:
        """Return the store."""
        return _opened(self.location, self.snapshot) if self._store is None else self._store

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": None, "location": self.location, "snapshot": self.snapshot}


@functools.lru_cache(maxsize=4)
def _opened(location: str, snapshot: str | None) -> Store:
    return open_store(location, snapshot=snapshot)
