"""Provenance: a record of how a figure or a table was made, stored in or beside every output file.

The record is plain JSON. It identifies data by store, snapshot and digest, never by a local path, so it can be
published as is. What a target was made by is one of its parts: :func:`weights_record` describes it for records, and
:func:`weights_label` for tables and figures.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from neurorecon.errors import InputError

#: Packages whose versions can change the results.
PACKAGES = (
    "neurorecon", "numpy", "scipy", "scikit-learn", "himalaya", "torch", "nilearn", "nibabel",
    "xarray", "zarr", "icechunk", "matplotlib",
)  # fmt: skip


def collect(
    command: str,
    *,
    store: str | os.PathLike[str] | None = None,
    snapshot: str | None = None,
    digests: Mapping[str, str] | None = None,
    split_column: str | None = None,
    seed: int | None = None,
    simulated: bool | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Create the provenance record of a result.

    Parameters
    ----------
    command : str
        The command line or function call that produces the result.
    store : str or path, optional
        The store, as the user gave it. Only the last part of an absolute path is kept.
    snapshot : str, optional
        Snapshot id of the store, with which the exact data can be opened again.
    digests : mapping of str to str, optional
        Digests (sha256) of the arrays or weights that were used.
    split_column : str, optional
        Split column of the store; None for the split that it was built with.
    seed : int, optional
        Random seed.
    simulated : bool, optional
        Whether the responses are simulated. Figures of simulated data say so.
    extra : mapping, optional
        Further settings (JSON types, numpy scalars and arrays, paths).

    Returns
    -------
    dict
        JSON types only: ``command``, ``time`` (UTC, ISO 8601; ``SOURCE_DATE_EPOCH`` is honored),
        ``versions``, ``python``, ``platform``, ``seed``, ``store``, ``snapshot``, ``digests``,
        ``split_column``, ``simulated`` and ``extra``.

    Raises
    ------
    InputError
        If a value of `extra` cannot be written as JSON, or ``SOURCE_DATE_EPOCH`` is not a time.
    """
    return {
        "command": command,
        "time": _now(),
        "versions": _versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "seed": None if seed is None else int(seed),
        "store": None if store is None else _store_name(store),
        "snapshot": None if snapshot is None else str(snapshot),
        "digests": {str(name): str(digest) for name, digest in (digests or {}).items()},
        "split_column": split_column,
        "simulated": None if simulated is None else bool(simulated),
        "extra": to_json_types(dict(extra or {})),
    }


def to_json(provenance: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Return the record as JSON text. Equal records give equal text."""
    return json.dumps(
        to_json_types(dict(provenance)), indent=indent, sort_keys=indent is None, ensure_ascii=False,
        allow_nan=False,
    )  # fmt: skip


def to_json_types(value: Any) -> Any:
    """Convert numpy scalars, arrays, paths, tuples and sets to JSON types; NaN and infinities become None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_json_types(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((to_json_types(item) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [to_json_types(item) for item in value]
    if hasattr(value, "tolist"):
        return to_json_types(value.tolist())
    if isinstance(value, float):
        # NaN and the infinities are not JSON, and browsers refuse a file that holds them.
        return value if value - value == 0 else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise InputError(
        "a value cannot be written as JSON",
        given=f"{value!r} ({type(value).__name__})",
        expected="text, numbers, lists, mappings, arrays or None",
        todo="convert it to one of these types first",
    )


def _now() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        moment = datetime.now(UTC)
    else:
        try:
            moment = datetime.fromtimestamp(int(epoch), UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise InputError(
                "SOURCE_DATE_EPOCH is not a valid time",
                given=repr(epoch),
                expected="an integer, the seconds since 1970-01-01",
                todo="fix the environment variable, or unset it",
            ) from error
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            if package == "neurorecon":  # run from a checkout that was never installed
                from neurorecon import __version__

                versions[package] = __version__
    return versions


def _store_name(store: str | os.PathLike[str]) -> str:
    name = os.fspath(store)
    if "://" in name:
        # A URL may contain a password or a signed query, which must not end up in a figure.
        scheme, rest = name.split("://", 1)
        if scheme == "file":
            return Path(rest).name
        return f"{scheme}://{rest.split('?', 1)[0].rsplit('@', 1)[-1]}"
    return Path(name).name if Path(name).is_absolute() else name


# -- what a target was made by ----------------------------------------------------------------------------------------

#: Digits of a sha256 that tables and figures show.
_DIGITS = 8

#: How the names of bundled weights begin in the catalog.
_BUNDLED = "bundled-"


def weights_record(made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Return what identifies the weights, the file or the method that a target was made by.

    Parameters
    ----------
    made_by : mapping
        Attributes of the target in the store.

    Returns
    -------
    dict
        JSON types only. Of networks, ``origin`` (``"bundled"``, ``"published"`` or ``"own"``), ``name``, ``sha256`` and
        ``layer``. Of a file of the user's own features, ``origin`` ``"file"``, ``name``, ``sha256``. Of targets that
        were added in Python with the digest of their weights, ``origin`` ``"added"``, ``name`` (of the model) and
        ``sha256``. Of methods without weights, ``origin`` ``"method"``, ``name`` and ``version``.
    """
    named = {key: made_by.get(key) for key in ("weights", "weights_sha256", "file", "file_sha256", "model")}
    model = str(named["model"] or "not stated")
    if named["weights"]:
        found = {"origin": _weights_origin(made_by), "name": str(named["weights"]), "sha256": named["weights_sha256"]}
    elif named["file"]:
        found = {"origin": "file", "name": str(named["file"]), "sha256": named["file_sha256"]}
    elif named["weights_sha256"]:
        found = {"origin": "added", "name": model, "sha256": named["weights_sha256"]}
    else:
        found = {"origin": "method", "name": model, "version": made_by.get("extractor_version")}
    if made_by.get("layer") is not None and found["origin"] != "method":
        found["layer"] = made_by["layer"]
    return {key: to_json_types(value) for key, value in found.items()}


def weights_label(made_by: Mapping[str, Any]) -> str:
    """Return :func:`weights_record` in a few words, such as ``bundled/clip c26a619d``.

    Parameters
    ----------
    made_by : mapping
        Attributes of the target in the store.
    """
    found = weights_record(made_by)
    name = found["name"].removeprefix(_BUNDLED)
    if found["origin"] in ("bundled", "published", "own"):
        name = f"{found['origin']}/{name}"
    if found["origin"] == "method":
        return name if found["version"] is None else f"{name}, version {found['version']}"
    return f"{name} {str(found['sha256'])[:_DIGITS]}" if found["sha256"] else f"{name}, no sha256"


def bundled_weights(store: Any, made_by: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return a warning about targets of measured data that bundled networks make, or None if there are none.

    Parameters
    ----------
    store : Store
        The store of the targets.
    made_by : mapping
        The attributes of each target, by its name.
    """
    names = [name for name, made in made_by.items() if weights_record(made)["origin"] == "bundled"]
    if store.simulated or not names:
        return None
    return (
        f"{', '.join(names)}: made by the bundled networks, which know drawn scenes only. On photographs, their CLIP "
        "correlates .14 with human inferior temporal cortex; two classes, animate or not, reach .59. For measured data "
        "use --models published or --models FOLDER."
    )


def _weights_origin(made_by: Mapping[str, Any]) -> str:
    if made_by.get("weights_origin"):
        return str(made_by["weights_origin"])
    # Targets of earlier versions say it by their names and their terms.
    if str(made_by["weights"]).startswith(_BUNDLED):
        return "bundled"
    return "own" if "own weights" in str(made_by.get("licence", "")) else "published"
