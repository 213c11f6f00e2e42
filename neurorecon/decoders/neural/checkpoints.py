"""Checkpoints of a training run: one file that is replaced as a whole, and says what it belongs to.

safetensors with JSON in its header, never pickle. Imported late, as it needs torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurorecon.errors import InputError, StoreWriteError

#: Version of the layout of the file.
FORMAT = 1
_FILE = "checkpoint.safetensors"


class Checkpoint:
    """The checkpoint in a folder.

    Parameters
    ----------
    folder : path
        Where it lies; made where it is missing.
    identity : dict
        What the run is determined by, in JSON types: parameters and digests of the data. A checkpoint of
        another run is refused.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any]) -> None:
        self.file = Path(folder) / _FILE
        # As it comes back from JSON: tuples are lists there.
        self._identity = json.loads(json.dumps(identity))

    def read(self) -> dict[str, Any] | None:
        """Return the state that was written last, or None where nothing was.

        Raises
        ------
        InputError
            Where the file is damaged, of a newer format, or belongs to another run.
        """
        from safetensors import SafetensorError, safe_open

        if not self.file.exists():
            return None
        try:
            with safe_open(self.file, framework="pt") as opened:
                said = json.loads((opened.metadata() or {})["neurorecon"])
                version, identity, tree = int(said["format"]), said["identity"], said["state"]
                self._check(version, identity)
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            state: dict[str, Any] = _join(tree, tensors)
        except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise InputError(
                "this checkpoint is damaged",
                given=str(self.file),
                expected="the file as training wrote it",
                todo="delete it to train from the beginning",
            ) from error
        return state

    def _check(self, version: int, identity: Mapping[str, Any]) -> None:
        if version > FORMAT:
            raise InputError(
                "this checkpoint was written by a newer version of neurorecon",
                given=f"format {version}",
                expected=f"format {FORMAT} or older",
                todo="update neurorecon, or give another folder",
            )
        names = [name for name in {**identity, **self._identity} if identity.get(name) != self._identity.get(name)]
        if names:
            there = ", ".join(f"{name}={_short(identity.get(name))}" for name in names)
            here = ", ".join(f"{name}={_short(self._identity.get(name))}" for name in names)
            raise InputError(
                "this checkpoint belongs to another training run",
                given=f"{self.file} with {there}",
                expected=here,
                todo="give the data and parameters of that run to go on with it, or another folder to begin anew",
            )

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint: a killed process leaves the old one or the new one, never half of one.

        Parameters
        ----------
        state : dict
            Nested dicts and lists of tensors, numbers, strings and None.
        """
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        said = {"format": FORMAT, "identity": self._identity, "state": _split(state, "state", tensors)}
        part = self.file.with_name(f".{_FILE}.{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            save_file(_apart(tensors), part, metadata={"neurorecon": json.dumps(said)})
            with part.open("rb+") as written:
                os.fsync(written.fileno())
            os.replace(part, self.file)
        except OSError as error:
            raise StoreWriteError(
                "a checkpoint could not be written",
                given=f"{self.file.parent} ({error})",
                todo="make room or choose another folder; the checkpoint before it is kept",
            ) from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what killed processes left half written."""
        for part in self.file.parent.glob(f".{_FILE}.*"):
            part.unlink(missing_ok=True)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _split(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Return a state as JSON types; tensors go to `tensors` and leave their name."""
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, Mapping):
        items = enumerate(value.items())
        return {"dict": [[key, _split(item, f"{path}.{number}", tensors)] for number, (key, item) in items]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_split(item, f"{path}.{number}", tensors) for number, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(
        "the state of this training run cannot be written to disk",
        given=f"a {type(value).__name__} in the optimizer or its schedule",
        expected="tensors, numbers, strings, lists and dicts of them",
        todo="train without checkpoint, or override build_scheduler with one of torch's plain schedules",
    )


def _join(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what :func:`_split` was given."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _join(item, tensors) for key, item in content}
    items = [_join(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the processor, none in the memory of another: safetensors refuses shared weights."""
    found: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().to(torch.device("cpu")).contiguous()
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in places else plain
        places.add(place)
    return found
