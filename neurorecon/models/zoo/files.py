"""Reading weights from files that somebody else made: safetensors, or torch's format without pickled code."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurorecon.errors import InputError, MissingFileError

if TYPE_CHECKING:
    from torch import Tensor

#: Longest header of a safetensors file, as its own library has it.
LONGEST_HEADER = 100_000_000


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
    """Say in words what is wrong with the layout of a safetensors file; None where nothing is.

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
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise _unreadable(path, first) from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    return _only_tensors(path, found)


def _only_tensors(path: Path, found: Any) -> dict[str, Tensor]:
    import torch

    if not isinstance(found, dict) or not found:
        raise _unreadable(path, f"it holds a {type(found).__name__}, not tensors by name")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise _unreadable(path, f"its entry {name!r} is a {type(value).__name__}, not a tensor")
    return dict(found)


def _archive_damage(path: Path) -> str | None:
    """Say what is wrong with a file of torch's zip layout before torch unpacks it.

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
