"""Build a store together with the targets that its recipe names."""

from __future__ import annotations

from pathlib import Path

from neurorecon.datasets.recipe import Recipe, load_recipe
from neurorecon.errors import InputError
from neurorecon.features.extract import extract
from neurorecon.registry import FEATURES
from neurorecon.store.build import build_store
from neurorecon.store.store import Store, open_store

#: Where built stores lie when a recipe has no folder of its own.
STORES = Path("stores")


def store_path(recipe: Recipe, source: str | Path) -> Path:
    """Return where the store of a recipe goes: beside its TOML file, or in ``stores/`` below the current folder."""
    folder = Path(source).parent if Path(source).suffix == ".toml" else STORES
    return folder / f"{recipe.name}.icechunk"


def build(
    recipe: str | Path | Recipe,
    out: str | Path | None = None,
    *,
    root: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Store:
    """Build a store and its targets; an interrupted build goes on, a finished one is left as it is.

    Parameters
    ----------
    recipe : path, str or Recipe
        A TOML file, the name of a registered reader (``"scenes"``), or a recipe.
    out : path, optional
        The store, ``NAME.icechunk``; by default beside the recipe.
    root : path, optional
        The folder of the data set.
    overwrite : bool
        Build anew, in place of what is there.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    Store

    Raises
    ------
    InputError
        Where the recipe, the data set or the place cannot be used.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, root)
    for name in loaded.targets:
        FEATURES.load(name)  # an unknown target shows before anything is written
    source = loaded.name if isinstance(recipe, Recipe) else recipe
    path = Path(out) if out is not None else store_path(loaded, source)
    if path.suffix != ".icechunk":
        raise InputError(
            "a store that is built has a name of its own sort",
            given=str(path),
            expected="NAME.icechunk",
            todo="end the name in .icechunk; neurorecon export makes a .zarr of it",
        )
    build_store(loaded, path, overwrite=overwrite, progress=progress)
    return extract(open_store(path), loaded.targets, overwrite=overwrite, progress=progress)
