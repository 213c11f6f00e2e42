"""Metrics: functions of seen and reconstructed stimuli, with their null of exchanged pairs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neurorecon.errors import FormerNameWarning, InputError, UnknownNameError
from neurorecon.registry import METRICS

if TYPE_CHECKING:
    from neurorecon.metrics.networks import ImageNetwork

#: Metrics that are computed by default, by what is reconstructed.
DEFAULTS: dict[str, tuple[str, ...]] = {"image": ("pixcorr", "two_way"), "video": ("ssim_frames", "epe")}

#: Former names of metrics, which are still accepted.
FORMER_NAMES = {
    "pixel_correlation": "pixcorr",
    "mean_squared_error": "mse",
    "pairwise_identification": "two_way",
    "pairwise_identification_half_ties": "two_way_half_ties",
    "pairwise_identification_among_rebuilt": "two_way_among_reconstructions",
    "n_way_identification": "n_way",
}

#: Names in papers, in lower case with underscores, of metrics that are called otherwise here, because variants differ.
#: Those of Mind-Animator count any of the three best classes, and call an uncentered cosine a correlation.
PUBLISHED_NAMES = {
    "2_way_i": "two_way_i_top3_any",
    "2_way_v": "two_way_v_top3_any",
    "hue_pcc": "hue_cosine",
    "top_10": "retrieval_top10",
    "top_100": "retrieval_top100",
}

#: What a metric may need beside the images, and whether it belongs to the seen stimulus, to the reconstruction or to
#: the metric itself.
NEEDS: dict[str, Literal["seen", "reconstructed", "metric"]] = {
    "categories": "seen",
    "captions": "seen",
    "decoded": "reconstructed",
    "network": "metric",
}

#: Values in the pairs of images that are compared at a time.
_PAIR_VALUES = 2**25


@dataclass(frozen=True)
class Metric:
    """How well reconstructions match what was seen.

    Parameters
    ----------
    function : callable
        ``function(seen, reconstructed)`` takes two arrays of shape (stimulus, y, x, rgb) (of videos, with a frame axis
        after the first) and returns one value for each stimulus, shape (stimulus,), NaN if undefined; or one number for
        the whole set, such as a Frechet distance. What the metric `needs` is passed by keyword.
    matrix : callable, optional
        ``matrix(seen, reconstructed)`` returns the value of every pair, shape (reconstruction, seen), which makes the
        null of exchanged pairs cheap. What the metric `needs` is passed by keyword.
    reduce : callable, optional
        ``reduce(matrix, order)`` returns one value for each stimulus from the matrix, if reconstruction i is taken for
        stimulus ``order[i]``. Needed if the value of one stimulus depends on the others, as in identification; by
        default ``matrix[i, order[i]]``.
    higher_is_better : bool
        False for errors and distances.
    chance : float, optional
        Expected value without information, if known.
    of : {"image", "video"}
        What is compared.
    returns : {"stimulus", "set"}
        One value for each stimulus, or one for the whole set, which has no null of exchanged pairs. A function that
        returns one number is taken for a metric of the whole set, whatever this says.
    needs : tuple of str
        Keyword arguments beside the images: ``"categories"``, ``"captions"`` (of the stimuli) or ``"decoded"`` (the
        decoded targets), one entry for each stimulus; or ``"network"``, the network itself, e.g. to read captions with.
    fewest : int
        How many stimuli it needs.
    network : ImageNetwork, optional
        The network whose features are compared. `function` and `matrix` then take features, shape (stimulus, ...), in
        place of images.
    layer : str
        Which of its layers.
    """

    function: Callable[..., Any]
    matrix: Callable[..., np.ndarray] | None = None
    reduce: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    higher_is_better: bool = True
    chance: float | None = None
    of: Literal["image", "video"] = "image"
    returns: Literal["stimulus", "set"] = "stimulus"
    needs: tuple[str, ...] = ()
    fewest: int = 1
    network: ImageNetwork | None = None
    layer: str = ""

    def __post_init__(self) -> None:
        if self.reduce is not None and self.matrix is None:
            raise InputError("a metric with reduce= needs matrix=", given="reduce without matrix", expected="both")
        unknown = [name for name in self.needs if name not in NEEDS]
        if unknown:
            raise InputError(
                "this metric needs something that metrics cannot get",
                given=", ".join(unknown),
                expected=f"some of: {', '.join(NEEDS)}",
                todo="give needs= the names of keyword arguments from this list",
            )
        if self.network is not None and self.layer not in self.network.layers:
            raise UnknownNameError("layer", self.layer, self.network.layers)

    @property
    def compares(self) -> bool:
        """Whether the value of one stimulus depends on the others."""
        return self.reduce is not None

    def values(
        self,
        seen: np.ndarray,
        reconstructed: np.ndarray,
        context: Mapping[str, Any] | None = None,
        order: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the values, shape (stimulus,), or shape () for a metric of the whole set.

        Parameters
        ----------
        seen, reconstructed : array, shape (stimulus, [frame,] y, x, rgb)
            The same stimulus in each row.
        context : mapping of str to array, optional
            What the metric needs, one row for each stimulus.
        order : int array, shape (stimulus,), optional
            Reconstruction i is compared with stimulus ``order[i]``; by default with its own.
        """
        return self._values(self.features(seen), self.features(reconstructed), context, order)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return what is compared: features of the network, (stimulus, ...), or the images where there is none."""
        return images if self.network is None else self.network.features(images, self.layer)

    def _values(
        self,
        seen: np.ndarray,
        reconstructed: np.ndarray,
        context: Mapping[str, Any] | None,
        order: np.ndarray | None = None,
    ) -> np.ndarray:
        extra = self._needed(context)
        if order is not None:
            seen = seen[order]
            extra |= {name: np.asarray(extra[name])[order] for name in extra if NEEDS[name] == "seen"}
        found = np.asarray(self.function(seen, reconstructed, **extra), dtype=np.float64)
        if found.shape != () and (found.shape != (len(seen),) or self.returns == "set"):
            raise InputError(
                "this metric does not return what it says",
                given=f"an array of shape {found.shape}",
                expected="one number"
                if self.returns == "set"
                else f"shape ({len(seen)},): one value for each stimulus",
                todo="correct the function, or returns= of the metric",
            )
        return found

    def _needed(self, context: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what the metric needs beside the images."""
        given = {**(context or {}), "network": self.network}
        for name in self.needs:
            if given.get(name) is None:
                raise InputError(
                    f"this metric needs {name}, which the data set does not have",
                    given=f"{', '.join(sorted(context or ())) or 'nothing'} beside the images",
                    expected=name,
                    todo="use a data set that has them, or another metric",
                )
        return {name: given[name] for name in self.needs}

    def null(
        self,
        seen: np.ndarray,
        reconstructed: np.ndarray,
        orders: np.ndarray,
        context: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Return the mean value under exchanged pairs, shape (permutation,).

        Parameters
        ----------
        seen : array, shape (stimulus, [frame,] y, x, rgb)
        reconstructed : array, shape (reconstruction, [frame,] y, x, rgb)
            One of each stimulus, or of each sample.
        orders : int array, shape (permutation, reconstruction)
            Reconstruction i is taken for one of stimulus ``orders[permutation, i]``.
        context : mapping of str to array, optional
            As for :meth:`values`.
        """
        seen, reconstructed = self.features(seen), self.features(reconstructed)
        rows = np.arange(len(reconstructed))
        if self.matrix is not None and len(seen) == len(reconstructed):
            pairs = self.matrix(seen, reconstructed, **self._needed(context))
            reduce = self.reduce or (lambda matrix, order: matrix[rows, order])
            return np.array([summarize(reduce(pairs, order)).mean for order in orders])
        # Each pair is compared once, however many permutations contain it.
        keys, where = np.unique(orders + rows * len(seen), return_inverse=True)
        step = max(1, _PAIR_VALUES // max(1, seen[0].size))
        parts = [
            self._pairs(seen, reconstructed, *np.divmod(keys[start : start + step], len(seen)), context)
            for start in range(0, len(keys), step)
        ]
        return np.array([summarize(row).mean for row in np.concatenate(parts)[where.reshape(orders.shape)]])

    def _pairs(
        self,
        seen: np.ndarray,
        reconstructed: np.ndarray,
        own: np.ndarray,
        other: np.ndarray,
        context: Mapping[str, Any] | None,
    ) -> np.ndarray:
        """Return the values of the reconstructions `own`, taken for the stimuli `other`."""
        rows = {"seen": other, "reconstructed": own}
        taken = {
            name: value.take(rows[NEEDS[name]]) if name == "decoded" else np.asarray(value)[rows[NEEDS[name]]]
            for name, value in self._needed(context).items()
            if NEEDS[name] in rows
        }
        return self._values(seen[other], reconstructed[own], taken)


@dataclass(frozen=True)
class SeedMean(Metric):
    """A metric of reconstructions with several seeds, shape (stimulus, seed, [frame,] y, x, rgb): its mean over seeds.

    Arrays without seeds, such as a mean image, are compared as usual.
    """

    @classmethod
    def over(cls, metric: Metric) -> SeedMean:
        """Return the mean over seeds of a metric."""
        return cls(**vars(metric))

    def by_seed(
        self,
        seen: np.ndarray,
        reconstructed: np.ndarray,
        context: Mapping[str, Any] | None = None,
        order: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the values of each seed, shape (seed, stimulus), or (seed,) for a metric of the whole set."""
        several = np.moveaxis(reconstructed, 1, 0)
        return np.stack([super(SeedMean, self).values(seen, one, context, order) for one in several])

    def values(
        self,
        seen: np.ndarray,
        reconstructed: np.ndarray,
        context: Mapping[str, Any] | None = None,
        order: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the values, shape (stimulus,), or shape () for a metric of the whole set."""
        if reconstructed.ndim == seen.ndim:
            return super().values(seen, reconstructed, context, order)
        return mean_of_defined(self.by_seed(seen, reconstructed, context, order))

    def null(
        self,
        seen: np.ndarray,
        reconstructed: np.ndarray,
        orders: np.ndarray,
        context: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Return the mean value under exchanged pairs, the same for all seeds, shape (permutation,)."""
        if reconstructed.ndim == seen.ndim:
            return super().null(seen, reconstructed, orders, context)
        several = np.moveaxis(reconstructed, 1, 0)
        return np.mean([super(SeedMean, self).null(seen, one, orders, context) for one in several], axis=0)


def registered_name(name: str) -> str:
    """Return the name of a metric that is given by a former name or as papers write it, e.g. ``"2-way-I"``, ``"EPE"``.

    Names that nothing is known of are returned as they are.
    """
    if name in FORMER_NAMES:
        return FORMER_NAMES[name]
    plain = name.lower().replace("-", "_")
    known = name in METRICS.names() or plain not in {*METRICS.builtin, *PUBLISHED_NAMES}
    return name if known else PUBLISHED_NAMES.get(plain, plain)


def load_metric(name: str, models: str | Path = "bundled", device: str = "cpu", *, progress: bool = False) -> Metric:
    """Return a metric by its name.

    Parameters
    ----------
    name : str
        A registered name, or any name of identification or classification, e.g. ``"50_way"``, ``"top5_of_100_clip"`` or
        ``"50_way_v_top1"``; see :func:`neurorecon.metrics.networks.named_identification` and
        :func:`neurorecon.metrics.video.named_video_metric`. Names of papers are accepted, see
        :data:`PUBLISHED_NAMES`, and former names with a warning.
    models : {"bundled", "published"} or path
        Whose weights a metric on a network uses.
    device : str
        Where its network runs.
    progress : bool
        Show a progress bar while its network runs.

    Returns
    -------
    Metric

    Raises
    ------
    UnknownNameError
        If there is no such metric.

    Examples
    --------
    >>> from neurorecon.metrics import load_metric
    >>> load_metric("mse").higher_is_better, load_metric("10_way").chance
    (False, 0.1)
    """
    if name in FORMER_NAMES:
        warnings.warn(
            f"the metric {name!r} is called {FORMER_NAMES[name]!r} now; the old name will be removed in version 0.3",
            FormerNameWarning,
            stacklevel=2,
        )
    name = registered_name(name)
    if name in ("n_way", "topk_of_n"):
        raise InputError(
            f"the metric {name!r} needs numbers",
            given=name,
            expected="numbers in place of letters, e.g. 10_way, top5_of_100",
            todo="write 10_way or top5_of_100, or two_way for pairs",
        )
    found: Any = None
    if name in METRICS.names():
        found = METRICS.load(name)
    else:
        from neurorecon.metrics.networks import named_identification  # here, because they import this module
        from neurorecon.metrics.video import named_video_metric

        found = named_identification(name) or named_video_metric(name) or METRICS.load(name)
    if not isinstance(found, Metric):
        return Metric(found)
    return found if found.network is None else replace(found, network=found.network.on(models, device, progress))


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return means over the first axis, of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0.0).sum(axis=0) / defined.sum(axis=0))


@dataclass(frozen=True)
class Summary:
    """The mean of scores over stimuli.

    Parameters
    ----------
    mean : float
        Over the stimuli whose score is defined; NaN if there is none.
    n : int
        Number of stimuli whose score is defined.
    n_undefined : int
        Number of stimuli whose score is NaN (e.g. the correlation of a constant image). The mean leaves them out, so
        tables should report how many there are.
    """

    mean: float
    n: int
    n_undefined: int


def summarize(scores: np.ndarray) -> Summary:
    """Average scores over stimuli and count those that are undefined.

    Parameters
    ----------
    scores : array, shape (stimulus,)
        NaN marks an undefined score.

    Returns
    -------
    Summary
    """
    scores = np.asarray(scores, dtype=np.float64)
    defined = scores[~np.isnan(scores)]
    mean = float(defined.mean()) if defined.size else float("nan")
    return Summary(mean, int(defined.size), int(scores.size - defined.size))
