"""Save and load fitted decoders as a folder with a safetensors and a JSON file (no pickle)."""

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

#: Removed classes, and the last version of neurorecon that can load them.
RETIRED = {"UpdatingRidge": "0.1.0"}

_WRITABLE = "pass cv as a number of folds or a list of (train, test) index arrays"


class Persistent:
    """Mixin that adds ``save`` to an estimator and registers its class for :func:`load_decoder`."""

    #: Classes that can be loaded, by name and by (module, name). Of two with one name, the name finds the last one.
    classes: ClassVar[dict[str | tuple[str, str], type]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        Persistent.classes[cls.__name__] = Persistent.classes[cls.__module__, cls.__name__] = cls

    def save(self, path: str | Path, provenance: dict[str, Any] | None = None) -> Path:
        """Save the fitted decoder to a folder.

        Parameters
        ----------
        path : path
            Folder to write. A decoder that exists there is replaced.
        provenance : dict, optional
            How the decoder was made, in JSON types, e.g. store, snapshot, subject and seed.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        InputError
            If the decoder is not fitted, or a parameter cannot be written as JSON.
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
            "module": type(self).__module__,
            "parameters": packed(parameters, "parameters"),
            "state": packed(state, "state"),
            "versions": _versions(),
            "provenance": provenance,
        }
        folder = Path(path)
        # The sha256 in the JSON file covers the arrays, so they need no separate digest.
        file = tensors.save(folder / _ARRAYS, arrays, digest=False, what="the decoder cannot be saved")
        description["sha256"] = _sha256(file)
        write_bytes(folder / _DESCRIPTION, json.dumps(description, indent=1).encode())
        return folder


def load_decoder(path: str | Path) -> Any:
    """Load a saved decoder.

    Parameters
    ----------
    path : path
        Folder written by ``save``.

    Returns
    -------
    estimator
        The fitted decoder, identical to the saved one to the bit. ``provenance_`` holds the provenance passed to
        ``save``.

    Raises
    ------
    MissingFileError
        If the folder or one of its files is missing.
    InputError
        If a file is damaged or was written by a newer version of neurorecon.
    UnknownNameError
        If the class of the decoder is unknown.
    """
    folder = Path(path)
    try:
        text, sha256 = (folder / _DESCRIPTION).read_bytes(), _sha256(folder / _ARRAYS)
    except OSError as error:
        raise MissingFileError(
            "no decoder is saved here",
            given=str(folder),
            expected=f"a folder with {_DESCRIPTION} and {_ARRAYS}",
            todo="check the path; decoders are saved by decoder.save(path)",
        ) from error
    description = _parse(text, folder / _DESCRIPTION)
    if sha256 != description["sha256"]:
        raise _damaged(folder / _ARRAYS)
    kind, (arrays, _) = _class(description["class"], description.get("module", "")), tensors.load(folder / _ARRAYS)
    estimator = kind(**{name: tensors.unpack(value, arrays) for name, value in description["parameters"].items()})
    vars(estimator).update({name: tensors.unpack(value, arrays) for name, value in description["state"].items()})
    estimator.provenance_ = description["provenance"]
    return estimator


def _class(name: str, module: str) -> type:
    """Return a decoder class: that of the module if it is imported; or by name: built-in, plugin, or of this process.

    The module comes first, because two packages may call their decoders the same, or as one of ours is called.
    """
    if (module, name) in Persistent.classes:
        return Persistent.classes[module, name]
    if name in DECODERS.names():
        found: type = DECODERS.load(name)
        # Modules may move within a package; another package's class of the same name is another class.
        if module and module.partition(".")[0] != found.__module__.partition(".")[0]:
            raise InputError(
                "the class of this decoder is not imported, and another one has its name",
                given=f"{name} of {module}; there is {name} of {found.__module__}",
                expected="the class that was saved",
                todo=f"import {module}, and load the decoder again",
            )
        return found
    if name in RETIRED:
        raise InputError(
            f"{name} is no longer part of neurorecon",
            given=f"a saved {name}",
            expected=f"one of: {', '.join(DECODERS.names())}",
            todo=f"neurorecon {RETIRED[name]} is the last version that loads it; or fit a RidgeDecoder to all sessions",
        )
    # Classes defined elsewhere register themselves in Persistent.__init_subclass__.
    if name not in Persistent.classes:
        here = {key for key in Persistent.classes if isinstance(key, str)}
        known = [*DECODERS.names(), *sorted(here - set(DECODERS.names()))]
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
        expected="the file written by decoder.save",
        todo="copy the file again, or fit and save the decoder again",
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("numpy", "scipy", "scikit-learn", "himalaya", "torch")
    names = {"neurorecon": neurorecon.__version__, "python": platform.python_version()}
    return names | {package: version(package) for package in packages}
