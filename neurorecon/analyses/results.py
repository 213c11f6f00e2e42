"""The results of analyses, and the one function that writes them: tables, brain images, figures, pages, records."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses.design import Settings
from neurorecon.errors import MissingFileError
from neurorecon.io.files import move, refuse_inside_store, remove_leftovers, replacing, write_bytes, write_json
from neurorecon.parallel import in_processes
from neurorecon.provenance import bundled_weights, collect, to_json, weights_label, weights_record
from neurorecon.space import surface_values
from neurorecon.stats import CEILING_FLOOR, normalize_r2
from neurorecon.stats.exchange import Exchange
from neurorecon.store.store import Store

logger = logging.getLogger("neurorecon")

#: Formats of figures by default.
FORMATS = ("png",)

#: Name of the record beside a fitted system.
MANIFEST = "manifest.json"

#: Age after which folders that killed processes were writing are deleted: no write takes an hour.
LEFT_SECONDS = 3600.0

#: At most this many processes draw, each of about 300 MB, and only if there are at least this many figures.
MOST_PROCESSES, WORTH_PROCESSES = 4, 16


@dataclass(frozen=True)
class Score:
    """A score beside its permutation null.

    Parameters
    ----------
    name : str
        Subject, and what is scored.
    value : float
        The score.
    n : int
        Stimuli (or samples) that it is computed from.
    null_mean, null_max : float
        Mean and largest value of the null.
    p : float
        One-sided.
    n_permutations : int
        Of the null.
    n_undefined : int, optional
        Stimuli for which the score is undefined; they are left out of its mean. None where that cannot happen.
    baseline : float, optional
        Score that is reached without the brain; NaN where it is undefined.
    extra : mapping
        Further numbers.

    Examples
    --------
    >>> import neurorecon as nr
    >>> score = nr.Score("subj01 pixcorr", 0.4, n=100, null_mean=0.0, null_max=0.1, p=0.001, n_permutations=999)
    >>> score.row()["p"]
    0.001
    """

    name: str
    value: float
    n: int
    null_mean: float
    null_max: float
    p: float
    n_permutations: int
    n_undefined: int | None = None
    baseline: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the score for JSON."""
        numbers = {name: value for name, value in vars(self).items() if name != "extra" and value is not None}
        return {**numbers, **self.extra}


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of an analysis for one subject. Subclasses say what there is to write.

    Parameters
    ----------
    subject, task : str
        What was analyzed.
    settings : Settings
        What the user asked for.
    chosen : mapping
        What the defaults became, and numbers of voxels, stimuli and samples. Where both have a name, this one goes into
        the record.
    scores : sequence of Score
        Scores beside their null.
    null : mapping of str to array, shape (permutation,)
        The nulls.
    """

    subject: str
    task: str
    settings: Settings
    chosen: Mapping[str, Any]
    scores: Sequence[Score] = ()
    null: Mapping[str, np.ndarray] = field(default_factory=dict)

    #: Kind of result, for the record and for brain images.
    kind: str = "result"

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"{self.subject}_{self.kind}"

    def record(self) -> dict[str, Any]:
        """Return the settings and what was chosen, JSON types only."""
        return {"subject": self.subject, "kind": self.kind, **self.settings.record(), **self.chosen}

    def made_by(self, store: Store) -> dict[str, dict[str, Any]]:
        """Return the attributes of the targets of the store that were used, by name."""
        names = [*self.chosen.get("bands", ()), *self.chosen.get("targets", ())]
        return {name: store.about_target(name)[1] for name in dict.fromkeys(names) if name in store.targets_available}

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables, by name; an index is written if it has a name."""
        return {}

    def latex(self) -> dict[str, str]:
        """Return tables in LaTeX, by name."""
        return {}

    def voxels(self, store: Store) -> pd.DataFrame:
        """Return the voxels that brain maps have values for."""
        return store.voxels(self.subject, self.settings.rois)

    def brain_maps(self) -> dict[str, np.ndarray]:
        """Return the maps, arrays of shape (voxel,), by name."""
        return {}

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """Return sets of arrays, by the name of their file."""
        return {}

    def folders(self, store: Store) -> dict[str, Callable[[Path], None]]:
        """Return what fills each folder of files, by the name of the folder; it creates the folder."""
        return {}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws each figure, by name."""
        return {}

    def pages(self, store: Store, record: Mapping[str, Any]) -> dict[str, Callable[[], str]]:
        """Return what makes each HTML page, by name."""
        return {}

    def source(self, store: Store) -> Store:
        """Return the store that the result was made from: the one that was given, or a later snapshot of it."""
        return store

    def beside(self) -> Sequence[Result]:
        """Return further results that belong to this one, and are written with it."""
        return ()

    def text(self, store: Store) -> str:
        """Return the result as text for a terminal."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the scores beside their nulls, and the names of the tables."""
        scores = pd.DataFrame([score.row() for score in self.scores])
        shown = scores.to_html(index=False, border=0, float_format="{:.3f}".format) if len(scores) else ""
        tables = ", ".join(f"{name} ({len(table):,} rows)" for name, table in self.tables().items())
        return (
            f"<p><strong>{escape(self.kind)}</strong>, {escape(self.subject)}, {escape(self.task)}</p>{shown}"
            f"<p><small>tables: {escape(tables or 'none')}</small></p>"
        )


def with_normalized(
    table: pd.DataFrame, names: Mapping[str, str], ceiling: str, floor: float = CEILING_FLOOR
) -> pd.DataFrame:
    """Return a table with scores over the noise ceiling beside the raw ones.

    In a table of ROIs, this is the ratio of the means over an ROI: a mean of ratios would depend on a few voxels with
    low ceilings.

    Parameters
    ----------
    table : DataFrame
        One row per voxel, or per ROI and band.
    names : mapping of str to str
        Column of the normalized score, by the column of R2.
    ceiling : str
        Column of the noise ceiling; if there is none, nothing is added.
    floor : float
        Rows with a lower ceiling, or without one, get NaN.
    """
    if ceiling not in table:
        return table
    limit = table[ceiling].to_numpy(dtype=float)
    return table.assign(
        **{new: normalize_r2(table[name].to_numpy(dtype=float), limit, floor) for name, new in names.items()}
    )


def exchange_record(
    exchange: Exchange, smallest_p: float, n_permutations: int, *, fdr: float | None = None
) -> dict[str, Any]:
    """Return what trades places in a null, for what was chosen: ``exchange`` and ``warnings``.

    Parameters
    ----------
    exchange : Exchange
        What trades places, and why.
    smallest_p : float
        The smallest p-value that can be reached.
    n_permutations : int
        The number that was asked for.
    fdr : float, optional
        False discovery rate of a map.
    """
    said = list(exchange.warnings)
    if smallest_p > 1.001 / (1 + n_permutations):
        said.append(f"few orders are possible: p is at least {smallest_p:.2g}")
    if fdr is not None and smallest_p > fdr:
        said.append(f"no voxel can be significant: p is at least {smallest_p:.2g}, and the level is {fdr:g}")
    chosen = {"unit": exchange.unit, "reason": exchange.reason, "smallest_p": float(smallest_p)}
    return {"exchange": chosen, "warnings": said}


#: What trades places, in words.
_TRADES = {
    "stimulus": "stimuli trade places",
    "session": "stimuli trade places within their session, whose means are subtracted",
    "run": "whole runs trade places, whose means are subtracted",
    "shift": "the order within runs is shifted in a circle, run means are subtracted, equal runs trade places",
    "category": "stimuli trade places within their category",
    "within run": "stimuli trade places within their run",
}


def exchange_lines(chosen: Mapping[str, Any]) -> list[str]:
    """Return what trades places in a null as a line for the terminal, and a line for each warning."""
    exchange = chosen["exchange"]
    line = f"null: {_TRADES[exchange['unit']]} ({exchange['reason']}); p is at least {exchange['smallest_p']:.2g}"
    return [line, *(f"warning: {text}" for text in chosen["warnings"])]


# -- writing ----------------------------------------------------------------------------------------------------------

#: Types of parameters that a record holds as they are.
_JSON = (str, int, float, tuple, list, dict, Path, type(None))

#: Columns of tables that name a target, or a metric, whose network has weights too.
_NAMING = ("band", "target", "metric")


def with_weights(table: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """Return a table with a column ``weights``, which says what made each target of a row.

    Parameters
    ----------
    table : DataFrame
        Rows of one target or metric each (``band``, ``target``, ``metric``), of several targets (``bands``: names
        joined by plus signs), or of all.
    labels : mapping of str to str
        From :func:`neurorecon.provenance.weights_label`, by the name of the target; where there are none, the table
        stays as it is.
    """
    if not labels or not len(table):
        return table
    one = next((name for name in _NAMING if name in table), None)
    if one is not None:
        return table.assign(weights=table[one].map(labels).fillna(""))
    if "bands" in table:
        parts = [[name for name in str(bands).split("+") if name in labels] for bands in table["bands"]]
        return table.assign(weights=[_weights_text({name: labels[name] for name in names}) for names in parts])
    return table.assign(weights=_weights_text(labels))


def _weights_text(labels: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {label}" for name, label in labels.items())


#: How text begins that spreadsheets run as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_plain_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts no spreadsheet takes for formulas: an apostrophe precedes them.

    Names of ROIs, categories and captions come from the files of others.
    """

    def plain(value: Any) -> Any:
        if not isinstance(value, str) or not value.startswith(_FORMULA) or value in ("-", "--"):
            return value
        return f"'{value}"

    texts = {name: column.map(plain) for name, column in table.items() if column.dtype.kind not in "biufcmM"}
    table = table.assign(**texts).rename(columns=plain)
    return table.set_index(table.index.map(plain).rename(table.index.name)) if table.index.name is not None else table


def write(
    results: Result | Sequence[Result],
    store: Store,
    out: str | Path,
    record: Mapping[str, Any],
    *,
    figures: bool = True,
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Write results into a folder.

    Parameters
    ----------
    results : Result or sequence of Result
        From :func:`neurorecon.maps`, :func:`neurorecon.classify` and so on, e.g. one per subject.
    store : Store
        The store that they were made from.
    out : path
        The folder; created if it does not exist.
    record : mapping
        From :func:`neurorecon.record_of`. Every file that can hold a record gets it, with the settings of the result.
    figures : bool
        Also draw figures and interactive pages.
    formats : sequence of {"png", "svg", "pdf"}
        Of the figures.

    Returns
    -------
    list of Path
        The files: tables as CSV (some in LaTeX too), settings and scores as JSON, brain maps as NIfTI, GIFTI or CIFTI
        (depending on the space), arrays as NPZ, figures, and pages as HTML; and folders of files. The JSON file is the
        manifest of a result: it is written last, and holds the sha256 of every file. Files that an earlier manifest of
        the same result lists and that are not written again are deleted, unless somebody changed them.

    Raises
    ------
    MissingFileError
        If a figure needs a mesh that is not on this machine; everything else has been written then.
    InputError
        If the folder is inside a store.
    """
    folder = Path(out)
    refuse_inside_store(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[tuple[Result, dict[str, Any], list[Path]]] = []
    drawings: list[_Drawing] = []
    pages: list[tuple[list[Path], str, Callable[[], str]]] = []
    given = [results] if isinstance(results, Result) else results
    parts = [(one, result.source(store)) for result in given for one in (result, *result.beside())]
    for item, store in parts:
        if record.get("snapshot") not in (None, store.snapshot):  # targets were computed on the way
            record = {**record, "snapshot": store.snapshot, "digests": {**record["digests"], "store": store.digest}}
        files: list[Path] = []
        made_by = item.made_by(store)
        labels = {name: weights_label(made) for name, made in made_by.items()}
        stem, own = folder / item.stem, {**record, "settings": item.record()}
        if made_by:
            own["weights"] = {name: weights_record(made) for name, made in made_by.items()}
        warning = bundled_weights(store, made_by)
        if warning is not None:
            own["warnings"] = [*own.get("warnings", ()), warning]
        known = item.subject in store.subjects and item.task in store.tasks(item.subject)
        centered = (item.chosen.get("centering") or {}).get("center") is not None
        cautions = store.cautions(item.subject, item.task, centered=centered) if known else []
        if cautions:
            own["cautions"] = cautions
            for caution in cautions:
                logger.warning("warning: %s, %s: %s", item.subject, item.task, caution)
        if not own.get("extra"):
            own.pop("extra", None)
        for name, table in item.tables().items():
            table = as_plain_cells(with_weights(table, labels))
            content = table.to_csv(index=table.index.name is not None, float_format="%.6g")
            files.append(write_bytes(f"{stem}_{name}.csv", content.encode()))
        files += [write_bytes(f"{stem}_{name}.tex", text.encode()) for name, text in item.latex().items()]
        files += _write_brain_maps(item, store, stem, own)
        files += [write_bytes(f"{stem}_{name}.npz", _npz(arrays)) for name, arrays in item.arrays().items()]
        files += [_write_folder(Path(f"{stem}_{name}"), fill) for name, fill in item.folders(store).items()]
        if figures:
            drawings += [(item, name, f"{stem}_{name}", own, tuple(formats)) for name in item.figures(store)]
            pages += [(files, f"{stem}_{name}.html", page) for name, page in item.pages(store, own).items()]
        written.append((item, own, files))
    lacking: MissingFileError | None = None
    drawn: list[list[Path]] = [[] for _ in drawings]
    try:
        for files, path, page in pages:
            files.append(write_bytes(path, page().encode()))
        drawn = _draw_all(drawings, store)
    except MissingFileError as error:  # a mesh, for instance; the results are complete without figures
        lacking = error
    found: list[Path] = []
    for item, own, files in written:
        files += [path for drawing, paths in zip(drawings, drawn, strict=True) if drawing[0] is item for path in paths]
        found += [*files, _write_manifest(folder / f"{item.stem}.json", item, own, files)]
    if lacking is not None:
        raise MissingFileError(
            f"the tables and brain images are in {folder}, but the figures cannot be drawn",
            given=str(lacking).replace("\n", "\n  "),
            expected="the meshes that figures of this space are drawn on",
            todo="get the mesh as above and run the same command again, or leave the figures out with --no-figures "
            "(figures=False)",
        ) from lacking
    return found


def _write_manifest(path: Path, item: Result, own: Mapping[str, Any], files: Sequence[Path]) -> Path:
    """Write the record of a result with the sha256 of its files; delete those of an earlier run that are obsolete."""
    digests = sha256_of_files(path.parent, files)
    try:
        earlier = dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):  # there is none
        earlier = {}
    for name in set(earlier) - set(digests):
        left = path.parent / name
        inside = left.resolve().is_relative_to(path.parent.resolve())
        if inside and left.is_file() and _sha256(left) == earlier[name]:
            left.unlink()
    return write_json(path, {**own, "scores": [score.row() for score in item.scores], "files": digests})


def data_of(store: Store) -> dict[str, Any]:
    """Return what data a store holds, for records that are read without the store.

    Returns
    -------
    dict
        ``name`` (of the store), ``reader``, and the description: ``title``, ``simulated``, ``citation``, ``terms``,
        ``units`` and ``notes``.
    """
    return {"name": store.name, "reader": store.reader, **store.description}


def write_fit_manifest(folder: Path, system: Any, record: Mapping[str, Any], data: Mapping[str, Any]) -> Path:
    """Write ``manifest.json`` beside a fitted system: how it was made, and the sha256 of its files.

    Parameters
    ----------
    folder : path
        Where the system was saved.
    system : System
        Fitted.
    record : mapping
        From :func:`record_of`.
    data : mapping
        What it was fitted to, from :func:`data_of`.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.name != MANIFEST]
    weights = {name: weights_record(about["attrs"]) for name, about in system.targets_.items()}
    parameters = {name: plain_parameter(value) for name, value in system.get_params(deep=False).items()}
    about = {"system": system.name, "parameters": parameters, "weights": weights, "data": dict(data)}
    return write_json(folder / MANIFEST, {**record, **about, "files": sha256_of_files(folder, files)})


def plain_parameter(value: Any) -> Any:
    """Return a parameter as it is where JSON can hold it, else as text."""
    return value if isinstance(value, _JSON) or hasattr(value, "tolist") else repr(value)


def sha256_of_files(folder: Path, files: Sequence[Path]) -> dict[str, str]:
    """Return the sha256 of files, and of all files in folders among them, by their path in `folder`."""
    several = [file for path in files for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return {file.relative_to(folder).as_posix(): _sha256(file) for file in several if file.is_file()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_folder(path: Path, fill: Callable[[Path], None]) -> Path:
    """Write files into a folder, each of which appears whole or not at all; others that are there stay."""
    path.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path, LEFT_SECONDS)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".part") as hidden:
        part = Path(hidden) / path.name
        fill(part)
        for file in sorted(item for item in part.rglob("*") if item.is_file()):
            target = path / file.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            move(file, target)
    return path


#: A result, the name of its figure, the path of the files without suffix, the record, the formats.
_Drawing = tuple[Result, str, str, Mapping[str, Any], tuple[str, ...]]


def _draw_all(drawings: Sequence[_Drawing], store: Store) -> list[list[Path]]:
    """Return the files of each drawing."""
    from joblib import cpu_count, delayed

    processes = min(int(cpu_count()), MOST_PROCESSES)
    if processes < 2 or len(drawings) < WORTH_PROCESSES:
        return [_draw(drawing, store) for drawing in drawings]
    # Processes, because matplotlib holds the interpreter lock; each opens the store itself.
    with warnings.catch_warnings():
        # joblib warns that it replaces processes that have grown, as those that draw do. Nothing is lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        return list(in_processes(processes)(delayed(_draw)(drawing, store) for drawing in drawings))


def _draw(drawing: _Drawing, store: Store) -> list[Path]:
    from neurorecon.figures.style import save_figure

    item, name, stem, record, formats = drawing
    return save_figure(item.figures(store)[name](), stem, record, formats)


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _write_brain_maps(item: Result, store: Store, stem: Path, record: Mapping[str, Any]) -> list[Path]:
    """Write all maps of a subject as one image of its space; nothing for a space without geometry."""
    maps = item.brain_maps()
    if not maps:
        return []
    space = store.space(item.subject)
    if space.kind == "none":
        return []
    values = np.array(list(maps.values()))
    if space.kind == "surface":  # the vertices alone: nilearn would need the mesh, which it may have to download
        parts = surface_values(space, values, item.voxels(store))
        return [
            _save(_gifti(parts[side], list(maps), record), f"{stem}_maps.{name}.func.gii")
            for side, name in (("left", "lh"), ("right", "rh"))
        ]
    image = space.unmask(values, item.voxels(store))
    if space.kind == "volume":
        from nibabel.nifti1 import Nifti1Extension

        image.header["descrip"] = f"neurorecon {item.kind}: {', '.join(maps)}"[:79].encode("ascii", "replace")
        named = {**record, "maps": list(maps)}  # CIFTI and GIFTI have a place for names of their own
        image.header.extensions.append(Nifti1Extension("comment", to_json(named).encode()))
        return [_save(image, f"{stem}_maps.nii.gz")]
    from nibabel import cifti2

    names = cifti2.ScalarAxis(list(maps))
    scalars = type(image)(image.get_fdata(dtype=np.float32), (names, image.header.get_axis(1)))
    return [_save(scalars, f"{stem}_maps.dscalar.nii")]


def _gifti(values: np.ndarray, names: list[str], record: Mapping[str, Any]) -> Any:
    from nibabel import gifti

    arrays = [
        gifti.GiftiDataArray(
            np.ascontiguousarray(column, dtype=np.float32),
            intent="NIFTI_INTENT_NONE",
            datatype="NIFTI_TYPE_FLOAT32",
            meta=gifti.GiftiMetaData({"Name": name}),
        )
        for name, column in zip(names, values.T, strict=True)
    ]
    return gifti.GiftiImage(meta=gifti.GiftiMetaData({"neurorecon": to_json(record)}), darrays=arrays)


def _save(image: Any, path: str) -> Path:
    # nibabel writes in place; with a rename, the file appears whole or not at all.
    target = Path(path)
    with replacing(target) as part:
        image.to_filename(str(part))
    return target


def record_of(
    store: Store, command: str, *, seed: int | None = None, settings: Settings | Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the record of how a result is made from a store; it goes into every file.

    Parameters
    ----------
    store : Store
        Its name, snapshot and digest go into the record, and whether its responses are simulated.
    command : str
        The command line or script.
    seed : int, optional
        Of all random numbers.
    settings : Settings or mapping, optional
        Further settings, e.g. ``found.record()`` of a result.

    Returns
    -------
    dict
        JSON types only; see :func:`neurorecon.provenance.collect`.
    """
    return collect(
        command,
        store=store.location,
        snapshot=store.snapshot,
        digests={"store": store.digest},
        split_column=store.split_column,
        seed=seed,
        simulated=store.simulated,
        extra=settings.record() if isinstance(settings, Settings) else settings,
    )


# -- former names -----------------------------------------------------------------------------------------------------


def _former(name: str) -> Callable[..., list[Path]]:
    def function(*args: Any, **kwargs: Any) -> list[Path]:
        warnings.warn(f"{name} is deprecated; use neurorecon.write", DeprecationWarning, stacklevel=2)
        return write(*args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "Call :func:`write`: a former name."
    return function


write_maps, write_classification = _former("write_maps"), _former("write_classification")
write_reconstruction = _former("write_reconstruction")
