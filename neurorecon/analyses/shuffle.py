"""Which decoded target carries which score: the shuffle test of any system.

One target at a time is exchanged between stimuli, while all others stay, and images are generated again. What a score
loses is what that target carried; a score that loses nothing comes from the other targets, or from the generator. The
noise of generation belongs to the stimulus and stays, so images differ in nothing but the exchanged target.

Of videos, the order of frames is tested, too: the frames of each reconstructed clip are shuffled, each clip by itself,
and compared with what was seen again. What a score loses is what the order of frames carried. If it loses as much
without the target that motion is decoded as, the motion came from the generator (Lu et al., 2024, arXiv 2405.03280,
section 4.3, whose test has one order for all clips).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses.audit import default_metrics
from neurorecon.analyses.controls import derangement
from neurorecon.analyses.cross_validation import shown_by
from neurorecon.analyses.design import ReconstructSettings
from neurorecon.analyses.evaluate import context_of
from neurorecon.analyses.reconstruct import FRAME_RATE, Job, prepare, some_stimuli, system_of, write_side_by_side
from neurorecon.analyses.results import Result, Score, plain_parameter
from neurorecon.decoders.samples import stored_target
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.metrics.base import Metric, mean_of_defined, summarize
from neurorecon.metrics.image import resized
from neurorecon.parallel import Compute
from neurorecon.provenance import weights_label
from neurorecon.stats import bootstrap_means, permutation_p, stimulus_permutations
from neurorecon.stats.bootstrap import interval_of
from neurorecon.store.store import Store
from neurorecon.systems.base import System
from neurorecon.systems.decoded import Decoded
from neurorecon.systems.generation import generate_parts, networks_of

#: All targets of a stimulus exchanged together; the order of frames.
ALL, FRAMES = "all targets", "frames"

#: Videos that are kept, to be looked at.
KEPT = 8


@dataclass(frozen=True, kw_only=True)
class ShuffleSettings(ReconstructSettings):
    """Settings of a shuffle test; those of :class:`ReconstructSettings` say what is reconstructed.

    Parameters
    ----------
    targets : tuple of str, optional
        Which targets are exchanged, each by itself; by default each of the system, all together, and of videos also
        ``"frames"``: the order of frames.
    without : tuple of str
        The order of frames is tested again for videos that are generated without each of these targets.
    n_permutations : int
        Random permutations of each target, and as many images of each stimulus.
    n_derangements : int
        Permutations that leave no stimulus in its place, as control rows without p.
    n_bootstraps, level
        Of the intervals over stimuli.
    """

    targets: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    n_permutations: int = 20
    n_derangements: int = 1
    n_bootstraps: int = 10_000
    level: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_count("n_bootstraps")
        self._require_rate("level")
        self._require("n_derangements", self.n_derangements >= 0, "a number of 0 or more", "1")


def shuffle(
    store: Store,
    system: str | System = "brain-diffuser",
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    targets: Sequence[str] | None = None,
    without: Sequence[str] = (),
    task: str | None = None,
    metrics: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    models: str | None = None,
    n_permutations: int = 20,
    n_derangements: int = 1,
    n_stimuli: int | None = None,
    n_bootstraps: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    device: str = "cpu",
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> Shuffle:
    """Exchange one decoded target at a time between stimuli, and generate again.

    Parameters
    ----------
    store : Store
    system : str or System
        As for :func:`neurorecon.reconstruct`.
    subject, roi, task, metrics, options, models, device
        As for :func:`neurorecon.reconstruct`.
    targets : sequence of str, optional
        Which targets; by default each of the system, and all of them together (``"all targets"``). ``"frames"``, also
        by default, shuffles the frames of each reconstructed video.
    without : sequence of str
        Shuffle frames also of videos that are generated without each of these targets, e.g. ``["motion"]``.
    n_permutations : int
        Random permutations of each target; the identity is allowed as a draw. p is at least 1 / (1 + n_permutations).
    n_derangements : int
        Control rows: permutations that leave no stimulus in its place.
    n_stimuli : int, optional
        Use at most this many test stimuli, spread evenly over categories.
    n_bootstraps, level
        Of the intervals over stimuli.
    seed : int
        Of the noise of generation and of permutations.
    compute : Compute
        Who computes. In its folder images are kept as soon as they are there, and the same call resumes.

    Returns
    -------
    Shuffle
    """
    given = system if isinstance(system, System) else None
    settings = ShuffleSettings(
        system=str(system) if given is None else given.name, options=dict(options or {}), roi=roi, task=task,
        metrics=metrics, models=models, n_permutations=n_permutations, n_derangements=n_derangements, seed=seed,
        targets=None if targets is None else tuple(targets), without=tuple(without), n_stimuli=n_stimuli,
        n_bootstraps=n_bootstraps, level=level, device=device,
    )  # fmt: skip
    return compute_shuffle(store, store.subjects[0] if subject is None else subject, settings, compute, system=given)


def compute_shuffle(
    store: Store,
    subject: str,
    settings: ShuffleSettings,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    *,
    system: System | None = None,
) -> Shuffle:
    """Do what :func:`shuffle` does, from its settings."""
    system = system_of(settings) if system is None else system
    if settings.metrics is None and system.kinds[0] == "image":
        settings = replace(settings, metrics=tuple(default_metrics(store, settings.asked_models)))
    job = prepare(store, subject, settings, compute, system)
    names = list(job.system.targets)
    of_videos = job.system.kinds[0] == "video"
    others = [*([ALL] if len(names) > 1 else []), *([FRAMES] if of_videos else [])]
    wanted = settings.targets or (*names, *others)
    for asked, known in ((wanted, [*names, ALL, *others]), (settings.without if of_videos else (), names)):
        for name in asked:
            if name not in known:
                raise UnknownNameError(f"target of the system {job.system.name!r}", name, known)
    if settings.without and not of_videos:
        raise InputError(
            "only videos have frames whose order can be tested without a target",
            given=f"without {', '.join(settings.without)}, the system {job.system.name!r}",
            expected="a system of videos",
            todo="leave it out; to reconstruct images without a target, set the parameter of the system",
        )
    shown, train = shown_by(job.system), job.training()
    test = job.read(split="test")
    test = test.take(some_stimuli(job.store, test.stimuli, settings.n_stimuli))
    ids = test.stimuli.tolist()
    if len(ids) < 2:
        raise InputError(
            "targets are exchanged between stimuli", given=f"{len(ids)} test stimuli", expected="two or more",
            todo="choose a task with more test stimuli",
        )  # fmt: skip
    decoded = job.decode(test.labeled_responses().astype(np.float64), train)
    seen = np.asarray(stored_target(job.store, shown, ids).values, dtype=np.float32)
    context = context_of(job.store, ids)
    videos = {FRAMES: _generated(job, decoded, seen, "own targets")}
    own = _scored(job, seen, videos[FRAMES], context)
    kept_videos = {"seen": seen[:KEPT], "reconstructed": videos[FRAMES][:KEPT]} if of_videos else {}
    metrics = {name: metric for name, metric in job.metrics.items() if own[name].ndim}
    orders = stimulus_permutations(len(ids), settings.n_permutations, settings.seed)
    apart = [derangement(len(ids), settings.seed + 1 + number) for number in range(settings.n_derangements)]
    exchanged: dict[str, dict[str, np.ndarray]] = {}
    deranged: dict[str, dict[str, np.ndarray]] = {}
    owns = dict.fromkeys(wanted, own)
    for name in settings.without:
        label = f"{FRAMES} without {name}"
        videos[label] = _generated(job, decoded.drop(name), seen, f"without {name}")
        owns[label] = _scored(job, seen, videos[label], context)
        kept_videos[f"without {name}"] = videos[label][:KEPT]
    for label in [name for name in owns if name in videos]:
        shuffled = [
            _scored(job, seen, frames_shuffled(videos[label], settings.seed + number), context)
            for number in range(1, settings.n_permutations + 1)
        ]
        exchanged[label] = {metric: np.stack([values[metric] for values in shuffled]) for metric in metrics}
    for name in [name for name in wanted if name != FRAMES]:
        several = [name] if name != ALL else names
        for kept, draws, what in ((exchanged, orders, "permutation"), (deranged, apart, "derangement")):
            found = [
                _scored(
                    job,
                    seen,
                    _generated(job, _exchanged(decoded, several, order), seen, f"{name}: {what} {number}"),
                    context,
                )
                for number, order in enumerate(draws, 1)
            ]
            if found:
                kept[name] = {metric: np.stack([values[metric] for values in found]) for metric in metrics}
    exchanged = {name: exchanged[name] for name in owns}
    table, null, scores = _table(owns, exchanged, deranged, metrics, settings)
    return Shuffle(
        subject=subject,
        task=job.task,
        settings=settings,
        system=job.system.name,
        chosen={
            "system": job.system.name,
            "options": {name: plain_parameter(value) for name, value in job.system.get_params(deep=False).items()},
            "sources": job.system.sources,
            "learned_elsewhere": job.system.elsewhere_,
            "networks": networks_of(job.system),
            "metrics": list(metrics),
            "metric_weights": {name: m.network.record() for name, m in metrics.items() if m.network is not None},
            "roi": job.roi,
            "voxels": len(job.store.voxels(subject, job.roi)),
            "stimuli": len(ids),
            "n_permutations": len(orders),
            "warnings": list(job.centering.warnings),
        },
        scores=scores,
        null=null,
        table=table,
        stimuli=pd.DataFrame(
            {"stimulus": ids, **{metric: own[metric] for metric in metrics}}
            | {
                f"{metric} without {name}": mean_of_defined(values[metric])
                for name, values in exchanged.items()
                for metric in metrics
            }
        ),
        videos=kept_videos,
    )


def _exchanged(decoded: Decoded, names: Sequence[str], order: np.ndarray) -> Decoded:
    for name in names:
        decoded = decoded.permute(name, order)
    return decoded


def frames_shuffled(videos: np.ndarray, seed: int) -> np.ndarray:
    """Return videos with their frames in random order, drawn for each video; the true order may be drawn, too.

    Parameters
    ----------
    videos : array, shape (stimulus, frame, ...)
    seed : int
    """
    random = np.random.default_rng([seed, 0xF2A3])
    orders = random.permuted(np.tile(np.arange(videos.shape[1]), (len(videos), 1)), axis=1)
    return videos[np.arange(len(videos))[:, None], orders]


def _generated(job: Job, decoded: Decoded, seen: np.ndarray, label: str) -> np.ndarray:
    """Generate images or videos, (stimulus, [frame,] y, x, rgb), in the size of those that were seen."""
    made = generate_parts(job.system, decoded, (job.settings.seed,), job.compute, label=label)[:, 0]
    return resized(made, seen.shape[-3:-1])


def _scored(job: Job, seen: np.ndarray, made: np.ndarray, context: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the values of each metric, (stimulus,)."""
    return {name: metric.values(seen, made, context) for name, metric in job.metrics.items()}


def _table(
    owns: Mapping[str, Mapping[str, np.ndarray]],
    exchanged: Mapping[str, Mapping[str, np.ndarray]],
    deranged: Mapping[str, Mapping[str, np.ndarray]],
    metrics: Mapping[str, Metric],
    settings: ShuffleSettings,
) -> tuple[pd.DataFrame, dict[str, np.ndarray], list[Score]]:
    """Return one row for each target and metric, the nulls, and the scores beside them; `owns` are values by row."""
    rows, null, scores = [], {}, []
    for name, values in exchanged.items():
        own = owns[name]
        for metric_name, metric in metrics.items():
            sign = 1.0 if metric.higher_is_better else -1.0
            drawn = np.array([summarize(one).mean for one in values[metric_name]])
            value = summarize(own[metric_name]).mean
            p = float(permutation_p(sign * value, sign * drawn))
            drop = own[metric_name] - mean_of_defined(values[metric_name])
            means = bootstrap_means(drop[:, None], n_bootstraps=settings.n_bootstraps, seed=settings.seed)
            interval = interval_of(means[1:], means[0], settings.level)
            apart = deranged.get(name, {}).get(metric_name)
            rows.append({
                "target": name, "metric": metric_name, "value": value, "exchanged": drawn.mean(),
                "drop": means[0, 0], "low": interval.low[0], "high": interval.high[0], "p": p,
                "deranged": np.nan if apart is None else np.mean([summarize(one).mean for one in apart]),
                "n": int((~np.isnan(drop)).sum()),
            })  # fmt: skip
            null[f"{name} {metric_name}"] = drawn
            scores.append(
                Score(
                    name=f"{name} {metric_name}", value=value, n=rows[-1]["n"], null_mean=float(drawn.mean()),
                    null_max=float(drawn.max()), p=p, n_permutations=len(drawn),
                    extra={key: float(rows[-1][key]) for key in ("drop", "low", "high", "deranged")},
                )
            )  # fmt: skip
    return pd.DataFrame(rows), null, scores


@dataclass(frozen=True, kw_only=True)
class Shuffle(Result):
    """What each score loses if one target is exchanged between stimuli.

    Parameters
    ----------
    system : str
        Its name.
    table : DataFrame
        One row per target and metric: ``value`` with the own targets, ``exchanged`` (mean over permutations), ``drop``
        with its interval over stimuli, ``p`` (one-sided, against the permutations), and ``deranged``, the mean if no
        stimulus keeps its target.
    stimuli : DataFrame
        The values of each stimulus: own, and means over permutations.
    videos : dict of str to array, shape (stimulus, frame, y, x, rgb)
        Of a system of videos, the first :data:`KEPT` clips: as seen, reconstructed, and without each target.
    """

    kind: str = "shuffle"
    settings: ShuffleSettings
    system: str
    table: pd.DataFrame
    stimuli: pd.DataFrame
    videos: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"{self.subject}_{self.system}_shuffle"

    def made_by(self, store: Store) -> dict[str, dict[str, Any]]:
        """Return what made the targets, and the networks that generate and that judge."""
        names = [name for name in self.chosen["sources"] if name in store.targets_available]
        return {
            **{name: store.about_target(name)[1] for name in names},
            **{f"network {role}": made for role, made in self.chosen["networks"].items()},
            **self.chosen["metric_weights"],
        }

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return one row for each target and metric, and the values of each stimulus."""
        return {"targets": self.table.rename(columns={"target": "exchanged target"}), "stimuli": self.stimuli}

    def latex(self) -> dict[str, str]:
        """Return the drops as LaTeX (booktabs), one column for each metric."""
        cells = self.table.assign(
            cell=[f"{row.drop:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in self.table.itertuples()]
        )
        wide = cells.pivot(index="target", columns="metric", values="cell")
        return {"targets": wide.loc[list(dict.fromkeys(self.table["target"]))].to_latex(escape=True)}

    def folders(self, store: Store) -> dict[str, Callable[[Path], None]]:
        """Return what writes the videos that were kept, side by side."""
        if not self.videos:
            return {}
        names = self.stimuli["stimulus"].tolist()[:KEPT]
        rate = store.frames_per_second or FRAME_RATE
        return {"videos": functools.partial(write_side_by_side, names, self.videos, rate, store.simulated)}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws the figure: what each metric loses without each target."""
        return {"drops": functools.partial(self._drops, store)}

    def _drops(self, store: Store) -> Any:
        from neurorecon.figures import score_rows

        return score_rows(
            self.table.rename(columns={"drop": "mean", "target": "row"}),
            observed=ALL,
            title=f"What is lost if one target is exchanged · {self.system} · {self.subject} · {store.label}",
            note=f"Score with the own targets minus the mean over {self.chosen['n_permutations']} random exchanges of "
            f"one target between {self.chosen['stimuli']} stimuli, with {self.settings.level:.0%} intervals over "
            "stimuli.",
            simulated=store.simulated,
        )

    def text(self, store: Store) -> str:
        """Return the table for a terminal."""
        label = "SIMULATED responses" if store.simulated else "measured responses"
        lines = [
            f"\nshuffle test of {self.system} · {self.subject} · {store.label} ({label}) · {self.task}",
            f"{self.chosen['stimuli']} stimuli; each target is exchanged by {self.chosen['n_permutations']} random "
            f"permutations, p is at least {1 / (1 + self.chosen['n_permutations']):.2g}",
            f"  {'exchanged':<18}{'metric':<20}{'value':>8}{'exchanged':>11}{'drop':>8}  {'interval':<18}{'p':>6}"
            f"{'deranged':>10}",
        ]
        for row in self.table.to_dict("records"):
            lines.append(
                f"  {row['target']:<18}{row['metric']:<20}{row['value']:>8.3f}{row['exchanged']:>11.3f}"
                f"{row['drop']:>+8.3f}  [{row['low']:+.3f}, {row['high']:+.3f}]  {row['p']:>6.3f}"
                f"{row['deranged']:>10.3f}"
            )
        lines += [f"{name}: {weights_label(made)}" for name, made in self.chosen["metric_weights"].items()]
        lines += [f"warning: {text}" for text in self.chosen["warnings"]]
        return "\n".join(lines)
