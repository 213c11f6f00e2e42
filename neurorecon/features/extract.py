"""Compute targets for the stimuli of a store, batch by batch, and write them into it."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from neurorecon import __version__
from neurorecon.datasets.recipe import Recipe, load_recipe
from neurorecon.errors import InputError, StoreError
from neurorecon.features.base import Extractor, Needs, StimulusBatch, dims_of
from neurorecon.parallel import Compute, connect, imap
from neurorecon.parallel.workers import launched
from neurorecon.provenance import to_json_types
from neurorecon.registry import FEATURES
from neurorecon.store import schema
from neurorecon.store.build import build_store
from neurorecon.store.store import Store, open_store, text_of
from neurorecon.store.writer import StoreWriter

#: Stands for every target that neurorecon ships and the store allows.
ALL = "all"

#: Settings that are given to all extractors that take them; the others have to be taken by one at least.
COMMON = ("models", "device", "precision")


class StimulusReader:
    """Hands out batches of the stimuli of a store.

    Parameters
    ----------
    store : Store
        The store.
    needs : str
        What a batch has to hold, as :class:`~neurorecon.features.base.Extractor` says it.
    """

    def __init__(self, store: Store, needs: Needs) -> None:
        self.store = store
        self.needs = needs
        self._images = _Rows(_array(store, "images")) if needs == "images" else None
        self._frames = _Rows(_array(store, "frames")) if needs == "frames" else None
        self._video_row = _video_rows(store) if needs == "frames" else {}

    def batch(self, rows: np.ndarray) -> StimulusBatch:
        """Return the stimuli of these rows of the store's table."""
        store = self.store
        table = store.stimuli.iloc[rows].reset_index(drop=True)
        labels = None if store.labels is None else store.labels.iloc[rows].reset_index(drop=True)
        frames = None
        if self._frames is not None:
            frames = self._frames.read(np.array([self._video_row[name] for name in table["id"]], dtype=int))
        return StimulusBatch(
            table=table,
            labels=labels,
            images=None if self._images is None else self._images.read(rows),
            frames=frames,
            frames_per_second=store.frames_per_second,
        )


class _Rows:
    """Reads rows of an array and keeps the chunks that it read last: batches are smaller than chunks.

    Zarr is asked directly, because a graph of dask for every batch costs more than the reading.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        self._chunk = int(array.chunks[0])
        self._start, self._kept = 0, np.empty((0, *array.shape[1:]), array.dtype)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return these rows, in this order."""
        start, stop = int(rows.min()), int(rows.max()) + 1
        if stop - start > 2 * len(rows) + self._chunk:  # far apart
            picked: np.ndarray = self._array.oindex[rows]
            return picked
        if start < self._start or stop > self._start + len(self._kept):
            self._start = start // self._chunk * self._chunk
            end = min(-(-stop // self._chunk) * self._chunk, self._array.shape[0])
            self._kept = self._array[self._start : end]
        return self._kept[rows - self._start]


def rows_of(store: Store, extractor: Extractor) -> np.ndarray:
    """Return the rows of the store's table of stimuli that have a target.

    Raises
    ------
    StoreError
        Where there are none.
    """
    missing = what_is_missing(store, extractor.needs)
    if missing is not None:
        raise StoreError(
            f"the target {extractor.name!r} is computed from {extractor.needs}, and this store holds none",
            given=f"{len(store.stimuli)} stimuli, {missing}",
            expected=extractor.needs if extractor.needs != "frames" else "films",
            todo="leave this target out",
        )
    if extractor.needs == "frames":
        return np.flatnonzero((store.stimuli["kind"] == "film").to_numpy())
    if extractor.needs == "captions":
        return np.flatnonzero(store.stimuli["captions"].map(len).to_numpy())
    return np.arange(len(store.stimuli))


def what_is_missing(store: Store, needs: Needs) -> str | None:
    """Say what a store lacks for targets of a kind; None where it lacks nothing."""
    group: Any = store._root[schema.STIMULI]
    if needs == "images" and "images" not in group:
        return "no images"
    if needs == "frames" and ("frames" not in group or not (store.stimuli["kind"] == "film").any()):
        return "no films"
    if needs == "captions" and not store.stimuli["captions"].map(len).any():
        return "no captions"
    if needs == "categories" and not categories_of(store) and not _category_labels(store):
        return "no categories"
    return None


def categories_of(store: Store) -> list[str]:
    """Return all categories of a store, sorted."""
    return sorted({str(name) for name in store.stimuli["category"]} - {""})


def _category_labels(store: Store) -> bool:
    return store.labels is not None and any(str(name).startswith("category:") for name in store.labels.columns)


def _array(store: Store, name: str) -> Any:
    group: Any = store._root[schema.STIMULI]
    return group[name]


def _video_rows(store: Store) -> dict[str, int]:
    return {name: row for row, name in enumerate(text_of(_array(store, "film")).tolist())}


def load_extractor(name: str, **options: Any) -> Extractor:
    """Return an extractor, to compute a target of stimuli that are in no store.

    Parameters
    ----------
    name : str
        A registered target, e.g. ``"clip_vision"``.
    **options
        Its settings, e.g. ``models="published"``, ``device="cuda"``, ``groups=15``.

    Returns
    -------
    Extractor
        ``load_extractor("clip_vision").transform(images)`` gives the features of images (uint8, float from 0 to 1,
        or PIL images).

    Raises
    ------
    UnknownNameError
        For a name that is not registered.
    InputError
        For a setting that the extractor does not take.
    """
    return make_extractors([name], options)[0]


def make_extractors(
    targets: Iterable[str | Extractor], options: Mapping[str, Any], categories: list[str] | None = None
) -> list[Extractor]:
    """Return the extractors of some targets.

    Parameters
    ----------
    targets : iterable of str or Extractor
        Names of registered targets; extractors are taken as they are.
    options : mapping
        Settings by name; None stands for a setting's default.
    categories : list of str, optional
        Categories of the store.
    """
    given = {name: value for name, value in options.items() if value is not None}
    loaded = [target if isinstance(target, Extractor) else FEATURES.load(target) for target in targets]
    taken = {id(one): _parameters(one) for one in loaded if not isinstance(one, Extractor)}
    for name in given:
        known = sorted({parameter for parameters in taken.values() for parameter in parameters} - {"categories"})
        if name not in known and name not in COMMON and _ANY not in known:
            raise InputError(
                "none of these targets takes this setting",
                given=f"{name}={given[name]!r}",
                expected=f"one of: {', '.join(known) or '(none)'}",
                todo="leave it out, or check its spelling",
            )
    return [_made(one, given, categories, taken.get(id(one), {})) for one in loaded]


def all_targets(store: Store) -> list[str]:
    """Return the names of the targets that neurorecon ships and that the store allows."""
    return [name for name in FEATURES.builtin if what_is_missing(store, FEATURES.load(name).needs) is None]


def chosen_targets(store: Store, targets: str | Extractor | Iterable[str | Extractor]) -> list[str | Extractor]:
    """Return the targets that a caller means: a name, an extractor, several of them, or ``"all"``."""
    listed = [targets] if isinstance(targets, str | Extractor) else list(targets)
    found: list[str | Extractor] = []
    for target in listed:
        found += all_targets(store) if target == ALL else [target]
    return list(dict.fromkeys(found))


def extractors_for(
    store: Store, targets: str | Extractor | Iterable[str | Extractor], options: Mapping[str, Any]
) -> list[Extractor]:
    """Return the extractors of the targets that a caller means for a store."""
    return make_extractors(chosen_targets(store, targets), options, categories_of(store))


#: Stands in a list of parameters for "any other".
_ANY = "**"


def _parameters(maker: Any) -> dict[str, Any]:
    """Return the parameters of a constructor by name; old ones take nothing but the categories."""
    parameters = inspect.signature(maker).parameters
    return {
        _ANY if parameter.kind is inspect.Parameter.VAR_KEYWORD else name: parameter
        for name, parameter in parameters.items()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
    }


def _made(maker: Any, given: Mapping[str, Any], categories: list[str] | None, taken: Mapping[str, Any]) -> Extractor:
    if isinstance(maker, Extractor):
        return maker
    wanted = {"categories": categories, **given}
    extractor: Extractor = maker(
        **{name: value for name, value in wanted.items() if name in taken or (_ANY in taken and name != "categories")}
    )
    return extractor


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


#: A batch: its first row among those of the target, and the one behind its last.
Part = tuple[int, int]

#: Entries that only describe: two targets that differ in these alone are the same.
DESCRIPTIVE = ("weights", "licence", "license", "source")


@dataclass(frozen=True)
class Speed:
    """How quickly a target was computed.

    Parameters
    ----------
    target : str
        Its name.
    stimuli : int
        How many were computed now; those of an interrupted run that was gone on with do not count.
    seconds : float
        Reading, computing and writing together.
    """

    target: str
    stimuli: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Stimuli per second."""
        return self.stimuli / self.seconds if self.seconds > 0 else float("inf")


def extract(
    store: Store,
    targets: str | Extractor | Iterable[str | Extractor],
    *,
    models: str | Path | None = None,
    device: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
    scheduler: Any = None,
    report: Callable[[Speed], None] | None = None,
    **options: Any,
) -> Store:
    """Compute targets and write them into the store.

    An interrupted call resumes; each target becomes visible when it is complete. Targets that the
    store holds already are left as they are.

    Parameters
    ----------
    store : Store
        The store, opened from an Icechunk folder.
    targets : str, Extractor, or iterable of these
        Names of registered targets, extractors, or ``"all"``: every target that neurorecon ships and the store allows.
    models : {"bundled", "published"} or path, optional
        Whose weights; ``"bundled"`` where left out.
    device : str, optional
        Where networks run: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; by default a graphics card where there is
        one.
    precision : {"float32", "bfloat16", "float16", "auto"}, optional
        What networks compute in; float32 where left out. See docs/features.md for the error.
    batch : int, optional
        Stimuli at a time; bounds the memory. By default what suits the target.
    overwrite : bool
        Compute targets again that were made otherwise.
    progress : bool
        Show progress bars on stderr.
    scheduler : str or distributed.Client, optional
        ``"local"`` for several processes of this machine, or the address of a dask scheduler (``"tcp://host:8786"``):
        its workers compute, this process writes. Left out, this process computes, or all that ``accelerate launch``
        started together.
    report : callable, optional
        Told the :class:`Speed` of each target that was computed.
    **options
        Further settings of the targets: ``groups`` and ``seed`` (``vdvae``), ``seed`` and ``size`` (``vqvae``),
        ``part`` (``clip_layers``).

    Returns
    -------
    Store
        The store opened anew, with the targets.

    Raises
    ------
    UnknownNameError
        For a name that is not registered.
    MissingFileError
        Where weights are not on this machine; the message holds the command that fetches them.
    StoreError
        Where the store holds a target of the same name that was made otherwise, or lacks what a target needs.
    """
    with connect(scheduler) as client:
        ranks = launched(device) if client is None else None
        place = device if ranks is None else ranks.device
        settings = {"models": models, "device": place, "precision": precision, **options}
        extractors = extractors_for(store, targets, settings)
        if ranks is not None and ranks.rank > 0:
            # Compute a share of each target that the first process announces.
            named = {extractor.name: extractor for extractor in extractors}
            while (name := ranks.broadcast()) is not None:
                for _ in _compute(store, named[name], (), Compute()):
                    pass
            return open_store(store.location)
        missing = [extractor for extractor in extractors if not _is_there(store, extractor, overwrite)]
        todo = [(extractor, rows_of(store, extractor)) for extractor in missing]
        if todo:
            compute = Compute(scheduler=client, progress=progress)
            with StoreWriter(store.location) as writer:
                for number, (extractor, rows) in enumerate(todo):
                    if client is None and ranks is None:  # others compute elsewhere, each batch where there is room
                        extractor.meet([later for later, _ in todo[number + 1 :]])
                    speed = _write_target(writer, store, extractor, rows, batch, compute)
                    if report is not None:
                        report(speed)
        if ranks is not None:
            ranks.broadcast(None)
    return open_store(store.location) if todo else store


def made_by(extractor: Extractor) -> dict[str, Any]:
    """Return all that says which target this is, as it is stored (JSON types)."""
    found: dict[str, Any] = to_json_types(extractor.made_by())
    return {**found, "extractor": extractor.name, "extractor_version": extractor.version}


def differences(found: Any, wanted: Any) -> list[str]:
    """Return the names of the entries in which a stored target differs from a wanted one."""
    return sorted(key for key, value in wanted.items() if key not in DESCRIPTIVE and found.get(key) != value)


def _is_there(store: Store, extractor: Extractor, overwrite: bool) -> bool:
    wanted = made_by(extractor)  # looks for the weights, before anything is written
    if extractor.name not in store.targets_available:
        return False
    found = store.targets(extractor.name).attrs
    different = differences(found, wanted)
    if different and not overwrite:
        raise StoreError(
            f"the store holds a target {extractor.name!r} that was made otherwise",
            given=", ".join(f"{key} = {found.get(key)!r}" for key in different),
            expected=", ".join(f"{key} = {wanted[key]!r}" for key in different),
            todo="compute it again with --overwrite; results made with the old one keep their snapshot",
        )
    return not different


def _write_target(
    writer: StoreWriter,
    store: Store,
    extractor: Extractor,
    rows: np.ndarray,
    size: int | None,
    compute: Compute,
) -> Speed:
    path = f"{schema.TARGETS}/{extractor.name}"
    group = writer.root.require_group(path)
    wanted = made_by(extractor)
    if differences(group.attrs, wanted):
        # Nothing that was begun otherwise is gone on with.
        del writer.root[path]
        group = writer.root.require_group(path)
    first, ids = StimulusReader(store, extractor.needs).batch(rows[:1]), store.stimuli["id"].to_numpy(str)[rows]
    whole = _whole(writer, extractor, ids)
    if whole is None:
        one = np.asarray(extractor.compute(extractor.prepare(first)))
    else:
        one = extractor.cut(_rows(writer, whole, 0, 1))
    shape = (len(rows), *one.shape[1:])
    group.attrs.update({**wanted, **extractor.layout(), "neurorecon_version": __version__, "complete": False})
    writer.put(f"{path}/stimulus", ["stimulus"], ids)
    names = extractor.feature_names(first)
    if names is not None:
        writer.put(f"{path}/feature", ["feature"], np.array(names, dtype=str))
    begun = time.perf_counter()

    def begin(parts: list[Part]) -> Iterator[np.ndarray]:
        bar.initial = bar.n = parts[0][0]
        if whole is not None:
            return (extractor.cut(_rows(writer, whole, start, stop)) for start, stop in parts)
        ranks = launched() if compute.scheduler is None else None
        if ranks is not None:
            ranks.broadcast(extractor.name)
        return _compute(store, extractor, [rows[start:stop] for start, stop in parts], compute)

    with tqdm(
        total=len(rows), desc=f"target {extractor.name}", unit="stimulus", disable=not compute.progress, leave=False
    ) as bar:
        # What is cut out of another target is read in blocks: its chunks hold more stimuli than a batch.
        most = size or (extractor.batch if whole is None else len(rows))
        stream = Stream(begin, shape, most, extractor.name, bar.update)
        try:
            dims = ["stimulus", *dims_of(extractor, len(shape) - 1)]
            writer.stream(f"{path}/values", dims, shape, "float32", stream.read)
        finally:
            stream.close()
    writer.root[path].attrs["complete"] = True
    writer.commit(f"target {extractor.name}")
    return Speed(extractor.name, len(rows) - stream.started_at, time.perf_counter() - begun)


class _Batches:
    """An extractor and the stimuli that it reads, opened once in each process that computes.

    Parameters
    ----------
    store : Store
    extractor : Extractor
    made_by : dict
        What says which target this is, where the computation was begun.
    """

    def __init__(self, store: Store, extractor: Extractor, made_by: dict[str, Any]) -> None:
        self._extractor = extractor
        self._reader = StimulusReader(store, extractor.needs)
        found = extractor.made_by()
        different = sorted(key for key in made_by if found.get(key) != made_by[key])
        if different:
            raise StoreError(
                "a worker would compute this target otherwise",
                given=", ".join(f"{key} = {found.get(key)!r}" for key in different),
                expected=", ".join(f"{key} = {made_by[key]!r}" for key in different),
                todo="give all workers the same weights and the same version of neurorecon",
            )

    def prepare(self, rows: np.ndarray) -> Any:
        """Read and prepare the stimuli of some rows of the store's table."""
        return self._extractor.prepare(self._reader.batch(rows))

    def compute(self, prepared: Any) -> np.ndarray:
        """Return the target of a prepared batch, float32, shape (stimulus, ...)."""
        return np.asarray(self._extractor.compute(prepared), dtype=np.float32)


def _compute(
    store: Store, extractor: Extractor, batches: Sequence[np.ndarray], compute: Compute
) -> Iterator[np.ndarray]:
    """Yield the target of each batch of rows, in order; reading, preparing, computing and writing overlap."""
    setup = functools.partial(_Batches, store, extractor, extractor.made_by())
    return imap(_Batches.compute, batches, prepare=_Batches.prepare, setup=setup, compute=compute)


def parts_of(start: int, stop: int, block: int, size: int) -> list[Part]:
    """Split rows into batches that do not reach across blocks, so that a resumed run has the same ones."""
    found = []
    for first in range(start, stop, block):
        last = min(first + block, stop)
        found += [(begin, min(begin + size, last)) for begin in range(first, last, size)]
    return found


class Stream:
    """Gives rows of a target to the writer, which asks for block after block.

    Parameters
    ----------
    begin : callable
        Given the parts still to do, an iterator of their values.
    shape : tuple of int
        Of the whole target.
    size : int
        Rows of a part.
    name : str
        The target, for messages.
    done : callable
        Told the number of rows after each part.
    """

    def __init__(
        self,
        begin: Callable[[list[Part]], Iterator[np.ndarray]],
        shape: tuple[int, ...],
        size: int,
        name: str,
        done: Callable[[int], None],
    ) -> None:
        self._begin, self._shape, self._size, self._name, self._done = begin, shape, size, name, done
        self._values: Iterator[np.ndarray] | None = None
        self.started_at = shape[0]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows of the target, float32, shape (stimulus, ...)."""
        if self._values is None:
            self.started_at = start
            parts = parts_of(start, self._shape[0], stop - start, self._size)
            self._values = self._begin(parts)
        block = np.empty((stop - start, *self._shape[1:]), dtype=np.float32)
        filled = 0
        while filled < len(block):
            values = next(self._values)
            _check(values, self._shape[1:], self._name)
            block[filled : filled + len(values)] = values
            filled += len(values)
            self._done(len(values))
        return block

    def close(self) -> None:
        """Stop what still works ahead."""
        if self._values is not None and hasattr(self._values, "close"):
            self._values.close()


def _check(values: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    if values.shape[1:] != shape:
        raise InputError(
            f"the target {name!r} has another shape for some stimuli",
            given=str(values.shape[1:]),
            expected=str(shape),
            todo="fix the extractor: every stimulus has to have as many values",
        )
    if not np.isfinite(values).all():
        raise InputError(
            f"the target {name!r} holds values that are not numbers",
            given=f"{int((~np.isfinite(values)).sum())} of {values.size} in one batch",
            expected="finite numbers",
            todo="take --precision float32 or bfloat16 where it was float16; else fix the extractor",
        )


def _whole(writer: StoreWriter, extractor: Extractor, ids: np.ndarray) -> str | None:
    """Return where the store has the target that this one is a part of; None where it has none that fits."""
    whole = extractor.whole()
    path = "" if whole is None else f"{schema.TARGETS}/{whole.name}"
    if whole is None or path not in writer.root:
        return None
    group: Any = writer.root[path]
    if not group.attrs.get("complete") or differences(group.attrs, made_by(whole)):
        return None
    return path if np.array_equal(text_of(group["stimulus"]), ids) else None


def _rows(writer: StoreWriter, path: str, start: int, stop: int) -> np.ndarray:
    """Return rows of a stored target; it is looked up each time, because a commit begins a new session."""
    target: Any = writer.root[path]
    rows: np.ndarray = target["values"][start:stop]
    return rows
