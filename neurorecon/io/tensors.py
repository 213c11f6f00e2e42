"""Arrays and tensors in files: safetensors with a JSON description, never pickle.

:func:`save` and :func:`load` are the one format of what neurorecon writes beside its stores: results of jobs,
checkpoints, decoders, decoded targets. :func:`pack` turns nested state into a description and its arrays.
:func:`load_state` reads the weights that somebody else wrote. Digests say what an array holds, independent of how it
is compressed or where it lies.

numpy, torch and safetensors are imported when they are used: commands that answer quickly import this module.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.files import AGAIN, damaged, first_line, replacing, write_error

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

#: Longest header of a safetensors file that the library itself accepts.
LONGEST_HEADER = 100_000_000

#: Keys of a file's header: the description, and the digest of the arrays.
_DESCRIPTION, _DIGEST = "neurorecon", "digest"


# --- Digests -----------------------------------------------------------------------------------------------------


def block_digest(values: np.ndarray) -> str:
    """Return the digest of one block; text is digested as JSON, numbers as little-endian bytes in C order.

    An array is digested block by block (whole rows), so that a build can stream, resume, and compare each block with
    what it reads back.
    """
    import numpy as np

    values = np.asarray(values)
    if values.dtype.kind in "biufc":
        # Hashed where it lies: no copy of an array that is contiguous and little-endian already.
        raw: Any = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    else:
        raw = json.dumps(values.tolist(), ensure_ascii=False).encode()
    return blake2b(raw, digest_size=16).hexdigest()


def array_digest(dtype: str, shape: Iterable[int], blocks: Iterable[str]) -> str:
    """Return the digest of an array from its type, its shape and the digests of its blocks."""
    header = json.dumps([dtype, list(shape), list(blocks)])
    return "blake2b:" + blake2b(header.encode(), digest_size=16).hexdigest()


def combine(digests: dict[str, str]) -> str:
    """Return one digest for many named arrays, whatever their order."""
    return "blake2b:" + blake2b(json.dumps(sorted(digests.items())).encode(), digest_size=16).hexdigest()


def dtype_name(dtype: Any) -> str:
    """Return the name of a type as digests have it: however text is kept, it is ``"string"``."""
    return str(dtype) if getattr(dtype, "kind", "T") in "biufc" else "string"


def _digest_of(arrays: Mapping[str, Any]) -> str:
    return combine({name: _digest_of_one(values) for name, values in arrays.items()})


def _digest_of_one(values: Any) -> str:
    if not hasattr(values, "untyped_storage"):
        return array_digest(str(values.dtype), values.shape, [block_digest(values)])
    import torch

    # Bytes, because numpy lacks some of torch's types; the names of those that both have are the same.
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
    """Write named arrays and their description into one file, whole or not at all.

    Parameters
    ----------
    path : path
        A file ``NAME.safetensors``; an older one is replaced, missing folders are created.
    arrays : mapping of str to array, or of str to Tensor
        Numbers of any shape; either numpy arrays or tensors, on any device.
    description : mapping, optional
        What the arrays mean (JSON types); goes into the header of the file.
    digest : bool
        Write the digest of the arrays too, which :func:`load` compares. False where the caller keeps one of its own.
    what : str
        What could not be done, for the message of the error.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreWriteError
        Where the disk is full, or the folder cannot be written.
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
            with part.open("rb+") as written:  # on the disk before it replaces what was there
                os.fsync(written.fileno())
    except (OSError, SafetensorError) as error:
        raise write_error(path, error, what) from error
    return path


def load(
    path: str | os.PathLike[str], *, framework: Literal["numpy", "torch"] = "numpy", todo: str = AGAIN
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what :func:`save` wrote, and compare its digest.

    Parameters
    ----------
    path : path
        The file.
    framework : str
        ``"numpy"`` returns arrays, ``"torch"`` tensors on the CPU.
    todo : str
        Advice where the file is missing or damaged.

    Returns
    -------
    arrays : dict of str to array or Tensor
    description : dict
        Empty where none was written.

    Raises
    ------
    MissingFileError
        Where there is no such file.
    InputError
        Where it is cut short, damaged, or holds other bytes than were written.
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
        raise damaged(path, ValueError("its digest differs"), todo)
    return arrays, description


def read_description(path: str | os.PathLike[str], todo: str = AGAIN) -> dict[str, Any]:
    """Read the description alone, e.g. to see whether the arrays are wanted; raises as :func:`load` does."""
    return _read_header(Path(path), todo)[1]


def _read_header(path: Path, todo: str) -> tuple[dict[str, str], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise MissingFileError(f"{path} is missing", given="no such file", expected="a safetensors file", todo=todo)
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
        description = json.loads(header.get(_DESCRIPTION, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(path, error, todo) from error
    return header, description


def _ready(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return arrays as safetensors takes them, and the function that writes them."""
    import numpy as np

    if not any(hasattr(values, "untyped_storage") for values in arrays.values()):
        from safetensors.numpy import save_file as write_arrays

        # In the byte order of files, so that the digest is that of what is read back.
        plain = {name: np.asarray(values) for name, values in arrays.items()}
        return {name: a.astype(a.dtype.newbyteorder("<"), "C", copy=False) for name, a in plain.items()}, write_arrays
    from safetensors.torch import save_file as write_tensors

    # safetensors refuses tensors that share their memory.
    found, taken = {}, set()
    for name, tensor in arrays.items():
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if memory in taken else plain
        taken.add(memory)
    return found, write_tensors


# --- Nested state ------------------------------------------------------------------------------------------------


def pack(value: Any, name: str, arrays: dict[str, Any], todo: str | None = None) -> Any:
    """Return a value as JSON types; its arrays and tensors go to `arrays` and leave their names.

    Parameters
    ----------
    value : object
        Numbers, text, None, numpy arrays, tensors, slices, and lists, tuples and dicts of them, nested as they are.
    name : str
        Name of the value; those of its arrays begin with it.
    arrays : dict
        Filled here.
    todo : str, optional
        Advice where a part is of another kind.

    Returns
    -------
    object
        What :func:`unpack` turns back into the value.
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
    if isinstance(value, slice):
        return {"slice": [None if part is None else int(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, list | tuple | range):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [pack(item, f"{name}.{n}", arrays, todo) for n, item in enumerate(value)]}
    raise InputError(
        "this value cannot be written to disk",
        given=f"{name} of type {type(value).__name__}",
        expected="numbers, strings, arrays, slices, lists and dicts of them",
        todo=todo,
    )


def unpack(packed: Any, arrays: Mapping[str, Any]) -> Any:
    """Return the value that :func:`pack` was given."""
    import numpy as np

    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind in ("array", "tensor"):
        return arrays[content]
    if kind == "strings":
        return np.array(content, dtype=object)
    if kind == "slice":
        return slice(*content)
    if kind == "dict":
        return {key: unpack(item, arrays) for key, item in content}
    items = [unpack(item, arrays) for item in content]
    return items if kind == "list" else tuple(items)


def _key(key: Any, name: str) -> str | int:
    # torch's optimizers name parameters by number.
    if not isinstance(key, str | int):
        raise InputError(
            "a key cannot be written to disk",
            given=f"{key!r} ({type(key).__name__}) in {name}",
            expected="text or whole numbers as keys of a dict",
        )
    return key


# --- Weights of others -------------------------------------------------------------------------------------------


def load_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file of weights, on the CPU.

    Code in the file is never run: ``.safetensors`` holds none, all else goes through
    ``torch.load(weights_only=True)``.

    Parameters
    ----------
    path : path
        A file.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    MissingFileError
        Where there is no such file.
    InputError
        Where it is cut short, damaged, holds anything but tensors, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            "the file of weights is not there",
            given=str(path),
            expected="a file of weights",
            todo="neurorecon weights list shows what is where",
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path)


def safetensors_damage(path: Path) -> str | None:
    """Return in words what is wrong with the layout of a safetensors file; None where nothing is.

    The file starts with the length of its header (8 bytes, little end first), then the header (JSON), then the
    bytes of the tensors without gaps; so its length is known from the header.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            return f"cut short or no safetensors file: {size} bytes, a header of {length} bytes announced"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            return f"its header cannot be read ({error})"
    if size != expected:
        return f"{size} bytes, its header announces {expected}"
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
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found:
        raise _unreadable(path, f"it holds a {type(found).__name__}, not tensors by name")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise _unreadable(path, f"its entry {name!r} is a {type(value).__name__}, not a tensor")
    return dict(found)


def _archive_damage(path: Path) -> str | None:
    """Return what is wrong with a file of torch's zip layout before torch unpacks it.

    Torch stores tensors as they are; an archive that would unpack to more bytes than it has was made to fill the
    memory. One with TorchScript code in it is a program.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        return str(error)
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        return "it unpacks to more bytes than it has"
    if any("/code/" in entry.filename or entry.filename.endswith("/constants.pkl") for entry in entries):
        return "it is a TorchScript program, which would be run; take the safetensors file of these weights"
    return None


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        "the file of weights cannot be used",
        given=f"{path} ({why})",
        expected="an undamaged safetensors file, or tensors by name as torch saves them; no pickled code",
        todo="neurorecon weights verify says which files are damaged; delete this one and fetch it again",
    )
