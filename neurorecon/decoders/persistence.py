"""Fitted decoders on disk: a folder with one safetensors file and one JSON file, never pickle."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any, ClassVar

import neurorecon
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io import tensors
from neurorecon.io.files import write_bytes
from neurorecon.registry import DECODERS

#: Version of the layout of the folder.
FORMAT = 1
_DESCRIPTION, _ARRAYS = "decoder.json", "arrays.safetensors"

#: Classes that are gone, and the last version that can read them.
RETIRED = {"UpdatingRidge": "0.1.0"}

_WRITABLE = "give cv as a number of folds, or as a list of (train, test) index arrays"


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
        state = {name: value for name, value in vars(self).items() if name.endswith("_")}
        if not state:
            raise InputError(
                "this decoder is not fitted",
                given=f"an unfitted {type(self).__name__}",
                todo="call fit first",
            )
        parameters: dict[str, Any] = self.get_params(deep=False)  # type: ignore[attr-defined]
        arrays: dict[str, Any] = {}

        def packed(values: dict[str, Any], part: str) -> dict[str, Any]:
            return {name: tensors.pack(value, f"{part}.{name}", arrays, _WRITABLE) for name, value in values.items()}

        description: dict[str, Any] = {
            "format": FORMAT,
            "class": type(self).__name__,
            "parameters": packed(parameters, "parameters"),
            "state": packed(state, "state"),
            "versions": _versions(),
            "provenance": provenance,
        }
        folder = Path(path)
        # The sha256 ties the two files together, so the arrays need no digest of their own.
        file = tensors.save(folder / _ARRAYS, arrays, digest=False, what="this decoder cannot be written")
        description["sha256"] = _sha256(file)
        write_bytes(folder / _DESCRIPTION, json.dumps(description, indent=1).encode())
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
    folder = Path(path)
    try:
        text, sha256 = (folder / _DESCRIPTION).read_bytes(), _sha256(folder / _ARRAYS)
    except OSError as error:
        raise MissingFileError(
            "no decoder is saved here",
            given=str(folder),
            expected=f"a folder with {_DESCRIPTION} and {_ARRAYS}",
            todo="check the path; a decoder is written by decoder.save(path)",
        ) from error
    description = _parse(text, folder / _DESCRIPTION)
    if sha256 != description["sha256"]:
        raise _damaged(folder / _ARRAYS)
    kind, (arrays, _) = _class(description["class"]), tensors.load(folder / _ARRAYS)
    estimator = kind(**{name: tensors.unpack(value, arrays) for name, value in description["parameters"].items()})
    vars(estimator).update({name: tensors.unpack(value, arrays) for name, value in description["state"].items()})
    estimator.provenance_ = description["provenance"]
    return estimator


def _class(name: str) -> type:
    """Return a class by its name: ours, one that an entry point names, or one that this process has defined."""
    if name in DECODERS.names():
        found: type = DECODERS.load(name)
        return found
    if name in RETIRED:
        raise InputError(
            f"{name} is no longer part of neurorecon",
            given=f"a saved {name}",
            expected=f"one of: {', '.join(DECODERS.names())}",
            todo=f"neurorecon {RETIRED[name]} is the last version that reads it; or fit a RidgeDecoder on all sessions",
        )
    # A class of a script or package registers itself when it is defined.
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


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("numpy", "scipy", "scikit-learn", "himalaya", "torch")
    names = {"neurorecon": neurorecon.__version__, "python": platform.python_version()}
    return names | {package: version(package) for package in packages}
