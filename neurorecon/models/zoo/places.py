"""Where weights lie on this machine: a folder that was named, the environment, the hub's cache, or the package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from neurorecon.errors import MissingFileError
from neurorecon.models.zoo import table
from neurorecon.models.zoo.table import PLAYED_BY, Weights, find, for_role

#: Environment variable that names a folder with weights.
VARIABLE = "NEURORECON_WEIGHTS"


def bundled_folder(name: str) -> Path:
    """Return the folder of a bundled set of weights, whether it is there or not."""
    return table.BUNDLED / find(name).folder


def locate(name: str, *, folder: str | Path | None = None) -> Path:
    """Return the folder that holds all files of a set of weights.

    Looked through in this order: `folder`, the folder in ``NEURORECON_WEIGHTS``, then the cache of the Hugging Face
    hub (``HF_HOME`` and ``HF_HUB_CACHE`` are honored) for published weights, the package for bundled ones. In a
    local folder, the files lie in ``<folder>/<name>``, in ``<folder>/<owner>/<repository>``, or as in a hub's cache.

    Parameters
    ----------
    name : str
        Name in the zoo, e.g. ``"clip-vit-l14"``.
    folder : path, optional
        A local folder with weights.

    Raises
    ------
    UnknownNameError
        Where there are no weights of that name.
    MissingFileError
        Where a file is missing; the message holds the command that fetches it.
    """
    weights = find(name)
    places = list(_places(weights, folder))
    for place in places:
        if not missing_from(weights, place):
            return place
    raise _missing(weights, folder, places)


def search(name: str, *, folder: str | Path | None = None, only: bool = False) -> Path | None:
    """Return the folder with all files of a set of weights, else the first with any of them, else None.

    Parameters
    ----------
    name : str
        Name in the zoo.
    folder : path, optional
        As in :func:`locate`.
    only : bool
        Look in `folder` alone.
    """
    weights = find(name)
    if only and folder is not None:
        places = list(_local_places(weights, Path(folder)))
    else:
        places = list(_places(weights, folder))
    for wanted in (0, len(weights.files) - 1):
        for place in places:
            if len(missing_from(weights, place)) <= wanted:
                return place
    return None


def locate_role(role: str, models: str | Path = "bundled") -> tuple[Weights | None, Path]:
    """Return the weights that play a role, and the folder that holds them.

    Parameters
    ----------
    role : str
        E.g. ``"clip"``.
    models : {"bundled", "published"} or path
        Where a path, it holds a folder named like the role (``clip``, ``text_diffusion``) with any weights of that
        kind, or one named like weights of the zoo (``clip-vit-l14``).

    Returns
    -------
    weights : Weights or None
        None where the folder is named like a role: these are the user's own weights.
    folder : path
        Holds the files.
    """
    if models in ("bundled", "published"):
        weights = for_role(role, str(models))
        return weights, locate(weights.name)
    if role not in table.roles():
        for_role(role, "bundled")  # raises, naming the roles
    return _in_own_folder(role, Path(models))


def part(folder: Path, name: str) -> Path:
    """Return the folder of one network: ``folder/name`` where there is such a folder, else `folder` itself.

    Published pipelines keep each network in a folder of its own (``unet/``), the bundled ones have just one.
    """
    return folder / name if (folder / name).is_dir() else folder


def missing_from(weights: Weights, place: Path) -> list[str]:
    """Return the names of the files that a folder lacks."""
    return [file.path for file in weights.files if not (place / file.path).is_file()]


def _places(weights: Weights, folder: str | Path | None) -> Iterator[Path]:
    """Yield the folders in which the files may lie, best first."""
    for root in (folder, os.environ.get(VARIABLE)):
        if root:
            yield from _local_places(weights, Path(root))
    if weights.origin == "bundled":
        yield table.BUNDLED / weights.folder
    elif weights.repository is not None:
        yield from _cached(weights.repository, weights.subfolder)
    else:
        yield plain_cache() / weights.name


def _local_places(weights: Weights, root: Path) -> Iterator[Path]:
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
    # Names such as config.json say nothing of whose they are, so the folder itself counts only where its name does.
    if root.name in names or weights.url is not None:
        yield root if weights.subfolder is None or root.name == weights.name else root / weights.subfolder


def hub_cache() -> Path:
    """Return the cache folder of the Hugging Face hub, as its own library has it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def plain_cache() -> Path:
    """Return the folder for files that are on no hub: ``$HF_HOME/neurorecon``, so that one variable moves all."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "neurorecon"


def _cached(repository: str, subfolder: str | None) -> Iterator[Path]:
    yield from _snapshots(hub_cache(), repository, subfolder)


def _snapshots(cache: Path, repository: str, subfolder: str | None) -> Iterator[Path]:
    """Yield the snapshots of a repository in a cache folder, that of ``main`` first.

    The layout is the hub's documented one: ``models--owner--name/snapshots/<commit>/``, ``refs/main`` names a commit.
    """
    top = cache / f"models--{repository.replace('/', '--')}"
    if not top.is_dir():
        return
    main = top / "refs" / "main"
    named = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    for snapshot in sorted((top / "snapshots").glob("*"), key=lambda path: (path.name != named, path.name)):
        yield snapshot / subfolder if subfolder else snapshot


def _in_own_folder(role: str, root: Path) -> tuple[Weights | None, Path]:
    root = root.expanduser().absolute()
    if not root.is_dir():
        raise MissingFileError(
            "the folder with models is not there",
            given=str(root),
            expected="bundled, published, or an existing folder",
            todo="check --models",
        )
    played = [role, PLAYED_BY.get(role, role)]
    for name in dict.fromkeys(spelled for one in played for spelled in (one, one.replace("-", "_"))):
        if any((root / name).glob("*")):
            return None, root / name
    known = [weights for weights in table.ZOO.values() if weights.role in played]
    for weights in known:
        for place in _local_places(weights, root):
            if place != root and not missing_from(weights, place):
                return weights, place
    raise MissingFileError(
        f"the folder with models has none for the role {role!r}",
        given=f"{root}, which holds: {', '.join(sorted(item.name for item in root.iterdir())) or 'nothing'}",
        expected=f"a folder {role} in it, or one of: {', '.join(weights.name for weights in known)}",
        todo="put the weights there, or take others with --models",
    )


def _missing(weights: Weights, folder: str | Path | None, places: list[Path]) -> MissingFileError:
    fewest = min((missing_from(weights, place) for place in places), key=len, default=[f.path for f in weights.files])
    if weights.origin == "bundled":
        todo = (
            "install neurorecon anew (they come with it), or train them: "
            f"python -m neurorecon.simulation.training {weights.folder}"
        )
    else:
        todo = f"neurorecon weights pull {weights.name}" + (f" --folder {folder}" if folder is not None else "")
        todo += f" (without a network: put the files into a folder and set {VARIABLE} to it, see docs/weights.md)"
    within = f"{weights.subfolder}/" if weights.subfolder else ""
    there = len(weights.files) - len(fewest)
    lacking = ", ".join(str(PurePosixPath(within + name)) for name in fewest[:4]) + (", ..." if len(fewest) > 4 else "")
    return MissingFileError(
        f"the weights {weights.name!r} are not on this machine",
        given=f"{there} of {len(weights.files)} files; missing: {lacking}",
        expected=f"all files of {weights.repository or weights.url or weights.folder}",
        todo=todo,
    )
