"""Results of tasks: a file for each block, written whole or not at all, and read with its digest compared.

A folder belongs to one computation: its name is the digest of everything that goes in (data, settings, code), so what
lies in it can be taken as it is.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Mapping
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.errors import StoreError
from neurorecon.io.files import write_error, write_json
from neurorecon.io.tensors import array_digest, block_digest, combine
from neurorecon.provenance import to_json

#: Where results are kept until they are asked for again, in the folder in which a command runs.
FOLDER = Path(".neurorecon") / "results"

#: Packages whose versions can change a number.
_PACKAGES = ("numpy", "scipy", "scikit-learn", "himalaya", "torch")

#: After which half-written files are deleted: nobody writes for a day.
_FORGOTTEN_SECONDS = 86_400

Arrays = dict[str, np.ndarray]

logger = logging.getLogger("neurorecon")


class Results:
    """Results of blocks, by the name of the block, in memory.

    Where blocks are few and small, or nobody asks for a folder: what is computed here is gone with the process.
    """

    #: Whether another process can read what is here.
    shared = False

    def __init__(self) -> None:
        self._held: dict[str, Arrays] = {}

    def prepare(self) -> None:
        """Make the place where results are kept, where there is one."""

    def has(self, name: str) -> bool:
        """Return whether a block is there, intact."""
        return name in self._held

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep the result of a block."""
        self._held[name] = arrays

    def get(self, name: str) -> Arrays:
        """Return the result of a block."""
        return self._held[name]

    def remove(self, name: str) -> None:
        """Forget a block."""
        self._held.pop(name, None)


class ResultsFolder(Results):
    """Results of blocks in a folder that all workers see.

    Parameters
    ----------
    path : path
        The folder; it is made when the first block is written.
    """

    shared = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()

    @classmethod
    def of(cls, inputs: Mapping[str, Any], parent: str | Path = FOLDER) -> ResultsFolder:
        """Return the folder of a computation.

        Parameters
        ----------
        inputs : mapping
            All that decides its numbers (JSON types): digest of the store, settings, block boundaries. Digests of the
            code and versions of libraries are added.
        parent : path
            Where the folders of all computations lie.
        """
        everything = to_json({**inputs, "code": code_digest(), "libraries": _versions()})
        found = cls(Path(parent) / blake2b(everything.encode(), digest_size=12).hexdigest())
        found._inputs = everything
        return found

    _inputs: str | None = None

    def prepare(self) -> None:
        """Make the folder, and write down what it holds the results of."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for left in self.path.glob(".*.part"):  # by a worker that was killed while it wrote
                if time.time() - left.stat().st_mtime > _FORGOTTEN_SECONDS:
                    left.unlink(missing_ok=True)
            if self._inputs is not None and not (self.path / "inputs.json").exists():
                write_json(self.path / "inputs.json", json.loads(self._inputs))
        except OSError as error:
            raise write_error(self.path, error, "the results cannot be written here") from error

    def has(self, name: str) -> bool:
        """Return whether a block is there, intact; a damaged one is removed, and said so."""
        path = self.path_of(name)
        if not path.is_file():
            return False
        try:
            read_arrays(path)
        except StoreError:
            logger.warning("the result of %s is damaged and is computed again (%s)", name, path.name)
            path.unlink(missing_ok=True)
            return False
        return True

    def put(self, name: str, arrays: Arrays) -> None:
        """Write the result of a block: all of it, or nothing."""
        write_arrays(self.path_of(name), arrays)

    def get(self, name: str) -> Arrays:
        """Read the result of a block.

        Raises
        ------
        StoreError
            Where its file is not there or damaged.
        """
        return read_arrays(self.path_of(name))

    def remove(self, name: str) -> None:
        """Delete the file of a block."""
        self.path_of(name).unlink(missing_ok=True)

    def path_of(self, name: str) -> Path:
        """Return the file of a block."""
        return self.path / f"{re.sub(r'[^A-Za-z0-9_.+-]+', '_', name)}.safetensors"


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write named arrays and their digest into one file, first beside its name and then under it."""
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        save_file(whole, temporary, {"digest": _digest(whole)})
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            raise write_error(path, error, "the result of a block cannot be written") from error
        raise


def read_arrays(path: Path) -> Arrays:
    """Read named arrays, and compare their digest.

    Raises
    ------
    StoreError
        Where the file is missing, cut off, or holds other bytes than were written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            intact = (file.metadata() or {}).get("digest") == _digest(found)
        reason = "its digest differs"
    except (OSError, SafetensorError, ValueError) as error:
        intact, reason = False, str(error).splitlines()[0] if str(error) else type(error).__name__
    if not intact:
        raise StoreError(
            "the result of a block cannot be read",
            given=f"{path} ({reason})",
            expected="a file as it was written, in a folder that all workers see",
            todo="run the same command again: it computes what is damaged or missing",
        )
    return found


class Stored:
    """A result that tasks take as input; it is read where it is used, and never travels.

    Parameters
    ----------
    results : Results
        Where it is.
    name : str
        The block.
    """

    def __init__(self, results: Results, name: str) -> None:
        self.results, self.name = results, name

    def load(self, keep: bool = False) -> Arrays:
        """Return its arrays.

        Parameters
        ----------
        keep : bool
            Keep them for the next task of this process: the last one that was asked for so.
        """
        if not keep or not isinstance(self.results, ResultsFolder):
            return self.results.get(self.name)
        with _LOADING:
            return _loaded(str(self.results.path_of(self.name)))


#: Threads of one worker may want the same input at the same time: it is read once.
_LOADING = threading.Lock()


@functools.lru_cache(maxsize=1)
def _loaded(path: str) -> Arrays:
    return read_arrays(Path(path))


@functools.cache
def code_digest() -> str:
    """Return a digest of all of neurorecon's own code: results of other code are not taken for those of this."""
    folder = Path(__file__).parents[1]
    digest = blake2b(digest_size=16)
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}


def _digest(arrays: Arrays) -> str:
    return combine({name: array_digest(str(a.dtype), a.shape, [block_digest(a)]) for name, a in arrays.items()})
