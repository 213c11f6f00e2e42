"""Arrays and tensors in safetensors files with a JSON description. Pickle is never used.

:func:`save` and :func:`load` define the one format for everything that neurorecon writes outside its stores: results
of jobs, checkpoints, decoders, decoded targets. :func:`pack` splits nested state into a description and its arrays.
:func:`load_state` reads third-party weights. Digests identify the content of an array, regardless of compression and
location.

numpy, torch and safetensors are imported inside functions, because commands that must start quickly import this
module.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.files import AGAIN, damaged, first_line, replacing, require_file, write_error

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

#: Longest header of a safetensors file (bytes) that the safetensors library accepts.
LONGEST_HEADER = 100_000_000

#: Keys in the header of a file: the description, and the digest of the arrays.
_DESCRIPTION, _DIGEST = "neurorecon", "digest"


# --- Digests -----------------------------------------------------------------------------------------------------


def block_digest(values: np.ndarray) -> str:
    """Return the digest of one block: of numbers as little-endian bytes in C order, of text as JSON.

    Arrays are digested in blocks of whole rows, so that a build can stream and resume, and verify each block after
    writing it.
    """
    import numpy as np

    values = np.asarray(values)
    if values.dtype.kind in "biufc":
        # No copy if the array is contiguous and little-endian already.
        raw: Any = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    else:
        raw = json.dumps(values.tolist(), ensure_ascii=False).encode()
    return blake2b(raw, digest_size=16).hexdigest()


def array_digest(dtype: str, shape: Iterable[int], blocks: Iterable[str]) -> str:
    """Return the digest of an array, computed from its dtype, its shape and the digests of its blocks."""
    header = json.dumps([dtype, list(shape), list(blocks)])
    return "blake2b:" + blake2b(header.encode(), digest_size=16).hexdigest()


def combine(digests: dict[str, str]) -> str:
    """Return one digest for many named arrays, independent of their order."""
    return "blake2b:" + blake2b(json.dumps(sorted(digests.items())).encode(), digest_size=16).hexdigest()


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype as used in digests; every text dtype is ``"string"``."""
    return str(dtype) if getattr(dtype, "kind", "T") in "biufc" else "string"


def _digest_of(arrays: Mapping[str, Any]) -> str:
    return combine({name: _digest_of_one(values) for name, values in arrays.items()})


def _digest_of_one(values: Any) -> str:
    if not hasattr(values, "untyped_storage"):
        return array_digest(str(values.dtype), values.shape, [block_digest(values)])
    import torch

    # As bytes, because numpy lacks some of torch's dtypes; dtypes that both have share their names.
    raw = values.reshape(-1).view(torch.uint8).numpy()
    return array_digest(str(values.dtype).removeprefix("torch."), values.shape, [block_digest(raw)])


# --- Files -------------------------------------------------------------------------------------------------------


def save(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray] | Mapping[str, Tensor],
    description: Mapping[str, Any] | None = None,
    *,
    digest: bool = True,
    what: str = "the arrays cannot be written",
) -> Path:
    """Write named arrays and their description to one file, atomically.

    Parameters
    ----------
    path : path
        A file ``NAME.safetensors``. An existing file is replaced; missing parent folders are created.
    arrays : mapping of str to array, or of str to Tensor
        Numeric arrays of any shape: all numpy arrays, or all tensors (on any device).
    description : mapping, optional
        What the arrays mean (JSON types); stored in the header of the file.
    digest : bool
        Store the digest of the arrays, which :func:`load` verifies. Pass False if the caller keeps its own digest.
    what : str
        First line of the error message if writing fails.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreWriteError
        If the disk is full, or the folder is not writable.
    """
    from safetensors import SafetensorError

    path = Path(path)
    whole, write = _ready(arrays)
    header = {} if description is None else {_DESCRIPTION: json.dumps(description)}
    if digest:
        header[_DIGEST] = _digest_of(whole)
    try:
        with replacing(path) as part:
            write(whole, part, header or None)
            with part.open("rb+") as written:  # flushed to disk before it replaces the old file
                os.fsync(written.fileno())
    except (OSError, SafetensorError) as error:
        raise write_error(path, error, what) from error
    return path


def load(
    path: str | os.PathLike[str], *, framework: Literal["numpy", "torch"] = "numpy", todo: str = AGAIN
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load a file written by :func:`save`, and verify its digest.

    Parameters
    ----------
    path : path
        The file.
    framework : {"numpy", "torch"}
        Return numpy arrays, or tensors on the CPU.
    todo : str
        What the error message advises if the file is missing or damaged.

    Returns
    -------
    arrays : dict of str to array or Tensor
    description : dict
        Empty if none was written.

    Raises
    ------
    MissingFileError
        If the file does not exist.
    InputError
        If the file is truncated or damaged, or its digest does not match.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    header, description = _read_header(path, todo)
    try:
        with safe_open(path, framework={"numpy": "np", "torch": "pt"}[framework]) as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(path, error, todo) from error
    if _DIGEST in header and header[_DIGEST] != _digest_of(arrays):
        raise damaged(path, ValueError("its digest does not match"), todo)
    return arrays, description


def read_description(path: str | os.PathLike[str], todo: str = AGAIN) -> dict[str, Any]:
    """Read only the description of a file written by :func:`save`; raises the same errors as :func:`load`."""
    return _read_header(Path(path), todo)[1]


def _read_header(path: Path, todo: str) -> tuple[dict[str, str], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    require_file(path, "a safetensors file", todo)
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
        description = json.loads(header.get(_DESCRIPTION, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(path, error, todo) from error
    return header, description


def _ready(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the arrays in a form that safetensors accepts, and the function that writes them."""
    import numpy as np

    if not any(hasattr(values, "untyped_storage") for values in arrays.values()):
        from safetensors.numpy import save_file as write_arrays

        # In the byte order of the file, so that the digest matches after loading.
        plain = {name: np.asarray(values) for name, values in arrays.items()}
        return {name: a.astype(a.dtype.newbyteorder("<"), "C", copy=False) for name, a in plain.items()}, write_arrays
    from safetensors.torch import save_file as write_tensors

    # safetensors refuses tensors that share memory.
    found, taken = {}, set()
    for name, tensor in arrays.items():
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if memory in taken else plain
        taken.add(memory)
    return found, write_tensors


# --- Nested state ------------------------------------------------------------------------------------------------


def pack(value: Any, name: str, arrays: dict[str, Any], todo: str | None = None) -> Any:
    """Convert a nested value to JSON types, moving its arrays and tensors to `arrays`.

    Parameters
    ----------
    value : object
        Numbers, text, None, numpy arrays, tensors, slices, paths, and nested lists, tuples and dicts of these.
    name : str
        Name of the value, and prefix of the names of its arrays.
    arrays : dict
        Filled in place: maps names to the arrays and tensors.
    todo : str, optional
        What the error message advises if a part has an unsupported type.

    Returns
    -------
    object
        JSON types from which :func:`unpack` restores the value.

    Raises
    ------
    InputError
        If a part has an unsupported type.
    """
    import numpy as np

    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OUS":
            return {"strings": value.astype(str).tolist()}
        arrays[name] = np.asarray(value, order="C")
        return {"array": name}
    if hasattr(value, "untyped_storage"):
        arrays[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        items = enumerate(value.items())
        return {"dict": [[_key(key, name), pack(item, f"{name}.{n}", arrays, todo)] for n, (key, item) in items]}
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if isinstance(value, slice):
        return {"slice": [None if part is None else int(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, list | tuple | range):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [pack(item, f"{name}.{n}", arrays, todo) for n, item in enumerate(value)]}
    raise InputError(
        "a value cannot be saved",
        given=f"{name}, of type {type(value).__name__}",
        expected="numbers, strings, arrays, slices, and lists and dicts of these",
        todo=todo,
    )


def unpack(packed: Any, arrays: Mapping[str, Any]) -> Any:
    """Restore a value from the output of :func:`pack` and its arrays."""
    import numpy as np

    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind in ("array", "tensor"):
        return arrays[content]
    if kind == "strings":
        return np.array(content, dtype=object)
    if kind == "path":
        return Path(content)
    if kind == "slice":
        return slice(*content)
    if kind == "dict":
        return {key: unpack(item, arrays) for key, item in content}
    items = [unpack(item, arrays) for item in content]
    return items if kind == "list" else tuple(items)


def _key(key: Any, name: str) -> str | int:
    # Integer keys are allowed because torch's optimizers number their parameters.
    if not isinstance(key, str | int):
        raise InputError(
            "a key of a dict cannot be saved",
            given=f"{key!r} ({type(key).__name__}) in {name}",
            expected="strings or integers as keys",
        )
    return key


# --- Weights of others -------------------------------------------------------------------------------------------


def load_state(path: Path) -> dict[str, Tensor]:
    """Load the tensors of a weights file onto the CPU.

    Code in the file is never executed: ``.safetensors`` files contain none, and all other files are read with
    ``torch.load(weights_only=True)``.

    Parameters
    ----------
    path : path
        A safetensors or PyTorch file.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    MissingFileError
        If the file does not exist.
    InputError
        If the file is truncated or damaged, or contains code or anything other than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            "the weights file does not exist",
            given=str(path),
            expected="a safetensors or PyTorch file",
            todo="run neurorecon weights list to see which weights are available, and where",
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path)


def safetensors_damage(path: Path) -> str | None:
    """Describe what is wrong with the layout of a safetensors file; return None if nothing is.

    The file consists of the length of the header (8 bytes, little-endian), the header (JSON) and the bytes of the
    tensors without gaps, so the header determines the size of the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            return f"truncated, or not a safetensors file: {size} bytes, but a header of {length} bytes announced"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            return f"its header cannot be read ({error})"
    if size != expected:
        return f"{size} bytes, but its header announces {expected}"
    return None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    damage = safetensors_damage(path)
    if damage is not None:
        raise _unreadable(path, damage)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(path, str(error)) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    damage = _archive_damage(path)
    if damage is not None:
        raise _unreadable(path, damage)
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise _unreadable(path, first_line(error)) from error
    for name in ("state_dict", "model"):  # where checkpoints of a training keep their weights
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict) or not found:
        raise _unreadable(path, f"it contains a {type(found).__name__}, not a dict of tensors")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise _unreadable(path, f"its entry {name!r} is a {type(value).__name__}, not a tensor")
    return dict(found)


def _archive_damage(path: Path) -> str | None:
    """Check a file in torch's zip layout before torch unpacks it; return what is wrong, or None.

    Torch does not compress tensors, so an archive that unpacks to more bytes than it has is a decompression bomb. An
    archive with TorchScript code is a program.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        return str(error)
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        return "it would unpack to more bytes than the file has"
    if any("/code/" in entry.filename or entry.filename.endswith("/constants.pkl") for entry in entries):
        return "it is a TorchScript program, which loading would run; use the safetensors file of these weights"
    return None


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        "the weights file cannot be used",
        given=f"{path} ({why})",
        expected="an undamaged safetensors file, or a dict of tensors saved by torch, without pickled code",
        todo="delete the file and fetch it again; neurorecon weights verify lists damaged files",
    )
