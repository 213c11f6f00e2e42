"""Score images from anywhere against the stimuli that were seen, beside a null of exchanged pairs."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from neurorecon.analyses.design import EvaluateSettings, ReconstructSettings, order_of_features, runs_of
from neurorecon.analyses.results import Result, Score, exchange_lines, exchange_record
from neurorecon.decoders.samples import same_order, stored_target
from neurorecon.errors import BundledWeightsWarning, InputError, MissingFileError
from neurorecon.io.images import read_image
from neurorecon.io.tables import as_text, read_table
from neurorecon.io.videos import VIDEOS, is_video, read_all_frames, shortest_frame
from neurorecon.metrics.base import (
    DEFAULTS,
    Metric,
    SeedMean,
    load_metric,
    mean_of_defined,
    registered_name,
    summarize,
)
from neurorecon.metrics.image import as_unit_float, resized
from neurorecon.metrics.semantics import survival
from neurorecon.provenance import bundled_weights, weights_label
from neurorecon.stats import bootstrap_means, permutation_p, stimulus_permutations
from neurorecon.stats.bootstrap import interval_of
from neurorecon.stats.exchange import Exchange, choose_exchange, run_orders
from neurorecon.store.store import Store

if TYPE_CHECKING:
    import xarray

    from neurorecon.figures import Section

#: A panel shows at most this many stimuli, evenly spaced from the best to the worst.
SHOWN = 20

#: Bootstraps over stimuli behind each interval.
BOOTSTRAPS = 10_000

#: Suffixes of the files that are read as images.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class Evaluation(Result):
    """Images beside the stimuli that were seen, and their scores.

    Parameters
    ----------
    subject, task : str
        Empty: the images may come from anywhere.
    stimuli : list of str
        Ids.
    seen, reconstructed : array, shape (stimulus, [frame,] y, x, rgb)
        float32 in [0, 1].
    values : dict of str to array, shape (stimulus,)
        Of each metric that has a value for each stimulus; with several seeds, their mean.
    all_seeds : array, shape (stimulus, seed, [frame,] y, x, rgb), optional
        What was reconstructed with each seed, where there are several; `reconstructed` is the first.
    categories : list of str
        Of the stimuli; empty strings where the store has none.
    named : dict of str to array of str, shape (stimulus,)
        What a judge sees in each of `reconstructed`, by the metric that asks it for the category.
    scores : list of Score
        Mean of each metric over stimuli.
    null : dict of str to array, shape (permutation,)
        The nulls, by the name of the score without the subject.
    """

    subject: str = ""
    task: str = ""
    kind: str = "evaluation"
    stimuli: list[str]
    seen: np.ndarray
    reconstructed: np.ndarray
    values: dict[str, np.ndarray]
    all_seeds: np.ndarray | None = None
    categories: list[str] = field(default_factory=list)
    named: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return "images"

    @property
    def title(self) -> str:
        """Title of the panel."""
        return "Seen and reconstructed"

    @property
    def sentence(self) -> str:
        """How the images were made, in one sentence."""
        return f"Images from {self.record()['source']}."

    def made_by(self, store: Store) -> dict[str, dict[str, Any]]:
        """Return what made the targets that were used, and the weights of the networks that generate and that judge."""
        generated = {f"network {role}": made for role, made in self.chosen.get("networks", {}).items()}
        return {**super().made_by(store), **generated, **self.chosen.get("metric_weights", {})}

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """One row for each metric.

        ``mean`` over stimuli with a 95% percentile interval of :data:`BOOTSTRAPS` bootstraps over stimuli (``low``,
        ``high``; of single samples and of metrics of the whole set there is none), ``n`` stimuli and how many of them
        are undefined, the mean of the null and ``p``, ``chance`` where it is known, ``higher is better``, and whose
        ``weights`` judged. ``of`` says what was scored: the reconstruction of each stimulus, or single samples. Tables
        of several subjects are joined by ``pd.concat``.
        """
        interval = self._interval()
        rows = []
        for score in self.scores:
            key = self._key(score)
            sample = key.startswith("single_sample_")
            name = key.removeprefix("single_sample_").removeprefix("stimulus_mean_")
            metric = load_metric(name)
            low, high = (np.nan, np.nan) if sample else interval.get(name, (np.nan, np.nan))
            made = self.chosen.get("metric_weights", {}).get(name)
            rows.append({
                **({"subject": self.subject} if self.subject else {}),
                "metric": name, "of": "single samples" if sample else "stimuli", "mean": score.value, "low": low,
                "high": high, "n": score.n, "n_undefined": score.n_undefined, "null mean": score.null_mean,
                "p": score.p, "chance": np.nan if metric.chance is None else metric.chance,
                "higher is better": metric.higher_is_better, "weights": "" if made is None else weights_label(made),
            })  # fmt: skip
        return pd.DataFrame(rows)

    def _interval(self) -> dict[str, tuple[float, float]]:
        """Return the interval of the mean of each metric."""
        if len(self.stimuli) < 2 or not self.values:
            return {}
        columns = np.stack(list(self.values.values()), axis=1)
        means = bootstrap_means(columns, n_bootstraps=BOOTSTRAPS, seed=self.settings.seed)
        found = interval_of(means[1:], means[0])
        return dict(zip(self.values, zip(found.low.tolist(), found.high.tolist(), strict=True), strict=True))

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables of stimuli, scores, metrics, means by category, and of the categories that survive."""
        found = {"stimuli": pd.DataFrame({"stimulus": self.stimuli, **self.values}), "scores": self.score_table()}
        found["metrics"] = self.table
        if self.values and 1 < len(set(self.categories)) < len(self.stimuli):
            groups = pd.DataFrame({"category": self.categories, **self.values}).groupby("category")
            found["categories"] = groups.mean().assign(n=groups.size()).reset_index()
        if self.named:
            tables = {name: survival(self.categories, judged) for name, judged in self.named.items()}
            found["names"] = pd.concat(tables, names=["metric"]).reset_index("metric").reset_index(drop=True)
        return found

    def latex(self) -> dict[str, str]:
        """Return all tables in LaTeX, for the package booktabs."""
        return {
            name: "% needs \\usepackage{booktabs}\n"
            + table.to_latex(index=False, escape=True, float_format="%.3f", na_rep="--")
            for name, table in self.tables().items()
        }

    def score_table(self) -> pd.DataFrame:
        """Return one row for each score: its value, its null, and what is reached without the brain."""
        rows = []
        for score in self.scores:
            row: dict[str, Any] = {"score": self._key(score), "value": score.value}
            if "seed_values" in score.extra:
                row["sd over seeds"] = float(np.std(score.extra["seed_values"], ddof=1))
            row |= {"null mean": score.null_mean, "null max": score.null_max, "p": score.p, "n": score.n}
            rows.append({**row, "mean image": np.nan if score.baseline is None else score.baseline})
        return pd.DataFrame(rows)

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """Return the stimuli that were seen and the reconstructions."""
        pairs = {"stimulus": np.array(self.stimuli), "seen": self.seen, "reconstructed": self.reconstructed}
        return {"reconstructions": pairs}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws each figure: the panel, and each score in its null."""
        figures: dict[str, Callable[[], Any]] = {"panel": lambda: self._panel(store)}
        for score in self.scores:
            key = self._key(score)
            null = self.null.get(key, np.array([]))
            if len(null) and np.isfinite(null).all() and np.isfinite(score.value):
                figures[f"null_{key}"] = functools.partial(self._null_figure, score, store)
        return figures

    def pages(self, store: Store, record: Mapping[str, Any]) -> dict[str, Callable[[], str]]:
        """Return what makes the report: the panel, the scores, and each score in its null."""
        return {"report": lambda: self._report(store, record)}

    def rows(self) -> dict[str, np.ndarray]:
        """Return the rows of the contact sheet, arrays of shape (stimulus, [frame,] y, x, rgb)."""
        return {"seen": self.seen, "reconstructed": self.reconstructed}

    def sections(self) -> list[Section]:
        """Return further sections of the report."""
        return []

    def _report(self, store: Store, record: Mapping[str, Any]) -> str:
        from neurorecon.figures import Figure, Section, Table, report_html

        figures = self.figures(store)
        panel = Figure(figures.pop("panel")(), "Stimuli and their reconstructions, from the best to the worst.")
        scores = Table.from_frame(self.score_table(), "Means over stimuli, beside their null.", formats={"n": "d"})
        intervals = Table.from_frame(
            self.table, "Means with 95% intervals over stimuli, and who judged.", formats={"n": "d", "n_undefined": "d"}
        )
        names = []
        if self.named:
            said = "Which categories the judge of each metric still sees, and what it takes the others for."
            survived = Table.from_frame(self.tables()["names"], "Categories of the stimuli", formats={"n": "d"})
            names.append(Section("Names that survive", said, [survived]))
        nulls = [
            Figure(draw(), f"{name.removeprefix('null_')}: the score (line) in its null distribution.")
            for name, draw in figures.items()
            if name.startswith("null_")
        ]
        stimuli = Table.from_frame(self.tables()["stimuli"], "The scores of each stimulus.")
        sections = [
            Section("Seen and reconstructed", (), [panel]),
            Section("Scores", exchange_lines(self.chosen), [scores, intervals, *nulls]),
            *names,
            *self.sections(),
            Section("Stimuli", (), [stimuli]),
        ]
        return report_html(f"{self.title} · {store.label}", sections, record, lead=self.sentence)

    def _panel(self, store: Store) -> Any:
        from neurorecon.figures import panel

        metric = next(iter(self.values), None)
        values = np.zeros(len(self.stimuli)) if metric is None else self.values[metric]
        better = metric is None or load_metric(metric).higher_is_better
        keys = np.where(np.isnan(values), np.inf, -values if better else values)
        order = np.argsort(keys, kind="stable")
        picked = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]
        shown = f"All {len(order)}" if len(picked) == len(order) else f"{len(picked)} of {len(order)}"
        rows = {name: images[picked] for name, images in self.rows().items()}
        if self.seen.ndim == 5:  # of a video, the middle frame
            rows = {name: row[:, row.shape[1] // 2] for name, row in rows.items()}
        return panel(
            rows,
            scores=None if metric is None else {"reconstructed": values[picked].tolist()},
            score_label=metric,
            title=f"{self.title} · {store.label}",
            note=f"{self.sentence} {shown} stimuli, from the best to the worst.",
            simulated=store.simulated,
        )

    def _null_figure(self, score: Score, store: Store) -> Any:
        from neurorecon.figures import null_histogram

        key = self._key(score)
        return null_histogram(score.value, self.null[key], score.p, key, simulated=store.simulated)

    def _key(self, score: Score) -> str:
        """Return the name of a score without the subject."""
        return score.name.removeprefix(f"{self.subject} ")

    def text(self, store: Store) -> str:
        """Return how the images were made, and a table of the scores."""
        lines = [
            self.sentence,
            f"{'score':<40}{'value':>8}{'null mean':>11}{'null max':>10}{'p':>8}{'n':>6}{'mean image':>12}",
        ]
        for score in self.scores:
            baseline = "-" if score.baseline is None or np.isnan(score.baseline) else f"{score.baseline:.3f}"
            lines.append(
                f"{self._key(score):<40}{score.value:>8.3f}{score.null_mean:>11.3f}{score.null_max:>10.3f}"
                f"{score.p:>8.3f}{score.n:>6}{baseline:>12}"
            )
        lines += [f"{name}: {weights_label(made)}" for name, made in self.chosen.get("metric_weights", {}).items()]
        return "\n".join(lines + exchange_lines(self.chosen))


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
    models: str | None = None,
    device: str = "cpu",
    source: str = "an array",
) -> Evaluation:
    """Score images against the stimuli of a store, e.g. reconstructions from another toolbox.

    Parameters
    ----------
    images : DataArray, dims (stimulus, [frame,] y, x, rgb)
        uint8 or float in [0, 1], with the coordinate ``stimulus``: ids of the store. With a dimension ``seed``, the
        scores of each stimulus are averaged over seeds.
    store : Store
        With the stimuli that were seen.
    metrics : sequence of str, optional
        Registered names; by default those of :data:`neurorecon.metrics.base.DEFAULTS`.
    n_permutations, seed : int
        Of the null, in which each image is scored against another stimulus.
    exchange : {"stimulus", "category", "session", "run", "shift"}, optional
        How pairs are exchanged, as for :func:`neurorecon.reconstruct`; sessions and runs are those of `subject`.
    subject : str, optional
        Whose sessions or runs; by default the first.
    baseline : {"train"} or array, shape (y, x, rgb), optional
        An image that does not depend on the brain and is scored too: the mean of the training stimuli, or an image of
        your own.
    models : {"bundled", "published"} or path, optional
        Whose weights metrics on networks use; of simulated data by default the bundled ones.
    device : str
        Where these networks run.
    source : str
        Where the images come from, in words; goes into the record.

    Returns
    -------
    Evaluation

    Raises
    ------
    UnknownNameError
        If a metric, column or baseline does not exist.
    InputError
        If the images have no ids, or ids that are not in the store or occur twice, or hold NaN or infinite values.

    Examples
    --------
    >>> import neurorecon as nr
    >>> store = nr.open_store("stores/scenes.icechunk")
    >>> test = store.stimuli.query("kind == 'image' and split == 'test'")["id"].tolist()
    >>> images = store.images(test)  # in place of reconstructions
    >>> found = nr.evaluate(images, store, metrics=["mse"], n_permutations=19)
    >>> found.scores[0].value
    0.0
    """
    given = baseline if isinstance(baseline, np.ndarray) else None
    settings = EvaluateSettings(
        source=source, metrics=metrics, n_permutations=n_permutations, seed=seed, exchange=exchange, subject=subject,
        models=models, device=device, baseline=None if isinstance(baseline, np.ndarray) else baseline,
    )  # fmt: skip
    return compute_evaluation(images, store, settings, given)


def compute_evaluation(
    images: xarray.DataArray, store: Store, settings: EvaluateSettings, baseline: np.ndarray | None = None
) -> Evaluation:
    """Do what :func:`evaluate` does, from its settings.

    Parameters
    ----------
    images : DataArray, dims (stimulus, [frame,] y, x, rgb)
        With the coordinate ``stimulus``.
    store : Store
        Open.
    settings : EvaluateSettings
        What to score, and how.
    baseline : array, shape (y, x, rgb), optional
        An image to score in place of the mean of the training stimuli.
    """
    seeds = "seed" in images.dims
    if seeds:
        images = images.transpose("stimulus", "seed", ...)
    check_images(images.isel(seed=0) if seeds else images)
    require_same_split(images, store)
    stimuli = images["stimulus"].values.astype(str).tolist()
    kind, shown = ("video", "frames") if "frame" in images.dims else ("image", "images")
    metrics = choose_metrics(settings.metrics, (), kind, store, models=settings.models, device=settings.device)
    if seeds:
        metrics = {name: SeedMean.over(metric) for name, metric in metrics.items()}
    known = store.stimuli_with(shown)
    unknown = [name for name in stimuli if name not in known]
    if unknown:
        raise InputError(
            f"{len(unknown)} of {len(stimuli)} images belong to no stimulus of this store",
            given=", ".join(unknown[:5]),
            expected=f"ids such as {', '.join(sorted(known)[:3])}",
            todo="name the images by the ids in store.stimuli",
        )
    require_stimuli(metrics, len(stimuli))
    seen = stored_target(store, shown, stimuli).values.astype(np.float32)
    require_frames(images, seen, store)
    reconstructed = as_unit_float(images.values).astype(np.float32)
    chosen: dict[str, Any] = {
        "metrics": list(metrics),
        "metric_weights": weights_of(metrics),
        "networks": dict(images.attrs.get("networks", {})),
        "null": "exchanged pairs",
        "compared_at": list(seen.shape[-3:-1]),
        "stimuli": len(stimuli),
        "seeds": images["seed"].values.tolist() if seeds and "seed" in images.coords else None,
    }
    if baseline is not None:
        chosen["baseline"] = "an image that was given"
    elif settings.baseline == "train":
        rows = [name for name in store.stimuli.loc[store.stimuli["split"] == "train", "id"] if name in known]
        baseline = np.asarray(stored_target(store, shown, rows).mean("stimulus")) if rows else None
    orders, exchange = exchange_orders(store, settings.subject or store.subjects[0], stimuli, settings, shown)
    chosen |= {"n_permutations": len(orders)}
    chosen |= exchange_record(exchange, 1 / (1 + len(orders)), settings.n_permutations)
    values, scores, null = score_pairs(
        metrics, seen, reconstructed, orders, context=context_of(store, stimuli), baseline=baseline
    )
    first = reconstructed[:, 0] if seeds else reconstructed
    return Evaluation(
        settings=settings, chosen=chosen, stimuli=stimuli, seen=seen, values=values, reconstructed=first,
        all_seeds=reconstructed if seeds else None, scores=tested(scores, exchange), null=null,
        categories=categories_of(store, stimuli), named=names_of(metrics, first, seen.shape[-3:-1]),
    )  # fmt: skip


def categories_of(store: Store, stimuli: Sequence[str]) -> list[str]:
    """Return the category of each stimulus."""
    found: list[str] = store.stimuli.set_index("id")["category"].loc[list(stimuli)].astype(str).tolist()
    return found


def check_images(images: Any) -> None:
    """Refuse images without ids, with the same id twice, or with values that are not finite."""
    if images.ndim not in (4, 5) or images.dims[0] != "stimulus" or "stimulus" not in images.coords:
        raise InputError(
            "these images do not say which stimuli they belong to",
            given=f"dims {images.dims}, coordinates {', '.join(map(str, images.coords)) or '(none)'}",
            expected="a DataArray with dims (stimulus, [frame,] y, x, rgb) and the coordinate stimulus",
            todo="read them with neurorecon.analyses.evaluate.load_images, or add the coordinate",
        )
    ids = images["stimulus"].values.tolist()
    if len(set(ids)) != len(ids):
        raise InputError(
            "a stimulus has more than one image",
            given=f"{len(ids)} images of {len(set(ids))} stimuli",
            expected="one image for each stimulus",
            todo="average the images of each stimulus, or score each set in its own call",
        )
    if images.dtype.kind == "f":
        finite = np.isfinite(images.values).reshape(len(ids), -1).all(axis=1)
        if not finite.all():
            wrong = [str(name) for name, right in zip(ids, finite, strict=True) if not right]
            raise InputError(
                f"{len(wrong)} of {len(ids)} images hold NaN or infinite values",
                given=", ".join(wrong[:5]),
                expected="finite values in [0, 1]",
                todo="generate these images again, or leave them out",
            )


def require_frames(images: Any, seen: np.ndarray, store: Store) -> None:
    """Refuse videos with another number of frames than the stimuli that were seen, (stimulus, [frame,] y, x, rgb)."""
    if "frame" in images.dims and images.sizes["frame"] != seen.shape[1]:
        rate = store.frames_per_second
        raise InputError(
            "these videos do not have the frames of the stimuli",
            given=f"{images.sizes['frame']} frame{'s' if images.sizes['frame'] > 1 else ''} each",
            expected=f"{seen.shape[1]} frames each{f', {rate:g} a second' if rate else ''}, one for each of the store",
            todo="write these frames; equal frames of a GIF are joined, so write stills as MP4",
        )


def require_same_split(images: Any, store: Store) -> None:
    """Refuse reconstructions that say that they were made with another split, whose training stimuli differ."""
    made = images.attrs.get("split_column")
    if made is not None and made != (store.split_column or ""):
        raise InputError(
            "these reconstructions were made with another split",
            given=f"reconstructions: {made or 'the split that the store was built with'}; "
            f"scored with: {store.split_column or 'the split that the store was built with'}",
            expected="the same split: baselines come from its training stimuli",
            todo=f"use --split-column {made}" if made else "leave --split-column out",
        )


def load_images(path: str | Path, table: str | Path | None = None) -> xarray.DataArray:
    """Read images from another toolbox, named by stimulus.

    Parameters
    ----------
    path : path
        A folder of image files of one size, or of videos of one size and length (MP4, GIF), each called as its stimulus
        (``image0001.png``, ``video0001.mp4``); or a ``.npz`` file with ``stimulus``, ids, and ``reconstructed`` (or
        ``images``), shape (stimulus, [frame,] y, x, rgb); or the folder of results of ``neurorecon reconstruct``, or
        the ``.zarr`` in it. Of videos all frames are read, see :func:`neurorecon.io.videos.read_all_frames`; they have
        to be as many as the store has of each stimulus.
    table : path, optional
        With a folder of files: a CSV, TSV or Parquet file with the columns ``file`` (path within the folder) and
        ``stimulus`` (id). A stimulus may have several images, all stimuli equally many.

    Returns
    -------
    DataArray, dims (stimulus, [seed,] [frame,] y, x, rgb)

    Raises
    ------
    MissingFileError, InputError
        Where there are no images, or they cannot be read.
    """
    import xarray

    place = Path(path)
    if table is not None:
        return _read_listed(place, Path(table))
    arrays = sorted(place.glob("*_reconstructions.zarr"))
    if len(arrays) > 1:
        raise InputError(
            "this folder holds several results",
            given=f"{place} with {', '.join(file.name for file in arrays)}",
            expected="one of them",
            todo=f"name one: {arrays[0]}",
        )
    if arrays or place.suffix == ".zarr":
        return _read_zarr(arrays[0] if arrays else place)
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


def _read_zarr(place: Path) -> xarray.DataArray:
    import xarray

    try:
        with xarray.open_zarr(place, consolidated=False) as found:
            images = found["reconstructed"].load().assign_attrs(networks=dict(found.attrs.get("networks", {})))
            images.attrs |= {name: found.attrs[name] for name in ("split_column",) if name in found.attrs}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "these reconstructions cannot be read",
            given=f"{place} ({type(error).__name__}: {error})",
            expected="a Zarr array 'reconstructed', as neurorecon reconstruct writes it",
            todo="run the same reconstruction again; it resumes",
        ) from error
    # Numpy's text of any length, as which xarray reads it, is not text of fixed length, as ids are elsewhere.
    images = images.assign_coords(stimulus=("stimulus", np.array(images["stimulus"].values.tolist(), dtype=str)))
    return images.transpose("stimulus", "seed", ...) if "seed" in images.dims else images


def _read_folder(place: Path) -> tuple[np.ndarray, np.ndarray]:
    files = sorted(file for file in place.glob("[!.]*") if file.suffix.lower() in _SUFFIXES + VIDEOS)
    return _read_files(files, place), np.array([file.stem for file in files])


def _read_files(files: Sequence[Path], place: Path) -> np.ndarray:
    """Return images or videos of one size as an array, uint8 (file, [frame,] y, x, rgb)."""
    videos = [file for file in files if is_video(file)]
    if videos and len(videos) < len(files):
        other = next(file for file in files if not is_video(file))
        raise InputError(
            "this folder holds images and videos",
            given=f"{videos[0].name}, {other.name} in {place}",
            expected="one kind, called as the stimuli",
            todo="put them into two folders",
        )
    gifs = [file for file in videos if file.suffix.lower() == ".gif"]
    step = min(map(shortest_frame, gifs), default=None)
    values = [read_all_frames(file, step) if videos else np.asarray(read_image(file)) for file in files]
    what, suffixes = ("videos", VIDEOS) if videos else ("images", _SUFFIXES)
    shapes: dict[tuple[int, ...], Path] = {}
    for file, value in zip(files, values, strict=True):
        shapes.setdefault(value.shape[:-1], file)
    if len(shapes) != 1:
        axes = "(frame, y, x)" if videos else "(y, x)"
        differ = "; ".join(f"{file.name} {shape}" for shape, file in sorted(shapes.items())[:5])
        raise InputError(
            f"these files are not {what} of one size{' and length' if videos else ''}"
            if shapes
            else "this folder holds no images",
            given=f"{len(files)} files{f' of sizes {axes}: {differ}' if shapes else ''} in {place}",
            expected=f"files of one size, called as their stimuli: image0001{suffixes[0]} ({', '.join(suffixes)})",
            todo="give all videos the size and the number of frames of the stimuli"
            if videos
            else "scale them to one size, or give the folder that holds them",
        )
    return np.stack(values)


def _read_listed(place: Path, table: Path) -> xarray.DataArray:
    """Read the image files of a folder that a table lists, with the stimulus of each."""
    import xarray

    if not place.is_dir():
        raise MissingFileError(
            "a table lists the files of a folder", given=str(place), expected="a folder of image files",
            todo="check the path",
        )  # fmt: skip
    frame = read_table(table).frame
    lacking = [name for name in ("file", "stimulus") if name not in frame]
    if lacking:
        raise InputError(
            "this table does not say which image belongs to which stimulus",
            given=f"{table} with the columns {', '.join(map(str, frame.columns))}",
            expected="the columns file and stimulus",
            todo="name them so",
        )
    listed = pd.DataFrame({name: as_text(frame[name]) for name in ("file", "stimulus")})
    outside = [name for name in listed["file"] if not (place / name).resolve().is_relative_to(place.resolve())]
    missing = [name for name in listed["file"] if not (place / name).is_file()]
    if outside or missing:
        raise MissingFileError(
            f"{len(outside or missing)} of {len(listed)} files that the table lists are not in the folder",
            given=", ".join((outside or missing)[:5]),
            expected=f"files in {place}",
            todo="correct the column file: paths within the folder",
        )
    counts = listed["stimulus"].value_counts()
    if counts.nunique() > 1 or listed["file"].duplicated().any():
        raise InputError(
            "stimuli have different numbers of images, or a file is listed twice",
            given=f"{counts.index[0]}: {counts.iloc[0]}, {counts.index[-1]}: {counts.iloc[-1]}, "
            f"{int(listed['file'].duplicated().sum())} files listed twice",
            expected="equally many images of each stimulus, each listed once",
            todo="leave rows out of the table",
        )
    listed = listed.sort_values("stimulus", kind="stable")
    ids = listed["stimulus"].drop_duplicates().to_numpy(str)
    images = _read_files([place / name for name in listed["file"]], place)
    images = images.reshape(len(ids), -1, *images.shape[1:])
    frame = ("frame",) if images.ndim == 6 else ()
    found = xarray.DataArray(
        images, dims=("stimulus", "seed", *frame, "y", "x", "rgb"), coords={"stimulus": ("stimulus", ids)}
    )  # fmt: skip
    return found.isel(seed=0) if images.shape[1] == 1 else found


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


def choose_metrics(
    named: Sequence[str] | None,
    of_system: Sequence[str],
    kind: str,
    store: Store | None = None,
    *,
    models: str | Path | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> dict[str, Metric]:
    """Return metrics by name: those that are named, else the system's, else the registry's defaults.

    Parameters
    ----------
    named, of_system : sequence of str
        Names.
    kind : {"image", "video"}
        What is compared.
    store : Store, optional
        Whose stimuli are compared. Metrics on networks are refused where their network cannot judge them, or where it
        is not said whose weights judge measured data; bundled networks on measured data are warned about.
    models, device, progress
        Of metrics on networks, see :func:`neurorecon.metrics.load_metric`.

    Raises
    ------
    UnknownNameError, InputError
        Where a metric does not exist, compares something else, or cannot judge these stimuli.
    """
    names = list(named or of_system or DEFAULTS[kind])
    if not names:
        raise InputError(f"no metric is named, and there is none by default for a {kind}", todo="name one: --metric")
    where = "cpu" if device == "torch" else device
    found = {registered_name(name): load_metric(name, models or "bundled", where, progress=progress) for name in names}
    for name, metric in found.items():
        if metric.of != kind:
            raise InputError(
                f"the metric {name!r} does not compare {kind}s",
                given=f"{kind}s",
                expected=f"{metric.of}s",
                todo="choose another metric",
            )
        if store is not None and metric.network is not None:
            found[name] = replace(metric, network=metric.network.for_store(store))
    on_networks = [name for name, metric in found.items() if metric.network is not None]
    if store is not None and on_networks and models is None and not store.simulated:
        raise InputError(
            "these metrics need networks, and it is not said whose weights",
            given=f"{', '.join(on_networks)}, on the store {store.name!r}, which is not simulated",
            expected="the published weights, or a folder with your own; the bundled ones know drawn scenes only",
            todo="choose: --models published, or --models FOLDER (in Python, models=)",
        )
    warning = None if store is None else bundled_weights(store, weights_of(found))
    if warning is not None:
        warnings.warn(warning, BundledWeightsWarning, stacklevel=3)
    return found


def require_stimuli(metrics: Mapping[str, Metric], n: int) -> None:
    """Refuse metrics that need more stimuli than there are, before anything is generated or scored."""
    for name, metric in metrics.items():
        if n < metric.fewest:
            raise InputError(
                f"there are too few stimuli for the metric {name!r}",
                given=f"{n} stimuli",
                expected=f"{metric.fewest} or more",
                todo="choose a smaller pool or another metric, or evaluate on more stimuli",
            )


def names_of(metrics: Mapping[str, Metric], reconstructed: np.ndarray, size: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return what judges see in reconstructions, array of str, (stimulus,), by the metric that asks for the category.

    Parameters
    ----------
    metrics : mapping of str to Metric
    reconstructed : array, shape (stimulus, y, x, rgb)
    size : (int, int)
        (y, x) at which images are compared.
    """
    judges = {name: metric for name, metric in metrics.items() if metric.layer == "category"}
    return {name: metric.features(resized(reconstructed, (size[0], size[1]))) for name, metric in judges.items()}


def weights_of(metrics: Mapping[str, Metric]) -> dict[str, dict[str, str]]:
    """Return what identifies the weights of the metrics on networks, for the record of a result."""
    return {name: metric.network.record() for name, metric in metrics.items() if metric.network is not None}


def context_of(store: Store, stimuli: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return what metrics may need beside the images, one row for each stimulus."""
    table = store.stimuli.set_index("id").loc[list(stimuli)]
    columns = {"categories": "category", "captions": "captions"}
    found = {name: table[column].to_numpy() for name, column in columns.items() if column in table}
    return {**found, **more}


def exchange_orders(
    store: Store,
    subject: str,
    stimuli: Sequence[str],
    settings: ReconstructSettings | EvaluateSettings,
    shown: str = "images",
    *,
    shared_runs: bool = False,
) -> tuple[np.ndarray, Exchange]:
    """Return the orders of the stimuli under the null, and what trades places in them.

    Parameters
    ----------
    store : Store
    subject : str
        Whose sessions or runs.
    stimuli : sequence of str
        Ids.
    settings : ReconstructSettings or EvaluateSettings
        How many permutations, their seed, and how pairs are exchanged.
    shown : {"images", "frames"}
        What is compared: where neighbors are similar, the order of presentation was not random.
    shared_runs : bool
        Whether a system was trained on samples of the same runs, and is not trained again in each permutation.

    Returns
    -------
    orders : int array, shape (permutation, stimulus)
        All others than the observed one where there are no more than are asked for.
    exchange : Exchange
        ``unit`` is "stimulus", "category", "session", "within run" or "shift".

    Raises
    ------
    InputError
        If stimuli are exchanged within sessions or runs, and one was shown in several.
    """
    asked, ids = settings.exchange, list(stimuli)
    samples = store.samples(subject)
    presented = samples[samples["stimulus"].isin(ids)]
    if asked in (None, "stimulus", "session", "shift") and set(presented["stimulus"]) == set(ids):
        first = presented.sort_values(["session", "run", "time"], kind="stable").drop_duplicates("stimulus")
        once = bool((presented.groupby("stimulus")["session"].nunique() == 1).all())
        exchange = choose_exchange(
            asked,
            series=False,  # a reconstruction is of a stimulus
            stimuli=first["stimulus"],
            runs=runs_of(first),
            sessions=first["session"],
            fixed_order=same_order(presented),
            autocorrelation=order_of_features(store, [shown], presented),
            confounded=once,
            shared_runs=shared_runs,
        )
    else:
        exchange = Exchange("within run" if asked == "run" else asked or "stimulus", "asked for" if asked else
                            f"{subject} did not see all of these stimuli")  # fmt: skip
    n_permutations, seed, within = settings.n_permutations, settings.seed, None
    if exchange.unit == "shift":
        if set(presented["stimulus"]) != set(ids):
            raise InputError(
                f"{subject} did not see all of these stimuli, so they have no order",
                given=f"{presented['stimulus'].nunique()} of {len(ids)} stimuli",
                expected="stimuli of the runs of one subject",
                todo="name the subject, or exchange stimuli: --exchange stimulus",
            )
        row = {name: number for number, name in enumerate(ids)}
        places = np.array([row[name] for name in first["stimulus"]])
        shifted = run_orders(runs_of(first), n_permutations, seed)
        orders = np.empty_like(shifted)
        orders[:, places] = places[shifted]
        return orders, exchange
    if exchange.unit == "category":
        within = store.stimuli.set_index("id")["category"].loc[ids].to_numpy(str)
    elif exchange.unit in ("session", "within run"):
        column = "session" if exchange.unit == "session" else "run"
        values = presented.groupby("stimulus")[column]
        several = values.nunique()[lambda number: number > 1]
        if len(several):
            raise InputError(
                f"a stimulus has more than one value in {column}",
                given=f"{several.index[0]} and {len(several) - 1} others",
                expected="one value for each stimulus",
                todo="exchange within a column that depends on the stimulus alone: category",
            )
        within = values.first().loc[ids].to_numpy(str)
    return stimulus_permutations(len(ids), n_permutations, seed, within), exchange


def score_pairs(
    metrics: Mapping[str, Metric],
    seen: np.ndarray,
    reconstructed: np.ndarray,
    orders: np.ndarray,
    *,
    context: Mapping[str, Any] | None = None,
    baseline: np.ndarray | None = None,
) -> tuple[dict[str, np.ndarray], list[Score], dict[str, np.ndarray]]:
    """Score pairs beside the null of exchanged pairs, at the size of what was seen.

    Parameters
    ----------
    metrics : mapping of str to Metric
    seen : array, shape (stimulus, [frame,] y, x, rgb)
    reconstructed : array, shape (stimulus, [seed,] [frame,] y, x, rgb)
        With seeds if each metric is a :class:`~neurorecon.metrics.base.SeedMean`.
    orders : int array, shape (permutation, stimulus)
        Of the null: reconstruction i is taken for one of stimulus ``orders[permutation, i]``.
    context : mapping, optional
        What metrics need beside the images.
    baseline : array, shape ([frame,] y, x, rgb), optional
        The same image for all stimuli.

    Returns
    -------
    values : dict of str to array, shape (stimulus,)
    scores : list of Score
    null : dict of str to array, shape (permutation,)
    """
    compared = resized(reconstructed, seen.shape[-3:-1])
    values, scores, null = {}, [], {}
    for name, metric in metrics.items():
        found, extra = values_of(metric, seen, compared, context)
        exchanged = None
        if found.ndim:
            values[name] = found
            exchanged = null[name] = metric.null(seen, compared, orders, context)
        beside = None
        if baseline is not None and not metric.compares and not metric.needs:
            beside = metric.values(seen, np.broadcast_to(baseline.astype(np.float32), seen.shape))
        scores.append(score_of(name, metric, found, exchanged, beside, len(seen), extra))
    return values, scores, null


def values_of(
    metric: Metric, seen: np.ndarray, reconstructed: np.ndarray, context: Mapping[str, Any] | None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the values of a metric, (stimulus,), and the score of each seed where there are several."""
    if not isinstance(metric, SeedMean) or reconstructed.ndim == seen.ndim:
        return metric.values(seen, reconstructed, context), {}
    several = metric.by_seed(seen, reconstructed, context)
    return mean_of_defined(several), {"seed_values": [summarize(np.atleast_1d(one)).mean for one in several]}


def tested(scores: Sequence[Score], exchange: Exchange) -> list[Score]:
    """Return scores without p-values where no test is valid."""
    return list(scores) if exchange.valid else [replace(score, p=np.nan) for score in scores]


def score_of(
    name: str,
    metric: Metric,
    values: np.ndarray,
    null: np.ndarray | None,
    baseline: np.ndarray | None,
    n: int,
    extra: Mapping[str, Any] | None = None,
) -> Score:
    """Return a score beside its null, and beside what is reached without the brain.

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
    extra : mapping, optional
        Further numbers.
    """
    summary = summarize(np.atleast_1d(values))
    sign = 1.0 if metric.higher_is_better else -1.0
    return Score(
        name=name,
        value=summary.mean,
        n=summary.n if values.ndim else n,
        null_mean=np.nan if null is None else float(null.mean()),
        null_max=np.nan if null is None else float(null.max()),
        p=np.nan if null is None else float(permutation_p(sign * summary.mean, sign * null)),
        n_permutations=0 if null is None else len(null),
        n_undefined=summary.n_undefined,
        baseline=np.nan if baseline is None else summarize(np.atleast_1d(baseline)).mean,
        extra=extra or {},
    )
