"""Scores of images against what was seen: beside a null of exchanged pairs, wherever the images come from."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from neurorecon.decoders.samples import having_target, stored_target
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.files import write_bytes, write_json
from neurorecon.metrics.base import DEFAULTS, Metric, current_name, load_metric, summarize
from neurorecon.metrics.image import as_unit_float, resized
from neurorecon.stats import permutation_p, stimulus_permutations
from neurorecon.store.store import Store

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

#: Stimuli that a panel shows at most; more are thinned out evenly, best to worst.
SHOWN = 20

#: Files that are read as images.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Images beside what was seen, and their scores.

    Parameters
    ----------
    stimuli : list of str
        Ids.
    seen, reconstructed : array, shape (stimulus, [frame,] y, x, rgb)
        float32 in [0, 1].
    values : dict of str to array, shape (stimulus,)
        Of each metric that has a value for each stimulus.
    scores : list of dict
        Means over stimuli beside their null: ``name``, ``value``, ``n``, ``n_undefined``, ``null_mean``, ``null_max``,
        ``p``, ``n_permutations`` and ``baseline``.
    null : dict of str to array, shape (permutation,)
        The nulls, by the names of the scores.
    settings : dict
        Everything that was chosen.
    """

    stimuli: list[str]
    seen: np.ndarray
    reconstructed: np.ndarray
    values: dict[str, np.ndarray]
    scores: list[dict[str, Any]]
    null: dict[str, np.ndarray]
    settings: dict[str, Any]

    @property
    def stem(self) -> str:
        """What the names of all files begin with."""
        return "images"

    @property
    def title(self) -> str:
        """What the panel shows, in words."""
        return "Seen and reconstructed"

    @property
    def sentence(self) -> str:
        """How the images were made, in one sentence."""
        return f"Images from {self.settings['source']}."

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the table of stimuli, a column for each metric."""
        return {"stimuli": pd.DataFrame({"stimulus": self.stimuli, **self.values})}

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """Return the arrays that are written into one file each, by its name."""
        pairs = {"stimulus": np.array(self.stimuli), "seen": self.seen, "reconstructed": self.reconstructed}
        return {"reconstructions": pairs}

    def figures(self, store: Store) -> dict[str, Figure]:
        """Return the figures by name: the panel, and each score in its null."""
        from neurorecon.figures import null_histogram, panel

        metric = next(iter(self.values), None)
        values = np.zeros(len(self.stimuli)) if metric is None else self.values[metric]
        better = metric is None or load_metric(metric).higher_is_better
        keys = np.where(np.isnan(values), np.inf, -values if better else values)
        order = np.argsort(keys, kind="stable")
        picked = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]
        shown = f"All {len(order)}" if len(picked) == len(order) else f"{len(picked)} of {len(order)}"
        found: dict[str, Figure] = {
            "panel": panel(
                {"seen": _still(self.seen[picked]), "reconstructed": _still(self.reconstructed[picked])},
                scores=None if metric is None else {"reconstructed": values[picked].tolist()},
                score_label=None if metric is None else metric,
                title=f"{self.title} · {store.name}",
                note=f"{self.sentence} {shown} stimuli, from the best to the worst.",
                simulated=store.simulated,
            )
        }
        for score in self.scores:
            key = score["name"].split(" ", 1)[-1]
            null = self.null.get(key, np.array([]))
            if len(null) and np.isfinite(null).all() and np.isfinite(score["value"]):
                found[f"null_{key}"] = null_histogram(
                    score["value"], null, score["p"], key.replace("_", " "), simulated=store.simulated
                )
        return found

    def text(self) -> str:
        """Return what the command prints: how the images were made, and a table of the scores."""
        lines = [
            self.sentence,
            f"{'score':<40}{'value':>8}{'null mean':>11}{'null max':>10}{'p':>8}{'n':>6}{'mean image':>12}",
        ]
        for score in self.scores:
            mean_image = "-" if score["baseline"] is None else f"{score['baseline']:.3f}"
            lines.append(
                f"{score['name'].split(' ', 1)[-1]:<40}{score['value']:>8.3f}{score['null_mean']:>11.3f}"
                f"{score['null_max']:>10.3f}{score['p']:>8.3f}{score['n']:>6}{mean_image:>12}"
            )
        return "\n".join(lines)


def evaluate(
    images: xarray.DataArray,
    store: Store,
    *,
    metrics: Sequence[str] | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    exchange: str | None = None,
    subject: str | None = None,
    baseline: Literal["train"] | np.ndarray | None = None,
    source: str = "an array",
) -> Evaluation:
    """Score images against the stimuli of a store, e.g. reconstructions of another toolbox.

    Parameters
    ----------
    images : DataArray, dims (stimulus, [frame,] y, x, rgb)
        uint8 or float in [0, 1], with the coordinate ``stimulus``: ids of the store.
    store : Store
        With the images that were seen.
    metrics : sequence of str, optional
        Registered names; by default those of :data:`neurorecon.metrics.base.DEFAULTS`.
    n_permutations, seed : int
        Of the null, in which each image is scored against another stimulus.
    exchange : str, optional
        Pairs are exchanged only between stimuli with the same value of this column: ``"category"``, or ``"session"`` or
        ``"run"`` of `subject`.
    subject : str, optional
        Whose sessions or runs; by default the first.
    baseline : {"train"} or array, shape (y, x, rgb), optional
        An image that does not depend on the brain, whose scores stand beside: the mean of the training stimuli, or the
        one that is given.
    source : str
        Where the images come from, in words; goes into the record.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        Where stimuli are unknown or occur twice.
    """
    kind = "video" if images.ndim == 5 else "image"
    names = choose_metrics(metrics, (), kind)
    stimuli = [str(name) for name in _stimuli_of(images)]
    shown = "frames" if kind == "video" else "images"
    known = having_target(store, shown)
    unknown = [name for name in stimuli if name not in known]
    if unknown:
        raise InputError(
            f"{len(unknown)} of {len(stimuli)} images belong to no stimulus of this store",
            given=", ".join(unknown[:5]),
            expected=f"ids such as {', '.join(sorted(known)[:3])}",
            todo="name the images by the ids in store.stimuli",
        )
    seen = stored_target(store, shown, stimuli).values.astype(np.float32)
    reconstructed = as_unit_float(images.values).astype(np.float32)
    beside = baseline if isinstance(baseline, np.ndarray) else None
    if isinstance(baseline, str):
        if baseline != "train":
            raise UnknownNameError("baseline", baseline, ["train"])
        rows = [name for name in store.stimuli.loc[store.stimuli["split"] == "train", "id"] if name in known]
        beside = np.asarray(stored_target(store, shown, rows).mean("stimulus")) if rows else None
    within = None
    if exchange is not None:
        within = stimulus_labels(store, subject or store.subjects[0], stimuli, exchange)
    orders = stimulus_permutations(len(stimuli), n_permutations, seed, within)
    context = context_of(store, stimuli)
    values, scores, null = score_pairs(names, seen, reconstructed, orders, context=context, baseline=beside)
    settings = {
        "source": source,
        "metrics": list(names),
        "n_permutations": n_permutations,
        "seed": seed,
        "exchange": exchange,
        "null": "exchanged pairs",
        "compared_at": list(seen.shape[-3:-1]),
        "stimuli": len(stimuli),
    }
    return Evaluation(
        stimuli=stimuli, seen=seen, reconstructed=reconstructed, values=values, scores=scores, null=null,
        settings=settings,
    )  # fmt: skip


def load_images(path: str | Path) -> xarray.DataArray:
    """Read images from another toolbox, named by stimulus.

    Parameters
    ----------
    path : path
        A folder of image files of one size, each called as its stimulus (``image0001.png``); or a ``.npz`` file with
        ``stimulus``, ids, and ``reconstructed`` (or ``images``), shape (stimulus, [frame,] y, x, rgb), such as
        ``neurorecon reconstruct`` writes.

    Returns
    -------
    DataArray, dims (stimulus, [frame,] y, x, rgb)

    Raises
    ------
    MissingFileError, InputError
        Where there are no images, or they cannot be read.
    """
    import xarray

    place = Path(path)
    if place.is_dir():
        values, stimuli = _read_folder(place)
    elif place.is_file():
        values, stimuli = _read_npz(place)
    else:
        raise MissingFileError(
            "there are no images here",
            given=str(place),
            expected="a folder of image files, or a .npz file",
            todo="check the path",
        )
    dims = ("stimulus", "y", "x", "rgb") if values.ndim == 4 else ("stimulus", "frame", "y", "x", "rgb")
    if values.ndim != len(dims) or values.shape[-1] != 3 or len(values) != len(stimuli):
        raise InputError(
            "these arrays are no images",
            given=f"shape {values.shape} for {len(stimuli)} stimuli",
            expected="(stimulus, y, x, rgb) or (stimulus, frame, y, x, rgb)",
            todo="put the colors last, and give one row a stimulus",
        )
    return xarray.DataArray(values, dims=dims, coords={"stimulus": ("stimulus", stimuli)})


def _read_folder(place: Path) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image, UnidentifiedImageError

    files = sorted(file for file in place.iterdir() if file.suffix.lower() in _SUFFIXES)
    images = []
    for file in files:
        try:
            with Image.open(file) as image:
                images.append(np.asarray(image.convert("RGB")))
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(
                "this image cannot be read", given=f"{file} ({error})", expected="an image file", todo="write it again"
            ) from error
    sizes = {image.shape[:2] for image in images}
    if len(sizes) != 1:
        raise InputError(
            "these files are not images of one size" if sizes else "this folder holds no images",
            given=f"{len(files)} files{f' of sizes (y, x) {sorted(sizes)}' if sizes else ''} in {place}",
            expected=f"files of one size, called as their stimuli: image0001.png ({', '.join(_SUFFIXES)})",
            todo="scale them to one size, or give the folder that holds them",
        )
    return np.stack(images), np.array([file.stem for file in files])


def _read_npz(place: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(place, allow_pickle=False) as arrays:
            name = next((name for name in ("reconstructed", "images", "rebuilt") if name in arrays), None)
            if name is None or "stimulus" not in arrays:
                raise InputError(
                    "this file holds no images with their stimuli",
                    given=f"{place} with {', '.join(arrays.files) or 'nothing'}",
                    expected="the arrays 'stimulus' and 'reconstructed'",
                    todo="write it with numpy.savez(path, stimulus=ids, reconstructed=images)",
                )
            return arrays[name], arrays["stimulus"].astype(str)
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "this file cannot be read", given=f"{place} ({error})", expected="a .npz file without pickled objects",
            todo="write it with numpy.savez(path, stimulus=ids, reconstructed=images)",
        ) from error  # fmt: skip


def choose_metrics(named: Sequence[str] | None, of_system: Sequence[str], kind: str) -> dict[str, Metric]:
    """Return metrics by name: those that are named, else the system's, else the registry's defaults.

    Raises
    ------
    UnknownNameError, InputError
        Where a metric does not exist, or compares something else.
    """
    names = list(named or of_system or DEFAULTS[kind])
    if not names:
        raise InputError(f"no metric is named, and there is none by default for a {kind}", todo="name one: --metric")
    found = {current_name(name): load_metric(name) for name in names}
    for name, metric in found.items():
        if metric.of != kind:
            raise InputError(
                f"the metric {name!r} does not compare {kind}s",
                given=f"{kind}s",
                expected=f"{metric.of}s",
                todo="choose another metric",
            )
    return found


def context_of(store: Store | None, stimuli: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return what metrics may need beside the images, one row a stimulus."""
    if store is None:
        return dict(more)
    table = store.stimuli.set_index("id").loc[list(stimuli)]
    columns = {"categories": "category", "captions": "captions"}
    found = {name: table[column].to_numpy() for name, column in columns.items() if column in table}
    return {**found, **more}


def stimulus_labels(store: Store, subject: str, stimuli: Sequence[str], column: str) -> np.ndarray:
    """Return the one value that each stimulus has in a column of the stimuli or of a subject's samples."""
    if column == "category":
        return store.stimuli.set_index("id")["category"].loc[list(stimuli)].to_numpy().astype(str)
    if column not in ("session", "run"):
        raise UnknownNameError("column to exchange within", column, ["category", "session", "run"])
    samples = store.samples(subject)
    samples = samples[samples["stimulus"].isin(list(stimuli))]
    several = samples.groupby("stimulus")[column].nunique()
    if (several > 1).any():
        raise InputError(
            f"a stimulus has more than one value in {column}",
            given=f"{several.index[several > 1][0]} and {int((several > 1).sum()) - 1} others",
            expected="one value for each stimulus",
            todo="exchange within a column that depends on the stimulus alone, e.g. category",
        )
    first = samples.drop_duplicates("stimulus").set_index("stimulus")[column]
    return first.loc[list(stimuli)].to_numpy().astype(str)


def score_pairs(
    metrics: Mapping[str, Metric],
    seen: np.ndarray,
    reconstructed: np.ndarray,
    orders: np.ndarray,
    *,
    context: Mapping[str, Any] | None = None,
    baseline: np.ndarray | None = None,
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]], dict[str, np.ndarray]]:
    """Score pairs beside the null of exchanged pairs, at the size of what was seen.

    Parameters
    ----------
    metrics : mapping of str to Metric
    seen, reconstructed : array, shape (stimulus, [frame,] y, x, rgb)
    orders : int array, shape (permutation, stimulus)
        Of the null: reconstruction i is taken for one of stimulus ``orders[permutation, i]``.
    context : mapping, optional
        What metrics need beside the images.
    baseline : array, shape ([frame,] y, x, rgb), optional
        The same image for all stimuli.

    Returns
    -------
    values : dict of str to array, shape (stimulus,)
    scores : list of dict
    null : dict of str to array, shape (permutation,)
    """
    compared = resized(reconstructed, seen.shape[-3:-1])
    values, scores, null = {}, [], {}
    for name, metric in metrics.items():
        found = metric.values(seen, compared, context)
        exchanged = None
        if found.ndim:
            values[name] = found
            exchanged = null[name] = metric.null(seen, compared, orders, context)
        beside = None
        if baseline is not None and not metric.compares and not metric.needs:
            beside = metric.values(seen, np.broadcast_to(baseline.astype(np.float32), seen.shape))
        scores.append(score_of(name, metric, found, exchanged, beside, len(seen)))
    return values, scores, null


def score_of(
    name: str,
    metric: Metric,
    values: np.ndarray,
    null: np.ndarray | None,
    baseline: np.ndarray | None,
    n: int,
) -> dict[str, Any]:
    """Return a score beside its null and what an image without the brain gets.

    Parameters
    ----------
    name : str
        Of the score.
    metric : Metric
    values : array, shape (stimulus,) or ()
    null : array, shape (permutation,), or None
        None for a metric of the whole set, which exchanging pairs does not change.
    baseline : array, shape (stimulus,) or (), or None
    n : int
        Number of stimuli, for a metric of the whole set.
    """
    summary = summarize(np.atleast_1d(values))
    sign = 1.0 if metric.higher_is_better else -1.0
    return {
        "name": name,
        "value": summary.mean,
        "n": summary.n if values.ndim else n,
        "n_undefined": summary.n_undefined,
        "null_mean": float("nan") if null is None else float(null.mean()),
        "null_max": float("nan") if null is None else float(null.max()),
        "p": float("nan") if null is None else float(permutation_p(sign * summary.mean, sign * null)),
        "n_permutations": 0 if null is None else len(null),
        "baseline": None if baseline is None else summarize(np.atleast_1d(baseline)).mean,
    }


def write_evaluation(found: Evaluation, store: Store, out: str | Path, record: Mapping[str, Any]) -> list[Path]:
    """Write an evaluation into a folder: scores, values of each stimulus, images, figures, and how it was made.

    Parameters
    ----------
    found : Evaluation
        Or a :class:`~neurorecon.analyses.reconstruct.Reconstruction`.
    store : Store
        The store that it was made from.
    out : path
        The folder; made where it does not exist.
    record : mapping
        From :func:`neurorecon.record_of`; goes into every file that can hold it.

    Returns
    -------
    list of Path
        The files.
    """
    from neurorecon.figures import save_figure

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / found.stem
    files = [
        write_bytes(f"{stem}_{name}.csv", table.to_csv(index=False, float_format="%.6g").encode())
        for name, table in found.tables().items()
    ]
    files.append(write_json(f"{stem}.json", {**record, "settings": found.settings, "scores": found.scores}))
    for name, arrays in found.arrays().items():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        files.append(write_bytes(f"{stem}_{name}.npz", buffer.getvalue()))
    for name, figure in found.figures(store).items():
        files += save_figure(figure, f"{stem}_{name}", record)
    return files


def _stimuli_of(images: Any) -> Iterable[Any]:
    """Return the ids of images, or say what is wrong with them."""
    if images.ndim not in (4, 5) or images.dims[0] != "stimulus" or "stimulus" not in images.coords:
        raise InputError(
            "these are no images with their stimuli",
            given=f"dims {images.dims}",
            expected="a DataArray with dims (stimulus, y, x, rgb) and the coordinate stimulus",
            todo="see neurorecon.analyses.evaluate.load_images",
        )
    ids = images["stimulus"].values
    if len(set(ids.tolist())) != len(ids):
        raise InputError(
            "a stimulus has more than one image",
            given=f"{len(ids)} images of {len(set(ids.tolist()))} stimuli",
            expected="one image for each stimulus",
            todo="average the images of a stimulus, or score them in calls of their own",
        )
    return ids


def _still(images: np.ndarray) -> np.ndarray:
    """Return what a panel shows: images, or the middle frames of videos."""
    return images if images.ndim == 4 else images[:, images.shape[1] // 2]
