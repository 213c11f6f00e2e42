"""How a figure or a table was made: one record that travels with every file.

The record is plain JSON. It names data by store, snapshot and digest, never by a path of the machine it was
made on, so that it can be published as it is.
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

#: Packages whose versions can change a number or an image.
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
    seed: int | None = None,
    simulated: bool | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect how a result is being made.

    Parameters
    ----------
    command : str
        The command line or call that makes it.
    store : str or path, optional
        Name of the store, as the user gave it; of an absolute path only the last part is kept.
    snapshot : str, optional
        Snapshot id of the store: the exact data can be opened again with it.
    digests : mapping of str to str, optional
        Digests (sha256) of arrays or weights that went in.
    seed : int, optional
        Seed of everything random.
    simulated : bool, optional
        Whether the responses were computed rather than measured. Figures then say so.
    extra : mapping, optional
        Further settings (JSON types, numpy numbers and arrays, paths).

    Returns
    -------
    dict
        JSON types only: ``command``, ``time`` (UTC, ISO 8601; ``SOURCE_DATE_EPOCH`` is honored),
        ``versions``, ``python``, ``platform``, ``seed``, ``store``, ``snapshot``, ``digests``, ``simulated``
        and ``extra``.
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
        "simulated": None if simulated is None else bool(simulated),
        "extra": to_json_types(dict(extra or {})),
    }


def to_json(provenance: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Return the record as JSON text; the same record always gives the same text."""
    return json.dumps(
        to_json_types(dict(provenance)), indent=indent, sort_keys=indent is None, ensure_ascii=False,
        allow_nan=False,
    )  # fmt: skip


def to_json_types(value: Any) -> Any:
    """Turn numpy numbers, arrays, paths, tuples and sets into what JSON knows; NaN into None."""
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
        "this value cannot be written as JSON",
        given=f"{value!r} ({type(value).__name__})",
        expected="text, numbers, lists, mappings, arrays or None",
        todo="turn it into one of these before it goes into the record",
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
                "SOURCE_DATE_EPOCH cannot be read as a time",
                given=repr(epoch),
                expected="seconds since 1970-01-01 as a whole number",
                todo="correct the environment variable, or unset it",
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
        # An address may carry a password or a signed query; neither belongs into a figure.
        scheme, rest = name.split("://", 1)
        if scheme == "file":
            return Path(rest).name
        return f"{scheme}://{rest.split('?', 1)[0].rsplit('@', 1)[-1]}"
    return Path(name).name if Path(name).is_absolute() else name
