"""Noise ceilings of a store: which samples are compared, the variances that are kept, and the ceilings they give.

A build keeps the variance of signal and noise of each voxel. Ratios are computed when they are asked for, because the
ceiling of averages over repeats is not that of single samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from neurorecon.datasets.base import TRIALS
from neurorecon.errors import InputError
from neurorecon.stats.noise_ceiling import RepeatVariance, VarianceComponents, mean_ceiling, series_components
from neurorecon.store.schema import RESPONSE_CHUNKS
from neurorecon.store.selection import volume_numbers

if TYPE_CHECKING:
    from neurorecon.store.writer import StoreWriter

#: Samples that a noise ceiling belongs to: averages over the repeats of test stimuli, or of all; or single samples.
Samples = Literal["test", "all", "single"]

#: Split for which noise ceilings are computed, if a task has it.
TEST = "test"


#: Repeated stimuli that a test split needs for ceilings of its own; with fewer, those of all splits are used.
_FEWEST_TEST_STIMULI = 10

#: Degrees of freedom that the variance over stimuli needs: with fewer, its reciprocal has no finite variance.
_FEWEST_FREEDOM = 5


#: A run that ends early repeats a longer one if it has this share of its volumes.
_SHARE_OF_RUN = 0.9


@dataclass(frozen=True)
class NoiseCeilings:
    """Noise ceilings of one subject.

    Parameters
    ----------
    tasks : list of str
        Tasks with a noise ceiling.
    components : list of VarianceComponents
        Signal and noise of each of these tasks: of single trials, or volumes.
    repeats : list of dict of str to float
        Of each task, how many presentations are averaged (harmonic mean over stimuli) in the averages of ``test``
        stimuli, in those of ``all`` stimuli, and in a ``single`` sample.
    missing : dict of str to str
        Why the other tasks have none.
    voxels : int
        Number of voxels.
    """

    tasks: list[str]
    components: list[VarianceComponents]
    repeats: list[dict[str, float]]
    missing: dict[str, str]
    voxels: int

    @property
    def noise_ceiling(self) -> np.ndarray:
        """R2 of a perfect model for averages of test stimuli, (repeated_task, voxel), float32."""
        rows = zip(self.components, self.repeats, strict=True)
        return self._stacked([part.noise_ceiling(repeats["test"]) for part, repeats in rows])

    @property
    def ncsnr(self) -> np.ndarray:
        """Noise ceiling signal-to-noise ratio of single trials (Allen et al. 2022), (repeated_task, voxel), float32."""
        return self._stacked([part.ncsnr for part in self.components])

    def _stacked(self, rows: list[np.ndarray]) -> np.ndarray:
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.voxels)

    @property
    def test_repeats(self) -> list[float]:
        """Harmonic mean of the numbers of presentations of the test stimuli, for each task."""
        return [row["test"] for row in self.repeats]

    def write(self, writer: StoreWriter, name: str, stated: bool) -> None:
        """Write the ceilings of a subject: variances, which any ratio is computed from, and the most used ratios."""
        writer.put(f"{name}/repeated_task", ["repeated_task"], np.array(self.tasks))
        what = {
            "test_repeats": dict(zip(self.tasks, self.test_repeats, strict=True)),
            "source": "ncsnr stated by the data set" if stated else "repeats",
            "repeats": dict(zip(self.tasks, self.repeats, strict=True)),
            "components": {
                task: {
                    "repeats": float(part.repeats),
                    "freedom": [float(value) if np.isfinite(value) else None for value in part.freedom],
                }
                for task, part in zip(self.tasks, self.components, strict=True)
            },
            "missing": self.missing,
        }
        arrays = {
            "signal_variance": self._stacked([part.signal for part in self.components]),
            "noise_variance": self._stacked([part.noise for part in self.components]),
            "ncsnr": self.ncsnr,
            "noise_ceiling": self.noise_ceiling,
        }
        for key, values in arrays.items():
            attributes = what if key == "noise_ceiling" else None
            writer.put(f"{name}/{key}", ["repeated_task", "voxel"], values, attributes)
        writer.root[name].attrs["mean_ceilings"] = mean_ceilings(self.tasks, self.noise_ceiling)


def noise_ceilings(
    responses: Any,
    samples: pd.DataFrame,
    stated_ncsnr: np.ndarray | None = None,
    repetition_time: Mapping[str, float] | None = None,
    stated_of: Sequence[str] | None = None,
) -> NoiseCeilings:
    """Compute the noise ceiling of each voxel for each task with repeats.

    Trials are compared with those of the same stimulus, after the mean of each session is removed. Volumes of a time
    series are compared with the same volumes of runs that show the same sequence, after the mean of each run is
    removed. The ceilings are those of the test split if it has such repeats, and of all splits otherwise.

    Parameters
    ----------
    responses : Zarr array, shape (sample, voxel)
        Responses, read in blocks of 1,024 voxels: 123 MB for 30,000 samples.
    samples : DataFrame
        Sample table. If samples are means of trials, the column ``trials`` holds their number; their noise ceiling is
        known only if the data set provides the ncsnr.
    stated_ncsnr : array, shape (voxel,), optional
        Single-trial ncsnr provided with the data set; used instead of an estimate.
    repetition_time : mapping of str to float, optional
        Repetition time (s) of each task that is a time series.
    stated_of : sequence of str, optional
        The tasks that `stated_ncsnr` is about. By default, all.

    Returns
    -------
    NoiseCeilings

    References
    ----------
    Allen et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence.
    Nature Neuroscience 25, 116-126. For varying numbers of trials, see the NSD data manual.
    """
    series = repetition_time or {}
    stated = None if stated_ncsnr is None else np.asarray(stated_ncsnr, dtype=np.float64)
    compared: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for task in map(str, pd.unique(samples["task"])):
        rows = samples[samples["task"] == task]
        is_stated = stated is not None and (stated_of is None or task in stated_of)
        found: Any
        if task in series:
            found = _aligned_runs(rows, series[task])
        elif not is_stated:
            found = _repeated_trials(rows)
        else:
            known = TRIALS in samples or rows["stimulus"].duplicated().any()
            found = [] if known else "no stimulus is shown more than once"
        if isinstance(found, str):
            missing[task] = found
        else:
            compared[task] = None if is_stated else found
    parts: dict[str, list[VarianceComponents]] = {task: [] for task in compared}
    width = RESPONSE_CHUNKS[1]
    for start in range(0, responses.shape[1], width) if any(rows is not None for rows in compared.values()) else ():
        block = np.asarray(responses[:, start : start + width])
        for task, rows in compared.items():
            if rows is not None and task in series:
                parts[task].append(series_components(block[group] for group in rows))
            elif rows is not None:
                part = samples.iloc[rows]
                variance = RepeatVariance(part["stimulus"].to_numpy())
                variance.update(block[rows], part["stimulus"].to_numpy(), part["session"].to_numpy())
                parts[task].append(variance.components())
    repeats = [_averaged(samples[samples["task"] == task], series.get(task)) for task in compared]
    components = [
        VarianceComponents(stated**2, np.ones(len(stated)))
        if stated is not None and compared[task] is None
        else _joined(found)
        for task, found in parts.items()
    ]
    return NoiseCeilings(list(compared), components, repeats, missing, responses.shape[1])


def _joined(parts: Sequence[VarianceComponents]) -> VarianceComponents:
    """Return the components of all blocks of voxels; degrees of freedom are the harmonic mean of those of blocks."""
    signal, noise = (np.concatenate([getattr(part, name) for part in parts]) for name in ("signal", "noise"))
    sizes = [len(part.signal) for part in parts]
    between, within = (1 / np.average([1 / part.freedom[axis] for part in parts], weights=sizes) for axis in (0, 1))
    return VarianceComponents(signal, noise, parts[0].repeats, (float(between), float(within)))


def _repeated_trials(samples: pd.DataFrame) -> np.ndarray | str:
    """Return the positions (in the index) of the trials whose repeats are compared, or why there are none."""
    for part in (samples[samples["split"] == TEST], samples):
        again = part[part["stimulus"].duplicated(keep=False)]
        stimuli = again["stimulus"].nunique()
        if stimuli >= _FEWEST_TEST_STIMULI or part is samples:
            break
    if not stimuli:
        return "no stimulus is shown more than once"
    try:
        found = RepeatVariance().update(np.zeros((len(again), 1)), again["stimulus"], again["session"]).components()
    except InputError:
        return f"{stimuli} stimuli are shown more than once, too few for the number of sessions"
    if found.freedom[0] < _FEWEST_FREEDOM:
        return f"only {stimuli} stimuli are shown more than once"
    return again.index.to_numpy()


def _aligned_runs(samples: pd.DataFrame, seconds: float) -> list[np.ndarray] | str:
    """Return the positions of repeated volumes, arrays (repeat, volume), or why there are none."""
    groups = _same_sequences(samples, seconds)
    repeated = [rows for rows in groups if len(rows) > 1 and rows.shape[1] > 2]
    test = [rows for rows in repeated if samples["split"].loc[rows[0, 0]] == TEST]
    found = test or repeated
    if not found:
        again = samples["stimulus"].groupby([samples["session"], samples["run"]]).unique().explode().duplicated().any()
        return (
            "no run repeats the sequence of another, so no volume is shown twice"
            if again
            else "no stimulus is shown in more than one run"
        )
    return found


def _same_sequences(samples: pd.DataFrame, seconds: float) -> list[np.ndarray]:
    """Return the positions of the volumes of a time series, one array (repeat, volume) for each sequence.

    A sequence is what one run shows of one split, with the number of each volume. Runs that end a little early count as
    repeats of the longer ones as far as they go.
    """
    runs = []
    for _, part in samples.groupby(["session", "run", "split"], sort=False):
        volumes = volume_numbers(part, np.zeros(len(part), dtype=int), seconds)
        runs.append(((part["split"].iloc[0], *zip(part["stimulus"], volumes, strict=True)), part.index.to_numpy()))
    found: dict[tuple, list[np.ndarray]] = {}
    for shown, rows in sorted(runs, key=lambda run: -len(run[1])):
        longer = (key for key in found if key[: len(shown)] == shown and len(rows) >= _SHARE_OF_RUN * (len(key) - 1))
        found.setdefault(next(longer, shown), []).append(rows)
    # The last run of a group is the shortest.
    return [np.stack([rows[: len(group[-1])] for rows in group]) for group in found.values()]


def _averaged(samples: pd.DataFrame, seconds: float | None) -> dict[str, float]:
    """Return how many presentations averages and single samples of a task are the mean of, see NoiseCeilings."""
    trials = samples[TRIALS].astype(float) if TRIALS in samples else pd.Series(1.0, index=samples.index)
    test = samples["split"] == TEST
    found = {"single": 1 / (1 / (trials[test] if test.any() else trials)).mean()}
    for name, part in (("test", samples[test] if test.any() else samples), ("all", samples)):
        if seconds is None:
            stimuli = (1 / trials[part.index]).groupby(part["stimulus"], sort=False)
            found[name] = 1 / (stimuli.sum() / stimuli.size() ** 2).mean()
        else:
            sequences = _same_sequences(part, seconds)
            volumes = [rows.shape[1] for rows in sequences]
            found[name] = 1 / np.average([1 / len(rows) for rows in sequences], weights=volumes)
    return {name: float(value) for name, value in found.items()}


def mean_ceilings(tasks: Iterable[str], noise_ceiling: np.ndarray) -> dict[str, float | None]:
    """Return the mean noise ceiling over voxels of each task; None if it is unknown.

    Parameters
    ----------
    tasks : iterable of str
    noise_ceiling : array, shape (repeated_task, voxel)
    """
    means = [mean_ceiling(row) for row in noise_ceiling]
    return {task: round(mean, 4) if mean == mean else None for task, mean in zip(tasks, means, strict=True)}


def stored_ceiling(group: Any, row: int, samples: pd.DataFrame, of: Samples, *, built: bool = True) -> np.ndarray:
    """Return the noise ceiling of each voxel from a store.

    Stores of earlier versions have ratios only: that of averages of test stimuli is returned as it is stored, others
    are computed from the ncsnr.

    Parameters
    ----------
    group : zarr.Group
        The group of a subject.
    row : int
        Which of its tasks with noise ceilings.
    samples : DataFrame
        The samples of this task.
    of : {"test", "all", "single"}
        Which samples it belongs to.
    built : bool
        The samples have the splits that the store was built with. With others, only the numbers of repeats that are
        averaged are those of these splits: the variances are what the build compared.

    Returns
    -------
    array, shape (voxel,), float32
    """
    task = group["repeated_task"][:].astype(object).astype(str).tolist()[row]
    facts = group["noise_ceiling"].attrs
    if of == "test" and built:
        return group["noise_ceiling"][row]
    if "components" in facts:
        freedom = [np.inf if value is None else value for value in facts["components"][task]["freedom"]]
        parts = VarianceComponents(
            group["signal_variance"][row].astype(float),
            group["noise_variance"][row].astype(float),
            facts["components"][task]["repeats"],
            (freedom[0], freedom[1]),
        )
        repeats = facts["repeats"][task] if built else _averaged(samples, group.attrs["repetition_time"].get(task))
        return parts.noise_ceiling(repeats[of]).astype(np.float32)
    ncsnr = group["ncsnr"][row].astype(float)
    repeats = _averaged(samples, group.attrs["repetition_time"].get(task))
    return VarianceComponents(ncsnr**2, np.ones(len(ncsnr))).noise_ceiling(repeats[of]).astype(np.float32)


def about_ceilings(group: Any, split_column: str | None = None) -> dict[str, str]:
    """Return, for each task of a subject, what its noise ceilings come from, or why it has none.

    Parameters
    ----------
    group : zarr.Group
        The group of a subject.
    split_column : str, optional
        The split column whose test stimuli they are stated for.
    """
    facts = group["noise_ceiling"].attrs
    source = str(facts.get("source", "repeats"))
    if "components" not in facts and source == "repeats":
        source = "repeats, as stored by an earlier version; build the store again for ceilings without bias"
    if split_column is not None:
        source += (
            f", variances as estimated for the built-in split, repeats as in {split_column}: too high where the test "
            "stimuli of that column differ less from each other"
        )
    known = dict.fromkeys(group["repeated_task"][:].astype(object).astype(str).tolist(), source)
    return known | {task: f"none: {reason}" for task, reason in facts.get("missing", {}).items()}
