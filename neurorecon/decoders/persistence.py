"""Fitted decoders on disk: a folder with one safetensors file and one JSON file, never pickle."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import neurorecon
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.registry import DECODERS

#: Version of the layout of the folder.
FORMAT = 1
_DESCRIPTION, _ARRAYS = "decoder.json", "arrays.safetensors"


class Persistent:
    """Gives an estimator ``save``, and makes :func:`load_decoder` know its class."""

    #: All classes that can be loaded, by name.
    classes: ClassVar[dict[str, type]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        Persistent.classes[cls.__name__] = cls

    def save(self, path: str | Path, provenance: dict[str, Any] | None = None) -> Path:
        """Write the fitted decoder into a folder.

        Parameters
        ----------
        path : path
            The folder; an older decoder in it is replaced.
        provenance : dict, optional
            Whatever says how the decoder was made (JSON types): store, snapshot, subject, seed.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        InputError
            Where the decoder is not fitted, or a parameter cannot be written as JSON.
        """
        from safetensors.numpy import save

        state = {name: value for name, value in vars(self).items() if name.endswith("_")}
        if not state:
            raise InputError(
                "this decoder is not fitted",
                given=f"an unfitted {type(self).__name__}",
                todo="call fit first",
            )
        parameters: dict[str, Any] = self.get_params(deep=False)  # type: ignore[attr-defined]
        arrays: dict[str, NDArray] = {}
        description: dict[str, Any] = {
            "format": FORMAT,
            "class": type(self).__name__,
            "parameters": {name: _encode(value, f"parameters.{name}", arrays) for name, value in parameters.items()},
            "state": {name: _encode(value, f"state.{name}", arrays) for name, value in state.items()},
            "versions": _versions(),
            "provenance": provenance,
        }
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        payload = save(arrays)
        description["sha256"] = hashlib.sha256(payload).hexdigest()
        _replace(folder / _ARRAYS, payload)
        _replace(folder / _DESCRIPTION, json.dumps(description, indent=1).encode())
        return folder


def load_decoder(path: str | Path) -> Any:
    """Read a decoder that was saved.

    Parameters
    ----------
    path : path
        The folder that ``save`` wrote.

    Returns
    -------
    estimator
        An instance of the class that was saved, fitted, bit for bit. ``provenance_`` is what ``save`` was
        given.

    Raises
    ------
    MissingFileError
        Where the folder or a file of it is not there.
    InputError
        Where a file is damaged or of a newer format.
    """
    from safetensors.numpy import load

    folder = Path(path)
    try:
        text, payload = (folder / _DESCRIPTION).read_bytes(), (folder / _ARRAYS).read_bytes()
    except OSError as error:
        raise MissingFileError(
            "no decoder is saved here",
            given=str(folder),
            expected=f"a folder with {_DESCRIPTION} and {_ARRAYS}",
            todo="check the path; a decoder is written by decoder.save(path)",
        ) from error
    description = _parse(text, folder / _DESCRIPTION)
    if hashlib.sha256(payload).hexdigest() != description["sha256"]:
        raise _damaged(folder / _ARRAYS)
    kind, arrays = _class(description["class"]), load(payload)
    estimator = kind(**{name: _decode(value, arrays) for name, value in description["parameters"].items()})
    vars(estimator).update({name: _decode(value, arrays) for name, value in description["state"].items()})
    estimator.provenance_ = description["provenance"]
    return estimator


def _class(name: str) -> type:
    """Return a class by its name: ours, one that an entry point names, or one that this process has defined."""
    if name in DECODERS.names():
        found: type = DECODERS.load(name)
        return found
    # Classes register themselves when their modules are imported.
    import neurorecon.decoders  # noqa: F401

    if name not in Persistent.classes:
        known = [*DECODERS.names(), *sorted(set(Persistent.classes) - set(DECODERS.names()))]
        raise UnknownNameError("decoder", name, known)
    return Persistent.classes[name]


def _parse(text: bytes, file: Path) -> dict[str, Any]:
    try:
        description = json.loads(text)
        version = int(description["format"])
        complete = {"class", "parameters", "state", "sha256", "provenance"} <= set(description)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(file) from error
    if version > FORMAT:
        raise InputError(
            "this decoder was saved by a newer version of neurorecon",
            given=f"format {version}",
            expected=f"format {FORMAT} or older",
            todo="update neurorecon, or fit the decoder again",
        )
    if not complete:
        raise _damaged(file)
    return description


def _damaged(file: Path) -> InputError:
    return InputError(
        "a file of this decoder is damaged or was cut short",
        given=str(file),
        expected="the file as decoder.save wrote it",
        todo="copy it again, or fit and save the decoder again",
    )


def _replace(file: Path, payload: bytes) -> None:
    """Write a file whole or not at all."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        part.write_bytes(payload)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("numpy", "scipy", "scikit-learn", "himalaya", "torch")
    names = {"neurorecon": neurorecon.__version__, "python": platform.python_version()}
    return names | {package: version(package) for package in packages}


def _encode(value: Any, path: str, arrays: dict[str, NDArray]) -> Any:
    """Return a value as JSON types; arrays go to `arrays` and leave a reference."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OUS":
            return {"strings": value.astype(str).tolist()}
        arrays[path] = np.asarray(value, order="C")
        return {"array": path}
    if isinstance(value, dict):
        items = enumerate(value.items())
        return {"dict": [[_key(key), _encode(item, f"{path}.{number}", arrays)] for number, (key, item) in items]}
    if isinstance(value, slice):
        return {"slice": [None if part is None else int(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, list | tuple | range):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(item, f"{path}.{number}", arrays) for number, item in enumerate(value)]}
    raise InputError(
        "this decoder has a part that cannot be written to disk",
        given=f"{path} of type {type(value).__name__}",
        expected="numbers, strings, arrays, slices, lists and dicts of them",
        todo="give cv as a number of folds, or as a list of (train, test) index arrays",
    )


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise InputError("names have to be strings to be written to disk", given=repr(key))
    return key


def _decode(value: Any, arrays: dict[str, NDArray]) -> Any:
    """Return what :func:`_encode` was given."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "strings":
        return np.array(content, dtype=object)
    if kind == "slice":
        return slice(*content)
    if kind == "dict":
        return {key: _decode(item, arrays) for key, item in content}
    items = [_decode(item, arrays) for item in content]
    return items if kind == "list" else tuple(items)
