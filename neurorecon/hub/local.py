"""Locate weights on this machine, identify them by sha256, and verify their files.

The search covers a given folder, the one in ``NEURORECON_WEIGHTS``, the cache of the Hugging Face hub, and the
package. This module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neurorecon.errors import InputError, MissingFileError
from neurorecon.hub import catalog
from neurorecon.hub.catalog import BUNDLED_TABLE, PLAYED_BY, File, Item, find, for_role, items, recorded
from neurorecon.io.files import write_json

#: The part of one of diffusers' pipelines that plays a role; the folder of a pipeline can be given as models.
PIPELINE_PARTS = {
    "text-diffusion": "unet",
    "dual-diffusion": "image_unet",
    "autoencoder": "vae",
    "text-encoder": "text_encoder",
}

#: Environment variable with the path of a folder of weights.
VARIABLE = "NEURORECON_WEIGHTS"

#: Table beside downloaded files whose sha256 nobody published: what they were when they were downloaded first.
PINS = "downloaded.json"

#: Suffixes of weight files.
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".th", ".ckpt", ".tar")

_CACHE: dict[tuple[str, int, int], str] = {}


@dataclass(frozen=True)
class FileState:
    """The state of one file on this machine.

    Parameters
    ----------
    path : str
        Path in the catalog.
    state : str
        ``"good"`` (the sha256 matches), ``"unknown"`` (present, but the expected sha256 is unknown), ``"corrupt"`` or
        ``"absent"``.
    detail : str
        Explanation.
    place : path or None
        Path on this machine; None if absent.
    """

    path: str
    state: str
    detail: str
    place: Path | None


# -- where they lie ----------------------------------------------------------------------------------------------------


def locate(name: str, *, folder: str | Path | None = None) -> Path:
    """Return the folder that holds all files of a set of weights.

    The search order is `folder`, the folder in ``NEURORECON_WEIGHTS``, then the cache of the Hugging Face hub
    (respecting ``HF_HOME`` and ``HF_HUB_CACHE``) for published weights or the package for bundled ones. Within a
    local folder, the files may be in ``<folder>/<name>``, in ``<folder>/<owner>/<repository>``, or laid out as in the
    hub's cache.

    Parameters
    ----------
    name : str
        Name of the weights, e.g. ``"clip-vit-l14"``.
    folder : path, optional
        A local folder with weights.

    Returns
    -------
    path

    Raises
    ------
    UnknownNameError
        If there are no weights of that name.
    MissingFileError
        If a file is missing; the message gives the command that downloads it.
    """
    weights = find(name, "weights")
    places = list(_places(weights, folder))
    for place in places:
        if not missing_from(weights, place):
            return place
    raise _missing(weights, folder, places)


def search(name: str, *, folder: str | Path | None = None, only: bool = False) -> Path | None:
    """Return the folder with all files of a set of weights, or else the first with any of them, or else None.

    Parameters
    ----------
    name : str
        Name of the weights.
    folder : path, optional
        As in :func:`locate`.
    only : bool
        Search only in `folder`.

    Returns
    -------
    path or None
    """
    weights = find(name, "weights")
    if only and folder is not None:
        places = list(_local_places(weights, Path(folder)))
    else:
        places = list(_places(weights, folder))
    for wanted in (0, len(weights.files) - 1):
        for place in places:
            if len(missing_from(weights, place)) <= wanted:
                return place
    return None


def locate_role(role: str, models: str | Path = "bundled") -> tuple[Item | None, Path]:
    """Return the weights of a role and the folder that contains them.

    Parameters
    ----------
    role : str
        E.g. ``"clip"``.
    models : {"bundled", "published"} or path
        A path must contain a folder named after the role (``clip``, ``text_diffusion``) with any weights of that
        kind, or one named after weights of the catalog (``clip-vit-l14``).

    Returns
    -------
    weights : Item or None
        None if the folder is named after a role: these are the user's own weights.
    folder : path
        The folder with the files.

    Raises
    ------
    UnknownNameError
        If the role is unknown.
    InputError
        If the role has no weights of this origin.
    MissingFileError
        If the weights are not on this machine.
    """
    if models in ("bundled", "published"):
        weights = for_role(role, str(models))
        return weights, locate(weights.name)
    if role not in catalog.roles():
        for_role(role, "bundled")  # raises, naming the roles
    return _in_own_folder(role, Path(models))


def part(folder: Path, name: str) -> Path:
    """Return the folder of one network: ``folder/name`` if it exists, else `folder` itself.

    Published pipelines keep each network in its own subfolder (``unet/``); bundled weights have no subfolders.
    """
    return folder / name if (folder / name).is_dir() else folder


def missing_from(weights: Item, place: Path) -> list[str]:
    """Return the files that are missing from a folder."""
    return [file.path for file in weights.files if not (place / file.path).is_file()]


def _places(weights: Item, folder: str | Path | None) -> Iterator[Path]:
    """Yield the folders that may contain the files, in search order."""
    for root in (folder, os.environ.get(VARIABLE)):
        if root:
            yield from _local_places(weights, Path(root))
    if weights.origin == "bundled":
        yield catalog.BUNDLED / weights.folder
    elif weights.repository is not None:
        yield from _snapshots(hub_cache(), weights.repository, weights.subfolder)
    else:
        yield plain_cache() / weights.name


def _local_places(weights: Item, root: Path) -> Iterator[Path]:
    root = root.expanduser().absolute()
    names = [weights.name]
    if weights.repository is not None:
        names += [weights.repository, weights.repository.rpartition("/")[2]]
    for name in names:
        if weights.subfolder is not None:
            yield root / name / weights.subfolder
        yield root / name
    if weights.repository is not None:
        yield from _snapshots(root, weights.repository, weights.subfolder)
    # File names such as config.json do not identify the weights, so the folder itself counts only if its name does.
    if root.name in names or weights.url is not None:
        yield root if weights.subfolder is None or root.name == weights.name else root / weights.subfolder


def hub_cache() -> Path:
    """Return the cache folder of the Hugging Face hub, as huggingface_hub defines it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def plain_cache() -> Path:
    """Return the folder for files that are not on the hub: ``$HF_HOME/neurorecon``, so that one variable moves all."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "neurorecon"


def _snapshots(cache: Path, repository: str, subfolder: str | None) -> Iterator[Path]:
    """Yield the snapshots of a repository in a cache folder, that of ``main`` first.

    The layout is documented by the hub: ``models--owner--name/snapshots/<commit>/``; ``refs/main`` holds a commit.
    """
    top = cache / f"models--{repository.replace('/', '--')}"
    if not top.is_dir():
        return
    main = top / "refs" / "main"
    named = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    for snapshot in sorted((top / "snapshots").glob("*"), key=lambda path: (path.name != named, path.name)):
        yield snapshot / subfolder if subfolder else snapshot


def _in_own_folder(role: str, root: Path) -> tuple[Item | None, Path]:
    root = root.expanduser().absolute()
    if not root.is_dir():
        raise MissingFileError(
            "the folder of models does not exist",
            given=str(root),
            expected="bundled, published, or an existing folder",
            todo="check the path given to --models",
        )
    played = [role, PLAYED_BY.get(role, role)]
    inside = PIPELINE_PARTS.get(role)
    # A pipeline keeps the tokenizer beside the text encoder, not inside it.
    if role == "text-encoder" and (root / "tokenizer").is_dir() and (root / "text_encoder" / "config.json").is_file():
        return None, root
    for one in played:
        for name in dict.fromkeys((one, one.replace("-", "_"))):
            if any((root / name).glob("*")):
                return None, root / name
        if inside is not None and (root / inside / "config.json").is_file():
            return None, root / "vae" if role == "autoencoder" else root
    known = [weights for weights in items("weights") if weights.role in played]
    for weights in known:
        for place in _local_places(weights, root):
            if place != root and not missing_from(weights, place):
                return weights, place
    raise MissingFileError(
        f"the folder of models has no weights for the role {role!r}",
        given=f"{root}, which contains: {', '.join(sorted(item.name for item in root.iterdir())) or 'nothing'}",
        expected=f"a subfolder {role}, or one of: {', '.join(weights.name for weights in known)}",
        todo="put the weights there, or choose others with --models",
    )


def _missing(weights: Item, folder: str | Path | None, places: list[Path]) -> MissingFileError:
    fewest = min((missing_from(weights, place) for place in places), key=len, default=[f.path for f in weights.files])
    if weights.origin == "bundled":
        todo = (
            "reinstall neurorecon, which includes them, or train them: "
            f"python -m neurorecon.simulation.training {weights.folder}"
        )
    else:
        todo = f"neurorecon weights pull {weights.name}" + (f" --folder {folder}" if folder is not None else "")
        todo += f" (offline: copy the files into a folder and set {VARIABLE} to it, see docs/weights.md)"
    within = f"{weights.subfolder}/" if weights.subfolder else ""
    there = len(weights.files) - len(fewest)
    lacking = ", ".join(str(PurePosixPath(within + name)) for name in fewest[:4]) + (", ..." if len(fewest) > 4 else "")
    return MissingFileError(
        f"the weights {weights.name!r} are not on this machine",
        given=f"{there} of {len(weights.files)} files; missing: {lacking}",
        expected=f"all files of {weights.repository or weights.url or weights.folder}",
        todo=todo,
    )


# -- which ones they are -----------------------------------------------------------------------------------------------


def digest(path: Path) -> str:
    """Return the sha256 of a file, cached in this process while its size and modification time stay the same."""
    path = path.resolve()
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _CACHE:
        with path.open("rb") as file:
            _CACHE[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _CACHE[key]


def fingerprint(folder_or_file: Path, weights: Item | None = None) -> str:
    """Return one sha256 that identifies a set of weights.

    For a single weight file this is its sha256; for several, the sha256 of the sorted list of names and digests.

    Parameters
    ----------
    folder_or_file : path
        A file, or a folder as returned by :func:`neurorecon.hub.locate`.
    weights : Item, optional
        Consider only the files of this item; a folder of the hub may contain other networks too.

    Returns
    -------
    str

    Raises
    ------
    MissingFileError
        If there are no weights.
    """
    path = Path(folder_or_file)
    if path.is_file():
        return digest(path)
    present = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    names = [file.path for file in weights.files] if weights else list(present)
    found = {name: path / name for name in names if name.endswith(SUFFIXES) and (path / name).is_file()}
    if not found:
        raise MissingFileError(
            "no weights found",
            given=str(path),
            expected=f"a file, or a folder with files that end in {', '.join(SUFFIXES)}",
            todo="run neurorecon weights list to see where weights are",
        )
    if len(found) == 1:
        return digest(next(iter(found.values())))
    listed = [[name, digest(found[name])] for name in sorted(found)]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def verify(name: str, *, folder: Path | None = None) -> list[FileState]:
    """Compare the files of a set of weights with their sha256.

    Parameters
    ----------
    name : str
        Name of the weights.
    folder : path, optional
        The folder with the files; by default the one that :func:`search` finds.

    Returns
    -------
    list of FileState
        One per file, in the order of the catalog.
    """
    weights = find(name, "weights")
    place = search(name) if folder is None else folder
    return [check(file, place) for file in weights.files]


def check(file: File, place: Path | None) -> FileState:
    """Compare one file with its size and sha256."""
    path = None if place is None else place / file.path
    if path is None or not path.is_file():
        return FileState(file.path, "absent", "not on this machine", None)
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return FileState(file.path, "corrupt", f"{size} bytes, expected {file.size}", path)
    if file.sha256 is not None:
        return _compared(file, path, digest(path), file.sha256, "sha256")
    named = _name_in_cache(path)
    if named is not None:
        kind = "sha256" if len(named) == 64 else "git"
        return _compared(file, path, digest(path) if kind == "sha256" else _git_digest(path), named, kind)
    damage = _damage(path, size)
    if damage is not None:
        return FileState(file.path, "corrupt", damage, path)
    pinned = pins(place).get(file.path) if place is not None else None
    if pinned is not None:
        return _compared(file, path, digest(path), pinned, "sha256")
    return FileState(file.path, "unknown", f"sha256 not known; present, {size} bytes", path)


def pin(file: Path) -> None:
    """Record the sha256 of a downloaded file that the catalog does not know, beside the file, unless one is there."""
    known = pins(file.parent)
    if file.name not in known:
        write_json(file.parent / PINS, {**known, file.name: digest(file)})


def pins(folder: Path) -> dict[str, str]:
    """Return the sha256 of files at their first download, by name."""
    try:
        found = json.loads((folder / PINS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _compared(file: File, path: Path, found: str, expected: str, kind: str) -> FileState:
    if found != expected:
        return FileState(file.path, "corrupt", f"{kind} {found}, expected {expected}", path)
    return FileState(file.path, "good", f"{kind} {found}", path)


def _name_in_cache(path: Path) -> str | None:
    """Return the digest that the hub announced for a file in its cache.

    It is the name of the blob: the sha256 of large files, git's sha1 of small ones.
    """
    name = path.resolve().name
    in_cache = path.is_symlink() and path.resolve().parent.name == "blobs"
    return name if in_cache and len(name) in (40, 64) and set(name) <= set("0123456789abcdef") else None


def _git_digest(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _damage(path: Path, size: int) -> str | None:
    """Describe visible damage of a file whose sha256 is unknown."""
    if size == 0:
        return "empty"
    if path.suffix == ".json":
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            return f"not JSON ({error})"
    if path.suffix == ".safetensors":
        from neurorecon.io.tensors import safetensors_damage

        return safetensors_damage(path)
    return None


#: Files that say what the weights beside them are: of a network, and of a decoder.
_CONFIGS = ("config.json", "decoder.json")


def record_bundled(folder: Path) -> Path:
    """Record the size and sha256 of bundled weights in the table of digests.

    Parameters
    ----------
    folder : path
        E.g. ``neurorecon/models/bundled/clip``; its safetensors files and configuration are recorded.

    Returns
    -------
    path
        The table, ``sha256.json`` in the parent folder.

    Raises
    ------
    InputError
        If the folder has no safetensors file, or the table cannot be read.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.glob("*") if path.suffix == ".safetensors" or path.name in _CONFIGS)
    if not any(path.suffix == ".safetensors" for path in files):
        raise InputError(
            "no weights to record",
            given=str(folder),
            expected="a folder with a *.safetensors file",
            todo="publish the trained network into it first",
        )
    table = folder.parent / BUNDLED_TABLE
    known = {
        name: {file.path: {"sha256": file.sha256, "size": file.size} for file in of.values()}
        for name, of in recorded(table).items()
    }
    known[folder.name] = {path.name: {"sha256": digest(path), "size": path.stat().st_size} for path in files}
    fresh = table.with_suffix(".json.part")
    fresh.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(fresh, table)
    return table
