"""Compute targets for the stimuli of a store, batch by batch, and write them to the store."""

from __future__ import annotations

import functools
import inspect
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from neurorecon import __version__
from neurorecon.datasets.recipe import Recipe, load_recipe
from neurorecon.errors import BundledWeightsWarning, InputError, StoreError
from neurorecon.features.base import Extractor, Needs, NetworkExtractor, StimulusBatch, dims_of
from neurorecon.hub.catalog import PLAYED_BY, items
from neurorecon.io.files import is_url
from neurorecon.parallel import Compute, connect, imap
from neurorecon.parallel.workers import launched
from neurorecon.provenance import bundled_weights, to_json_types, weights_label
from neurorecon.registry import FEATURES
from neurorecon.store import schema
from neurorecon.store.build import build_store
from neurorecon.store.leaks import record_identical_rows
from neurorecon.store.store import Store, open_store, text_of
from neurorecon.store.writer import StoreWriter

logger = logging.getLogger("neurorecon")

#: Stands for all built-in targets that can be computed from the store.
ALL = "all"

#: Settings that may be given even if no extractor takes them; any other setting must be taken by at least one.
COMMON = ("models", "device", "precision")


class StimulusReader:
    """Read batches of stimuli from a store.

    Parameters
    ----------
    store : Store
        The store.
    needs : str
        What a batch has to contain; see :class:`~neurorecon.features.base.Extractor`.
    """

    def __init__(self, store: Store, needs: Needs) -> None:
        self.store = store
        self.needs = needs
        self._images = _Rows(_array(store, "images")) if needs == "images" else None
        self._frames = _Rows(_array(store, "frames")) if needs == "frames" else None
        ids = store._video_ids().tolist() if needs == "frames" else []
        self._video_row = {name: row for row, name in enumerate(ids)}

    def batch(self, rows: np.ndarray) -> StimulusBatch:
        """Return the stimuli in these rows of ``store.stimuli``."""
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
    """Read rows of an array, caching the last chunks, because batches are smaller than chunks.

    It reads Zarr directly, because a dask graph per batch costs more than the reading itself.
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
    """Return the rows of ``store.stimuli`` for which a target can be computed.

    Raises
    ------
    StoreError
        If there are none.
    """
    missing = store.lacks(extractor.needs)
    if missing is not None:
        raise StoreError(
            f"the target {extractor.name!r} is computed from {extractor.needs}, but this store has none",
            given=f"{len(store.stimuli)} stimuli, {missing}",
            expected=extractor.needs if extractor.needs != "frames" else "videos",
            todo="omit this target, or add one of your own (nr.add_target)",
        )
    if extractor.needs == "frames":
        return np.flatnonzero((store.stimuli["kind"] == "video").to_numpy())
    if extractor.needs == "captions":
        return np.flatnonzero(store.stimuli["captions"].map(len).to_numpy())
    if extractor.needs == "images":
        return np.flatnonzero((store.stimuli["kind"] != schema.OTHER).to_numpy())
    if extractor.needs == "categories" and store.labels is not None:
        return np.flatnonzero(store.labels.notna().all(axis=1).to_numpy())  # NaN where nobody labeled the stimulus
    return np.arange(len(store.stimuli))


def categories_of(store: Store) -> list[str]:
    """Return all categories of a store, sorted."""
    return sorted({str(name) for name in store.stimuli["category"]} - {""})


def _array(store: Store, name: str) -> Any:
    group: Any = store._root[schema.STIMULI]
    return group[name]


def load_extractor(name: str, **options: Any) -> Extractor:
    """Return an extractor, e.g. to compute a target of stimuli that are not in a store.

    Parameters
    ----------
    name : str
        A registered target, e.g. ``"clip_vision"``.
    **options
        Settings of the extractor, e.g. ``models="published"``, ``device="cuda"``, ``groups=15``. A target of a network
        needs `models`, because nobody can tell whether stimuli outside of a store are drawn scenes, the only ones that
        the bundled networks know.

    Returns
    -------
    Extractor
        ``load_extractor("clip_vision", models="published").transform(images)`` returns the features of images (uint8,
        float from 0 to 1, or PIL images).

    Raises
    ------
    UnknownNameError
        If the name is not registered.
    InputError
        If the extractor does not take a setting, or the weights of a network are not named.

    Examples
    --------
    >>> import numpy as np
    >>> import neurorecon as nr
    >>> images = np.zeros((2, 64, 64, 3), dtype=np.uint8)
    >>> len(nr.load_extractor("gabor").transform(images))
    2
    """
    found = make_extractors([name], options)[0]
    check_models([name], options.get("models"), simulated=False, of="stimuli that may be photographs")
    return found


def check_models(targets: Iterable[str | Extractor], models: str | Path | None, *, simulated: bool, of: str) -> None:
    """Refuse to choose the bundled networks for measured data; they have to be asked for.

    Parameters
    ----------
    targets : iterable of str or Extractor
        Names of registered targets, or extractors, whose weights were chosen when they were made.
    models : str, path or None
        The choice of the user, if any.
    simulated : bool
        Whether the data are simulated.
    of : str
        What the stimuli belong to, for the message.

    Raises
    ------
    InputError
        If the data are measured, a name stands for a network, and `models` is None.
    """
    names = [target for target in targets if isinstance(target, str) and _is_network(FEATURES.load(target))]
    if names and models is None and not simulated:
        raise InputError(
            "these targets need networks, and it is not said whose weights",
            given=f"{', '.join(names)}, of {of}",
            expected="the published weights, or a folder with your own; the bundled ones know drawn scenes only",
            todo="choose: --models published, or --models FOLDER (in Python, models=); of drawn scenes, bundled",
        )


def _is_network(maker: Any) -> bool:
    return issubclass(maker if isinstance(maker, type) else type(maker), NetworkExtractor)


def _warn_of_bundled(store: Store, extractors: Sequence[Extractor]) -> None:
    networks = [one for one in extractors if isinstance(one, NetworkExtractor)]
    found = bundled_weights(store, {one.name: one.source.record() for one in networks})
    if found is not None:
        warnings.warn(found, BundledWeightsWarning, stacklevel=3)


def make_extractors(
    targets: Iterable[str | Extractor], options: Mapping[str, Any], categories: list[str] | None = None
) -> list[Extractor]:
    """Return the extractors of several targets, each with the settings that it takes.

    Parameters
    ----------
    targets : iterable of str or Extractor
        Names of registered targets, or extractors, which are returned as they are.
    options : mapping
        Settings by name; None means the default.
    categories : list of str, optional
        Categories of the store.

    Returns
    -------
    list of Extractor

    Raises
    ------
    UnknownNameError
        If a name is not registered.
    InputError
        If none of the targets takes a setting.
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
                todo="omit the setting, or check its spelling",
            )
    return [_made(one, given, categories, taken.get(id(one), {})) for one in loaded]


def all_targets(store: Store) -> list[str]:
    """Return the names of the built-in targets that can be computed from the store.

    Targets whose networks are not bundled, of several gigabytes each, have to be asked for by name.
    """
    bundled = {item.role for item in items("weights") if item.origin == "bundled"}
    makers = {name: FEATURES.load(name) for name in FEATURES.builtin}
    return [
        name
        for name, maker in makers.items()
        if store.lacks(maker.needs) is None and (maker.role is None or PLAYED_BY.get(maker.role, maker.role) in bundled)
    ]


def chosen_targets(store: Store, targets: str | Extractor | Iterable[str | Extractor]) -> list[str | Extractor]:
    """Expand a name, an extractor, several of these, or ``"all"`` to a list of targets."""
    listed = [targets] if isinstance(targets, str | Extractor) else list(targets)
    found: list[str | Extractor] = []
    for target in listed:
        found += all_targets(store) if target == ALL else [target]
    return list(dict.fromkeys(found))


def extractors_for(
    store: Store, targets: str | Extractor | Iterable[str | Extractor], options: Mapping[str, Any]
) -> list[Extractor]:
    """Return the extractors of the given targets for a store; see :func:`extract`."""
    return make_extractors(chosen_targets(store, targets), options, categories_of(store))


#: Stands in a list of parameters for "any other".
_ANY = "**"


def _parameters(maker: Any) -> dict[str, Any]:
    """Return the parameters of a constructor by name."""
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


#: Folder of built stores when a recipe does not come from a TOML file.
STORES = Path("stores")


def store_path(recipe: Recipe, source: str | Path) -> Path:
    """Return the path of a recipe's store: beside its TOML file, or in ``stores/`` in the current folder."""
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
    """Build a store and compute its targets; resume an interrupted build, keep a finished one.

    Parameters
    ----------
    recipe : path, str or Recipe
        A TOML file, the name of a registered reader (``"scenes"``), or a recipe.
    out : path, optional
        Path of the store, ``NAME.icechunk``; by default beside the recipe.
    root : path, optional
        The folder of the data set.
    overwrite : bool
        Replace an existing store.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    Store

    Raises
    ------
    InputError
        If the recipe, the data set or the path is invalid.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, root)
    for name in loaded.targets:
        FEATURES.load(name)  # unknown targets raise before anything is written
    source = loaded.name if isinstance(recipe, Recipe) else recipe
    path = Path(out) if out is not None else store_path(loaded, source)
    if path.suffix != ".icechunk":
        raise InputError(
            "the path of a store must end in .icechunk",
            given=str(path),
            expected="NAME.icechunk",
            todo="end the name in .icechunk; neurorecon export converts a store to .zarr",
        )
    if not path.exists() and any(_is_network(FEATURES.load(name)) for name in loaded.targets):
        # Before hours of building, not after them.
        simulated = loaded.open().description.simulated
        check_models(loaded.targets, loaded.models, simulated=simulated, of=f"the recipe {loaded.name!r}")
    build_store(loaded, path, overwrite=overwrite, progress=progress)
    return extract(open_store(path), loaded.targets, models=loaded.models, overwrite=overwrite, progress=progress)


#: A batch, as the half-open range (first row, last row + 1) of a target.
Part = tuple[int, int]

#: Purely descriptive attributes: two targets that differ only in these are the same.
DESCRIPTIVE = ("weights", "weights_origin", "licence", "license", "source")


@dataclass(frozen=True)
class Speed:
    """How fast a target was computed.

    Parameters
    ----------
    target : str
        Name of the target.
    stimuli : int
        Number of stimuli computed in this run, without those of an interrupted run that it resumed.
    seconds : float
        Time for reading, computing and writing.
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
    """Compute targets and write them to the store.

    Interrupted computations resume, and each target becomes visible once it is complete. Targets that are already in
    the store are skipped.

    Parameters
    ----------
    store : Store
        The store, opened from an Icechunk folder.
    targets : str, Extractor, or iterable of these
        Names of registered targets, extractors, or ``"all"`` for all built-in targets that can be computed from the
        store.
    models : {"bundled", "published"} or path, optional
        Which weights to use. By default ``"bundled"`` for simulated data; for measured data, targets of networks need a
        choice, because the bundled networks know drawn scenes only.
    device : str, optional
        Device of networks: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; by default a GPU if there is one.
    precision : {"float32", "bfloat16", "float16", "auto"}, optional
        Precision of networks; ``"float32"`` by default. docs/features.md lists the errors of the others.
    batch : int, optional
        Number of stimuli in a batch; bounds the memory. The default depends on the target.
    overwrite : bool
        Recompute targets that were made with other settings.
    progress : bool
        Show progress bars on stderr.
    scheduler : str or distributed.Client, optional
        ``"local"`` for several processes on this machine, or the address of a dask scheduler
        (``"tcp://host:8786"``): its workers compute and this process writes. By default this process computes, or all
        processes started by ``accelerate launch``.
    report : callable, optional
        Called with the :class:`Speed` of each computed target.
    **options
        Further settings of the targets: ``groups`` and ``seed`` (``vdvae``), ``seed`` and ``size`` (``vqvae``),
        ``part`` (``clip_layers``).

    Returns
    -------
    Store
        The store reopened, with the targets.

    Raises
    ------
    UnknownNameError
        If a name is not registered.
    InputError
        If none of the targets takes a setting, a target cannot be computed, or the weights for measured data are not
        named.
    MissingFileError
        If weights are not on this machine; the message gives the command that downloads them.
    StoreError
        If the store has a target of the same name that was made with other settings, or lacks what a target needs.
    """
    with connect(scheduler) as client:
        ranks = launched(device) if client is None else None
        place = device if ranks is None else ranks.device
        settings = {"models": models, "device": place, "precision": precision, **options}
        targets = chosen_targets(store, targets)
        of = f"the store {store.name!r}, which is not simulated"
        check_models(targets, models, simulated=store.simulated, of=of)
        extractors = extractors_for(store, targets, settings)
        _warn_of_bundled(store, extractors)
        if ranks is not None and ranks.rank > 0:
            # The first process announces each target; the others compute their share of it.
            named = {extractor.name: extractor for extractor in extractors}
            while (name := ranks.broadcast()) is not None:
                for _ in _compute(store, named[name], (), Compute()):
                    pass
            return store.reopened()
        missing = [extractor for extractor in extractors if not _is_there(store, extractor, overwrite)]
        todo = [(extractor, rows_of(store, extractor)) for extractor in missing]
        if todo:
            compute = Compute(scheduler=client, progress=progress)
            with StoreWriter(store.location) as writer:
                for number, (extractor, rows) in enumerate(todo):
                    if client is None and ranks is None:  # sharing works only if one process computes all batches
                        extractor.meet([later for later, _ in todo[number + 1 :]])
                    speed = _write_target(writer, store, extractor, rows, batch, compute)
                    if report is not None:
                        report(speed)
        if ranks is not None:
            ranks.broadcast(None)
    return store.reopened() if todo else store


def ensure_targets(
    store: Store,
    targets: Iterable[str],
    *,
    models: str | Path | None = None,
    device: str | None = None,
    precision: str | None = None,
    scheduler: Any = None,
    progress: bool = True,
) -> Store:
    """Compute the targets that a store lacks, and say so in one line.

    Analyses and systems call this with the names of what they need. Targets in the store are taken as they are,
    whatever made them.

    Parameters
    ----------
    store : Store
        The store.
    targets : iterable of str
        Names of targets; ``"images"`` and ``"frames"`` stand for the stimuli, and are ignored.
    models, device, precision, scheduler, progress
        As for :func:`extract`. In particular, targets of measured data that need a network need `models`.

    Returns
    -------
    Store
        The same store if nothing was missing, else the store reopened with the new targets, and with all that was
        added since its snapshot.

    Raises
    ------
    UnknownNameError
        If a target is neither in the store nor registered.
    InputError
        If it is not said whose networks compute targets of measured data.
    StoreError
        If targets are missing and the store cannot be written (a URL, a ``.zarr`` folder, a snapshot whose arrays have
        changed since), or lacks what they are computed from.
    """
    known = {"images", "frames", *store.targets_available}
    missing = [name for name in dict.fromkeys(targets) if name not in known]
    if not missing:
        return store
    for name in missing:
        if name not in FEATURES.names():
            store.target_stimuli(name)  # raises, with advice
    lasting = None
    if is_url(store.location):
        lasting = "stores at a URL are read only"
    elif store.snapshot is None:
        lasting = "plain Zarr is read only"
    elif (latest := store.reopened()).snapshot != store.snapshot:
        if not store.digests().items() <= latest.digests().items():
            lasting = f"arrays have changed since the snapshot {store.snapshot}"
        else:  # another analysis of the same script has added something
            store = latest
            missing = [name for name in missing if name not in store.targets_available]
            if not missing:
                return store
    if lasting is not None:
        raise StoreError(
            "this store lacks targets, and they cannot be added to it",
            given=f"{store.location} without {', '.join(missing)}; {lasting}",
            expected="a store with these targets, or the latest state of an .icechunk folder on this machine",
            todo=f"compute them where the store is built: neurorecon features {store.name}.icechunk "
            + " ".join(f"--target {name}" for name in missing),
        )
    extractors = extractors_for(store, missing, {"models": models, "device": device, "precision": precision})
    numbers = {extractor.name: len(rows_of(store, extractor)) for extractor in extractors}
    check_models(missing, models, simulated=store.simulated, of=f"the store {store.name!r}, which is not simulated")
    logger.info(
        "extracting what %s lacks: %s",
        store.location,
        ", ".join(
            f"{extractor.name} of {numbers[extractor.name]:,} stimuli ({weights_label(made_by(extractor))})"
            for extractor in extractors
        ),
    )
    return extract(
        store, extractors, models=models, device=device, precision=precision, scheduler=scheduler, progress=progress
    )


def require_networks(name: str, attrs: Mapping[str, Any], models: str | Path, of: str) -> None:
    """Refuse a stored target of other networks than those that generate from it.

    Parameters
    ----------
    name : str
        Of the target; of targets that are not registered nothing is known.
    attrs : mapping
        Its attributes in the store.
    models : {"bundled", "published"} or path
        The networks that generate.
    of : str
        Whose they are, for the message.
    """
    stored = attrs.get("weights_sha256")
    if stored is None or name not in FEATURES.names():
        return
    own = getattr(load_extractor(name, models=models), "source", None)
    if own is not None and own.sha256 != stored:
        raise InputError(
            f"the target {name!r} comes from other networks than those of {of}",
            given=f"{attrs.get('weights')} ({str(stored)[:8]}) in the store, models={str(models)!r}",
            expected=f"{own.name} ({own.sha256[:8]}) in both",
            todo=f"choose models=, or extract it again: neurorecon features --target {name} --models {models}",
        )


def made_by(extractor: Extractor) -> dict[str, Any]:
    """Return the attributes that identify a target, as they are stored (JSON types)."""
    found: dict[str, Any] = to_json_types(extractor.made_by())
    return {**found, "extractor": extractor.name, "extractor_version": extractor.version}


def differences(found: Any, wanted: Any) -> list[str]:
    """Return the names of the attributes in which a stored target differs from a wanted one."""
    return sorted(key for key, value in wanted.items() if key not in DESCRIPTIVE and found.get(key) != value)


def _is_there(store: Store, extractor: Extractor, overwrite: bool) -> bool:
    wanted = made_by(extractor)  # raises if weights are missing, before anything is written
    if extractor.name not in store.targets_available:
        return False
    found = store.targets(extractor.name).attrs
    different = differences(found, wanted)
    if different and not overwrite:
        raise StoreError(
            f"the store has a target {extractor.name!r} that was made with other settings",
            given=", ".join(f"{key} = {found.get(key)!r}" for key in different),
            expected=", ".join(f"{key} = {wanted[key]!r}" for key in different),
            todo="recompute it with --overwrite; snapshots of earlier results keep the old values",
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
        # Cannot resume: the partial target was computed with other settings.
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
        # Slices of another target are read in whole blocks, because its chunks hold more stimuli than a batch.
        most = size or (extractor.batch if whole is None else len(rows))
        stream = Stream(begin, shape, most, extractor.name, bar.update)
        try:
            dims = ["stimulus", *dims_of(extractor, len(shape) - 1)]
            writer.stream(f"{path}/values", dims, shape, "float32", stream.read)
        finally:
            stream.close()
    record_identical_rows(writer.root, extractor.name)
    writer.root[path].attrs["complete"] = True
    writer.commit(f"target {extractor.name}")
    return Speed(extractor.name, len(rows) - stream.started_at, time.perf_counter() - begun)


class _Batches:
    """An extractor and its stimuli, opened once in each computing process.

    Parameters
    ----------
    store : Store
    extractor : Extractor
    made_by : dict
        ``extractor.made_by()`` in the process that started the computation.
    """

    def __init__(self, store: Store, extractor: Extractor, made_by: dict[str, Any]) -> None:
        self._extractor = extractor
        self._reader = StimulusReader(store, extractor.needs)
        found = extractor.made_by()
        different = sorted(key for key in made_by if found.get(key) != made_by[key])
        if different:
            raise StoreError(
                "a worker would compute this target with other settings",
                given=", ".join(f"{key} = {found.get(key)!r}" for key in different),
                expected=", ".join(f"{key} = {made_by[key]!r}" for key in different),
                todo="install the same weights and the same version of neurorecon on all workers",
            )

    def prepare(self, rows: np.ndarray) -> Any:
        """Read and prepare the stimuli in these rows of ``store.stimuli``."""
        return self._extractor.prepare(self._reader.batch(rows))

    def compute(self, prepared: Any) -> np.ndarray:
        """Return the target of a prepared batch, float32, shape (stimulus, ...)."""
        return np.asarray(self._extractor.compute(prepared), dtype=np.float32)


def _compute(
    store: Store, extractor: Extractor, batches: Sequence[np.ndarray], compute: Compute
) -> Iterator[np.ndarray]:
    """Yield the target of each batch of rows in order, while reading, preparing and writing overlap."""
    setup = functools.partial(_Batches, store, extractor, extractor.made_by())
    return imap(_Batches.compute, batches, prepare=_Batches.prepare, setup=setup, compute=compute)


def parts_of(start: int, stop: int, block: int, size: int) -> list[Part]:
    """Split rows into batches that do not cross block boundaries, so that a resumed run has the same batches."""
    found = []
    for first in range(start, stop, block):
        last = min(first + block, stop)
        found += [(begin, min(begin + size, last)) for begin in range(first, last, size)]
    return found


class Stream:
    """Serve a target to the writer block by block, from batches that are computed in order.

    Parameters
    ----------
    begin : callable
        Given the remaining parts, returns an iterator over their values.
    shape : tuple of int
        Shape of the whole target.
    size : int
        Rows in a part.
    name : str
        Name of the target, for messages.
    done : callable
        Called after each part with its number of rows.
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
        """Stop computations that run ahead."""
        if self._values is not None and hasattr(self._values, "close"):
            self._values.close()


def _check(values: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    if values.shape[1:] != shape:
        raise InputError(
            f"the target {name!r} differs in shape between stimuli",
            given=str(values.shape[1:]),
            expected=str(shape),
            todo="fix the extractor: every stimulus must have the same number of values",
        )
    if not np.isfinite(values).all():
        raise InputError(
            f"the target {name!r} contains NaN or infinite values",
            given=f"{int((~np.isfinite(values)).sum())} of {values.size} in one batch",
            expected="finite numbers",
            todo="use --precision float32 or bfloat16 if it was float16; otherwise fix the extractor",
        )


def _whole(writer: StoreWriter, extractor: Extractor, ids: np.ndarray) -> str | None:
    """Return the path of the stored target that contains this one, or None if there is none that matches."""
    whole = extractor.whole()
    path = "" if whole is None else f"{schema.TARGETS}/{whole.name}"
    if whole is None or path not in writer.root:
        return None
    group: Any = writer.root[path]
    if not group.attrs.get("complete") or differences(group.attrs, made_by(whole)):
        return None
    return path if np.array_equal(text_of(group["stimulus"]), ids) else None


def _rows(writer: StoreWriter, path: str, start: int, stop: int) -> np.ndarray:
    """Return rows of a stored target, looking it up each time, because a commit starts a new session."""
    target: Any = writer.root[path]
    rows: np.ndarray = target["values"][start:stop]
    return rows
