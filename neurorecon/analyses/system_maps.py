"""Maps of the decoders of a system: weights, Haufe patterns, and what the score loses without a voxel or an ROI.

Questions that are often taken for one:

- **weights**: how does the decoder read a voxel? The mean absolute weight over features, in standard deviations of a
  feature per standard deviation of the voxel. A voxel without information gets weights, too, where it serves to cancel
  the noise of others.
- **gradient**: the same for networks: the mean absolute derivative of features by the response of the voxel, over
  features and test stimuli, in the same units. Of a ridge decoder, it is the weight. Intervals of networks are
  bootstrapped over test stimuli; networks are not fitted again, so they have no p.
- **product**: what Mind-Animator's code draws (Lu et al., 2024, arXiv 2405.03280): the absolute value of the mean over
  features of the product of the weights of a network's linear layers, without what lies between them; weights of
  different signs cancel. Of a ridge decoder, it is the absolute mean weight. It has neither p nor intervals.
- **haufe**: how does a voxel vary with what is decoded? The mean absolute pattern, cov(x, y') / sd(y') for each decoded
  feature y' by itself (Haufe et al. 2014, eq. 8, where the decoded variable is a single one): of a standardized voxel,
  its correlation with y'. With more features than samples, cov(Y') has no inverse. It needs only responses and
  predictions, so networks have it.
- **importance**: what does decoding lose without a voxel? The score on held-out stimuli (mean correlation over features
  of decoded and true values) less the score with the responses of a voxel, or of all voxels of an ROI, replaced by
  their training mean. The decoder is not fitted again.

Ridge decoders are read in their dual form, X = U S V', W = V S (S^2 + alpha)^-1 U' Y, in blocks of features: the weight
matrix (voxel, feature) is never held. Null and intervals come from a sample of features, equally many of each part of a
target, and refits from the one factorization: with stimuli re-paired for p, without groups of stimuli for intervals.
Bootstrap samples would hold stimuli twice, which a ridge regression fits twice as hard, so intervals of weights and
patterns come from the jackknife, and those of importance from the bootstrap over test stimuli.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import clone

from neurorecon.analyses import design
from neurorecon.analyses.decoding import choose_units, orders_of
from neurorecon.analyses.design import CenteredSettings, ReconstructSettings
from neurorecon.analyses.maps import UNITS_IN_WORDS, WIDTH, VoxelwiseMap
from neurorecon.analyses.reconstruct import system_of
from neurorecon.analyses.results import Score, exchange_record, plain_parameter
from neurorecon.decoders.ridge import FittedRidge
from neurorecon.decoders.ridge_maps import DualRidge, Sample, correlations, parts_of, ridge_map, varies, voxel_drops
from neurorecon.decoders.samples import Recordings, choose_shown_task
from neurorecon.decoders.targets import TargetPart, Targets
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.parallel import Compute
from neurorecon.stats import PermutationCounter, bootstrap_weights, false_discovery_rate, permutation_p
from neurorecon.stats.exchange import UNITS
from neurorecon.store.responses import choose_centering
from neurorecon.store.store import Store
from neurorecon.systems.base import System

Kind = Literal["weights", "gradient", "product", "haufe", "importance"]
KINDS: tuple[Kind, ...] = ("weights", "gradient", "product", "haufe", "importance")

#: Groups of training stimuli that are left out in turn.
GROUPS = 20

#: Bootstrap samples of test stimuli.
BOOTSTRAPS = 1000

_LABELS = {
    "weights": "|weight|",
    "gradient": "|gradient|",
    "product": "|mean weight|",
    "haufe": "|pattern|",
    "importance": "drop of score",
}

_WHAT = {
    "weights": "mean absolute weight of a voxel over the features, SD of the feature per SD of the voxel",
    "gradient": "mean absolute gradient of the features by a voxel, SD of the feature per SD of the voxel",
    "product": "absolute mean over the features of the product of a network's weights, without units",
    "haufe": "mean absolute Haufe pattern over the features, cov(x, y') / sd(y') of each",
    "importance": "drop of the score (mean correlation of decoded and true features) without the voxels",
}


@dataclass(frozen=True, kw_only=True)
class SystemSettings(CenteredSettings):
    """Settings of analyses of one fitted system; `center` and `scale` as for :class:`CenteredSettings`.

    Parameters
    ----------
    system : str
        A registered name, or the folder of a saved system.
    options : mapping
        Parameters of the system.
    models : {"bundled", "published"} or path, optional
        Networks of the system; by default its own.
    fdr, confidence : float
        False discovery rate, and level of the intervals.
    """

    system: str = "linear-pixels"
    options: Mapping[str, Any] = field(default_factory=dict)
    models: str | None = None
    fdr: float = 0.05
    confidence: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_rate("fdr")
        self._require_rate("confidence")


@dataclass(frozen=True, kw_only=True)
class SystemMapSettings(SystemSettings):
    """Settings of maps of a system; the others as for :class:`SystemSettings`.

    Parameters
    ----------
    kind : {"weights", "gradient", "product", "haufe", "importance"}
        What is mapped.
    features : int
        Size of the sample of features of each target from which null, intervals and importance are computed; at least
        four of each part are in it.
    exchange : {"stimulus", "session", "run", "shift"}, optional
        What trades places in the null; by default what the design allows.
    """

    kind: Kind = "weights"
    features: int = 64
    exchange: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in KINDS:
            raise UnknownNameError("kind of map of a system:", self.kind, KINDS)
        self._require_count("features")
        if self.exchange is not None and self.exchange not in UNITS:
            raise UnknownNameError("unit of exchange", self.exchange, UNITS)


@dataclass(frozen=True, kw_only=True)
class SystemMap(VoxelwiseMap):
    """Maps of the decoders of one system and subject.

    Parameters
    ----------
    kind : {"weights", "gradient", "product", "haufe", "importance"}
        What is mapped.
    bands : list of str
        The targets that are decoded.
    table : DataFrame
        One row per voxel; for each target ``<kind>_<target>``, and where voxels are tested ``p_<target>``,
        ``q_<target>`` (over voxels) and ``significant_<target>``. NaN in voxels that the decoder does not read.
        Importance of single voxels is that of ridge decoders alone.
    rois : DataFrame
        One row per ROI and target: ``value`` with its interval, ``null`` (mean), ``p``, ``q`` (over the ROIs),
        ``n`` (voxels that are read), ``significant`` (of these).
    parts : DataFrame
        The same for each part of a target: layers, groups, tokens, channels.
    part_maps : dict of str to array, shape (part, voxel)
        The map of each part; the names of the parts are in the table.
    system : str
        Its name.
    store : Store, optional
        What was mapped: a later snapshot than the store that was given, if targets had to be computed.
    """

    system: str
    parts: pd.DataFrame
    part_maps: Mapping[str, np.ndarray]
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"{self.subject}_{self.system}_{self.kind}"

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The maps as arrays of shape (voxel,), by column name."""
        wanted = [name for name in self.table if name.startswith((f"{self.kind}_", "p_", "q_"))]
        return {name: self.table[name].to_numpy(dtype=float) for name in wanted}

    def source(self, store: Store) -> Store:
        """Return the store that the result was made from."""
        return store if self.store is None else self.store

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables of voxels, of ROIs, and of the parts of targets."""
        return {**super().tables(), **({"parts": self.parts} if len(self.parts) else {})}

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """Return the maps of parts, (part, voxel), by target."""
        return {"parts": dict(self.part_maps)} if self.part_maps else {}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws each figure: bars of ROIs, and the cortex, flat map or slices."""
        figures = super().figures(store)
        if "rois" in figures:
            figures["rois"] = partial(self._bars, store)
        return figures

    def _bars(self, store: Store) -> Any:
        from neurorecon.figures.scores import band_bars

        assert isinstance(self.settings, SystemMapSettings)
        what = "All voxels of the ROI replaced at once." if self.kind == "importance" else "Mean over voxels."
        how = "bootstrap intervals over test" if self.kind == "importance" else "jackknife intervals over training"
        table = self.rois.assign(star=(self.rois["q"] <= self.settings.fdr).astype(float))
        columns = ["roi", "band", "value", "low", "high", "star", "n"]
        return band_bars(
            table[columns].dropna(subset=["value"]).dropna(axis=1, how="all"),
            label=_LABELS[self.kind],
            bands=[band for band in self.bands if band in set(table["band"])],
            quantity=self.kind,
            title=f"{self.system}: {self.kind} by ROI · {self.subject} · {store.name}, {self.task}",
            note=f"{what} Whiskers: {100 * self.settings.confidence:g}% {how} stimuli. *: q (FDR over ROIs) at most "
            f"{self.settings.fdr:g}.",
            simulated=store.simulated,
        )

    def text(self, store: Store) -> str:
        """Return the table of ROIs as text."""
        label = "SIMULATED responses" if store.simulated else "measured responses"
        chosen = self.chosen
        lines = [
            "",
            f"{self.subject} · {store.name} ({label}) · {self.task}: {chosen['train_samples']} training samples, "
            f"{chosen['test_stimuli']} test stimuli, {chosen['voxels']:,} voxels",
            *textwrap.wrap(f"{self.system}, {self.kind}: {_WHAT[self.kind]}", WIDTH, subsequent_indent="  "),
            *(f"  {score.name}: {score.value:.3f} (null mean {score.null_mean:.3f}, p = {score.p:.3f})"
              for score in self.scores),
            f"{'ROI':<8}{'target':<16}{'voxels':>7}{'value':>10}{'interval':>21}{'null':>10}{'p':>8}{'q':>8}{'signif.':>8}",
        ]  # fmt: skip
        for row in self.rois.itertuples():
            interval = f"[{row.low:.4f}, {row.high:.4f}]"
            lines.append(
                f"{row.roi:<8}{row.band:<16}{row.n:>7}{row.value:>10.4f}{interval:>21}{row.null:>10.4f}{row.p:>8.3f}"
                f"{row.q:>8.3f}{row.significant:>8}"
            )
        exchange = chosen["exchange"]
        lines += textwrap.wrap(
            f"null: {UNITS_IN_WORDS[exchange['unit']]} trade places, {exchange['permutations']} times "
            f"({exchange['reason']}); p is at least {exchange['smallest_p']:.2g}", WIDTH, subsequent_indent="  ",
        )  # fmt: skip
        return "\n".join([*lines, *(f"warning: {text}" for text in chosen["warnings"])])


def system_maps(
    store: Store,
    system: str | System,
    subject: str | None = None,
    roi: Any = None,
    *,
    kind: Kind = "weights",
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    **options: Any,
) -> SystemMap:
    """Map how the decoders of a system read the brain of a subject.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`.
    system : str or System
        A registered name, the folder of a saved system, or a system. A fitted system is not fitted again.
    subject : str, optional
        By default the first.
    roi : str or list of str, optional
        As in :meth:`Store.responses`; by default all voxels, or those of a fitted system.
    kind : {"weights", "gradient", "product", "haufe", "importance"}
        What is mapped; see :mod:`neurorecon.analyses.system_maps`.
    compute : Compute
        Who computes; only its threads and progress are used.
    **options
        Of :class:`SystemMapSettings`.

    Returns
    -------
    SystemMap
    """
    given = system if isinstance(system, System) else None
    name = system.name if isinstance(system, System) else system
    settings = SystemMapSettings(system=name, kind=kind, roi=roi, **options)
    return compute_system_map(store, store.subjects[0] if subject is None else subject, settings, compute, given)


def compute_system_map(
    store: Store,
    subject: str,
    settings: SystemMapSettings,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    system: System | None = None,
) -> SystemMap:
    """Do what :func:`system_maps` does, from its settings.

    Parameters
    ----------
    store, subject, settings, compute
        Open store; whose brain; what to map; who computes.
    system : System, optional
        In place of the one that the settings name.
    """
    with tempfile.TemporaryDirectory(prefix="neurorecon-") as scratch, compute.limited():
        fitted = fit_system(store, subject, settings, compute, system, scratch)
        return _Mapper(**vars(fitted)).result()


@dataclass(frozen=True)
class FittedSystem:
    """A fitted system, and the samples that it was fitted to and is scored on.

    Parameters
    ----------
    store : Store
        With the targets of the system.
    subject, task : str
    system : System
    settings : SystemSettings
        With the ROI and the task of a system that was fitted before.
    train, test : Recordings
    warnings : list of str
        Of the design.
    """

    store: Store
    subject: str
    task: str
    system: System
    settings: Any
    train: Recordings
    test: Recordings
    warnings: list[str]


def fit_system(
    store: Store, subject: str, settings: SystemSettings, compute: Compute, system: System | None, scratch: str
) -> FittedSystem:
    """Fit a system to the training split of a subject, or check the one that was fitted before.

    Parameters
    ----------
    store, subject, settings, compute, system
        As for :func:`compute_system_map`.
    scratch : path
        Folder for the coordinates of ridge decoders; the system needs it as long as it decodes.
    """
    if system is None:
        system = system_of(ReconstructSettings(
            system=settings.system, options=settings.options, models=settings.models, device=settings.device
        ))  # fmt: skip
        if settings.models is not None and "models" not in system.get_params():
            raise UnknownNameError(f"parameter of the system {system.name!r}:", "models", list(system.get_params()))
    fitted = hasattr(system, "decoders_")
    if fitted:
        about = system.provenance_
        asked = [about[name] if about[name] != "no" else None for name in ("centered", "scaled")]
        settings = replace(settings, roi=settings.roi or about["roi"], task=settings.task or about["task"])
    else:
        system, asked = clone(system), [settings.center, settings.scale]
    store.voxels(subject, settings.rois)  # wrong names show before targets are computed
    store = system.with_targets(store, settings.models, compute.progress)
    sources = system.sources
    task = choose_shown_task(store, subject, sources, settings.task)
    design.require_test(store, subject, task)
    centering = choose_centering(store, subject, task, *asked)
    read = partial(
        Recordings.read, store, subject, settings.rois, task=task, center=centering.center, scale=centering.scale
    )
    samples = store.samples(subject)
    rows = np.flatnonzero((samples["task"] == task) & (samples["split"] == "train"))
    train = read(split="train") if system.trains_on == "stimuli" else read(rows=rows)
    test = read(split="test")
    if not fitted:
        system.fit(store, subject, samples=train, coordinates=scratch)
    elif len(system.mean_) != train.responses.shape[1] or not np.allclose(
        system.mean_, train.responses.mean(axis=0, dtype=np.float64), rtol=1e-3, atol=1e-6
    ):
        raise InputError(
            "this system was fitted to other samples",
            given=f"a fit to {about['samples']} samples of {about['subject']}, ROI {about['roi']}",
            expected=f"the training split of {subject}, task {task!r}",
            todo="name the system, and it is fitted here; or ask for the subject, ROI and task of the fit",
        )
    return FittedSystem(store, subject, task, system, settings, train, test, list(centering.warnings))


@dataclass(frozen=True)
class _Mapped:
    """What was found of one target; maps are of shape (1 + part, voxel), and tables of ROIs (roi, 1 + part)."""

    value: np.ndarray | None
    p: np.ndarray | None
    rois: np.ndarray
    low: np.ndarray
    high: np.ndarray
    null: np.ndarray
    p_rois: np.ndarray


@dataclass(frozen=True)
class _Mapper(FittedSystem):
    """Maps the decoders of a fitted system."""

    def result(self) -> SystemMap:
        """Map all targets."""
        said = self.warnings
        store, system, settings = self.store, self.system, self.settings
        kind, specs = settings.kind, dict(system.targets)
        networks = [name for name, decoder in system.decoders_.items() if not isinstance(decoder, FittedRidge)]
        if networks and kind == "weights":
            raise InputError(
                "these decoders have no weights to map: one weight for each voxel and feature",
                given=", ".join(f"{name}: {type(system.decoders_[name]).__name__}" for name in networks),
                expected="ridge decoders",
                todo="map their gradients, patterns, or losses without an ROI: --kind gradient, haufe or importance",
            )
        whole = [name for name in networks if not hasattr(system.decoders_[name], "weight_product")]
        if whole and kind == "product":
            raise InputError(
                "networks of this kind have no product of weights",
                given=", ".join(f"{name}: {type(system.decoders_[name]).__name__}" for name in whole),
                expected="perceptrons, and the decoders of mind-animator",
                todo="map their gradients: --kind gradient",
            )
        if networks and kind != "product":
            left = {"haufe": "patterns have", "gradient": "gradients have"}.get(
                kind, "there are no maps of single voxels, which have"
            )
            said = [*said, f"{', '.join(networks)}: networks are not fitted again, so {left} no p"]
        table = store.voxels(self.subject, settings.rois)
        rois = {name: mask for name, mask in design.covered_rois(store, self.subject, table).items() if mask.any()}
        sources = [spec.source for spec in specs.values()]
        units = choose_units(
            store, self.subject, self.task, [name for name in sources if name in store.targets_available],
            (self.train.table, self.test.table), settings.exchange,
        )  # fmt: skip
        exchange = units[1] if kind == "importance" else units[0]
        orders = [
            self._orders(part.table, unit.unit) for part, unit in zip((self.train, self.test), units, strict=True)
        ]
        targets: dict[str, tuple[dict[str, slice], np.ndarray, Sample]] = {}
        for name, spec in specs.items():
            features = int(np.prod(spec.part(self.train.target(spec.source)).shape[1:]))
            deviation = system.training_[name][1].ravel()[:features]
            parts = {
                part: columns
                for part, columns in parts_of(system.targets_[name], features).items()
                if kind != "product" and varies(deviation)[columns].any()
            }
            sample = Sample.draw(varies(deviation), parts, settings.features, settings.seed)
            targets[name] = parts, deviation, sample
        # Of whatever is decoded, the sample is kept.
        decoded = self._decode(self.test.labeled_responses(), targets)
        replaced = {}
        if kind == "importance":
            for roi, mask in rois.items():
                responses = self.test.labeled_responses().astype(np.float64)
                responses[:, mask] = system.mean_[mask]
                replaced[roi] = self._decode(responses, targets)
        found, scores = table.copy(), []
        lines: tuple[list[dict[str, Any]], list[dict[str, Any]]] = [], []  # of whole targets, and of their parts
        nulls: dict[str, np.ndarray] = {}
        part_maps: dict[str, np.ndarray] = {}
        for name, spec in specs.items():
            parts, deviation, sample = targets[name]
            own = exchange
            used = np.ones(len(table), dtype=bool)
            if spec.roi is not None:
                used = np.isin(table.index.to_numpy(), store.voxels(self.subject, spec.roi).index.to_numpy())
            masks = {roi: mask & used for roi, mask in rois.items() if (mask & used).any()}
            pairs = [decoded[name], _read(spec.part(self.test.target(spec.source)), sample.columns)]
            scores.append(self._score(name, pairs, sample, orders[1], units[1].valid, nulls))
            if kind == "importance":
                without = [replaced[roi][name] for roi in masks]
                mapped = self._importance(name, spec.standardize, used, pairs, without, sample, orders[1])
            elif kind == "product":
                mapped = self._product(name, used, masks, deviation)
            elif name in networks and kind == "gradient":
                mapped = self._gradient(name, used, masks, sample, deviation)
            elif name in networks:
                mapped = self._network(name, masks, parts, deviation)
            else:
                train, source, moved = self.train, spec.source, orders[0]
                if name in system.elsewhere_ and (other := train.elsewhere()) is not None:
                    train, source = other, str(spec.elsewhere)
                    own, _ = choose_units(
                        store, self.subject, train.task, [source], (train.table, train.table), settings.exchange
                    )
                    moved = self._orders(train.table, own.unit)
                    said = [*said, *(f"{name}, learned from images: {text}" for text in own.warnings)]
                outputs = _read(spec.part(train.target(source)), sample.columns)
                mapped = self._ridge(
                    name, spec.standardize, used, masks, parts, deviation, sample, train, outputs, moved
                )
            significant = np.zeros((1 + len(parts), len(table)), dtype=bool)
            if mapped.value is not None:
                found[f"{kind}_{name}"] = mapped.value[0]
                part_maps |= {name: mapped.value[1:].astype(np.float32)} if parts else {}
            if mapped.value is not None and mapped.p is not None:
                p = mapped.p if own.valid else np.full_like(mapped.p, np.nan)
                tested = [false_discovery_rate(line, settings.fdr) for line in p]
                significant = np.stack([rejected for rejected, _ in tested])
                found[f"p_{name}"], found[f"q_{name}"] = p[0], tested[0][1]
                found[f"significant_{name}"] = significant[0]
            for place, part in enumerate(["all", *parts]):
                p_rois = mapped.p_rois[:, place] if own.valid else np.full(len(masks), np.nan)
                q = false_discovery_rate(p_rois, settings.fdr)[1]
                for number, (roi, mask) in enumerate(masks.items()):
                    line = {"roi": roi, "band": name} | ({"part": part} if place else {})
                    at = number, place
                    lines[place > 0].append({
                        **line, "value": mapped.rois[at], "low": mapped.low[at], "high": mapped.high[at],
                        "null": mapped.null[at], "p": p_rois[number], "q": q[number], "n": int(mask.sum()),
                        "significant": int(significant[place][mask].sum()),
                    })  # fmt: skip
        number = len(orders[1] if kind == "importance" else orders[0])
        record = exchange_record(exchange, 1 / (1 + number), settings.n_permutations, fdr=settings.fdr)
        record["exchange"]["permutations"] = number
        return SystemMap(
            subject=self.subject,
            task=self.task,
            kind=kind,
            system=system.name,
            bands=list(specs),
            settings=settings,
            chosen={
                "task": self.task,
                "targets": list(dict.fromkeys(sources)),
                "options": {key: plain_parameter(value) for key, value in system.get_params(deep=False).items()},
                "voxels": len(table),
                "learned_elsewhere": system.elsewhere_,
                "train_samples": len(self.train.table),
                "test_stimuli": int(self.test.table["stimulus"].nunique()),
                "interval": "bootstrap over test stimuli" if kind == "importance" else f"jackknife, {GROUPS} groups",
                "alphas": {
                    name: np.unique(decoder.alpha_).tolist()
                    for name, decoder in system.decoders_.items()
                    if hasattr(decoder, "alpha_")
                },
                **record,
                "warnings": [*said, *record["warnings"]],
            },
            table=found,
            rois=pd.DataFrame(lines[0]),
            parts=pd.DataFrame(lines[1]),
            part_maps=part_maps,
            scores=scores,
            null=nulls,
            store=store,
        )

    def _decode(self, responses: Any, targets: Mapping[str, tuple[Any, Any, Sample]]) -> dict[str, np.ndarray]:
        """Return the sample of features of what is decoded, (stimulus, feature) by target."""
        decoded = self.system.decode(responses)
        flat = {name: decoded[name].values.reshape(len(responses), -1) for name in targets}
        return {name: flat[name][:, sample.columns].astype(np.float64) for name, (_, _, sample) in targets.items()}

    def _orders(self, table: pd.DataFrame, unit: str) -> np.ndarray:
        """Return for each permutation the row whose target each sample gets; runs are shifted in the order of time."""
        order = _in_time(table)
        ordered = table.iloc[order].reset_index(drop=True)
        found = orders_of(ordered, unit, self.settings.n_permutations, self.settings.seed)
        back = np.empty_like(found)
        back[:, order] = order[found]
        return back

    def _score(
        self, name: str, pairs: Sequence[np.ndarray], sample: Sample, orders: np.ndarray, valid: bool,
        nulls: dict[str, np.ndarray],
    ) -> Score:  # fmt: skip
        decoded, true = pairs
        whole = sample.means[:, 0]
        value = float(correlations(decoded, true) @ whole)
        null = np.array([correlations(decoded, true[order]) @ whole for order in orders])
        nulls[f"{name} correlation"] = null
        p = float(permutation_p(value, null)) if valid else np.nan
        return Score(
            f"{self.subject} {name} mean correlation of decoded and true features", value, len(true),
            float(null.mean()), float(null.max()), p, len(null), extra={"features": len(sample.columns)},
        )  # fmt: skip

    def _ridge(
        self, name: str, standardized: bool, used: np.ndarray, masks: Mapping[str, np.ndarray],
        parts: Mapping[str, slice], deviation: np.ndarray, sample: Sample, train: Recordings, outputs: np.ndarray,
        orders: np.ndarray,
    ) -> _Mapped:  # fmt: skip
        """Map weights or patterns of a ridge decoder, from the samples that it was trained on."""
        decoder, kind = self.system.decoders_[name], "haufe" if self.settings.kind == "haufe" else "weights"
        columns = _read_voxels(decoder, used)
        scale = np.ones(len(columns)) if standardized else self.system.scale_[columns]
        unit = scale if kind == "weights" else 1 / scale
        value = np.full((1 + len(parts), len(used)), np.nan)
        value[:, columns] = ridge_map(decoder, kind, deviation, parts, self.settings.device) * unit
        if kind == "weights":  # a voxel that was not selected has no weight
            value[:, used] = np.nan_to_num(value[:, used])
        dual = DualRidge.of(decoder, sample.columns, outputs, deviation)
        means = sample.means.astype(np.float32)
        members = np.stack([mask[columns] / max(1, mask[columns].sum()) for mask in masks.values()]) * unit

        def maps(coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = dual.strength(kind, coordinates) @ means
            return found.T, members @ found

        observed, of_rois = maps(dual.coordinates(dual.outputs))
        counter, null_rois = PermutationCounter(observed), []
        for order in orders:
            null, of_null = maps(dual.coordinates(dual.outputs[order]))
            counter.update(null[None])
            null_rois.append(of_null)
        groups = np.empty(len(dual.u), dtype=np.int64)
        order = _in_time(train.table)
        codes = pd.factorize(train.stimuli[order])[0]
        groups[order] = codes * min(GROUPS, codes.max() + 1) // (codes.max() + 1)
        left = np.stack([members @ (found @ means) for found in dual.without(kind, groups)])
        p = np.full_like(value, np.nan)
        p[:, columns] = counter.p
        rois = np.stack([_mean(value, mask) for mask in masks.values()])
        half = _student(len(left), self.settings.confidence) * np.sqrt((len(left) - 1) * left.var(axis=0))
        nulls = np.stack(null_rois)
        p_rois = np.where(np.isfinite(rois), permutation_p(of_rois, nulls), np.nan)
        return _Mapped(value, p, rois, rois - half, rois + half, nulls.mean(axis=0), p_rois)

    def _gradient(
        self, name: str, used: np.ndarray, masks: Mapping[str, np.ndarray], sample: Sample, deviation: np.ndarray
    ) -> _Mapped:
        """Map the gradients of a network by the responses, from the sample of features."""
        spec, decoder = self.system.targets[name], self.system.decoders_[name]
        inputs = self.system.inputs_of(name, self.test.responses)
        unit = np.ones(used.sum()) if spec.standardize else self.system.scale_[used]
        members = np.stack([mask[used] / max(1, mask[used].sum()) for mask in masks.values()])
        strength, of_rois = np.zeros((sample.means.shape[1], used.sum())), 0.0
        named = {"target": spec.source} if spec.beside else {}
        for column, means, gradient in zip(
            sample.columns, sample.means, decoder.gradients(inputs, sample.columns, **named), strict=True
        ):
            steep = np.abs(gradient) * unit / deviation[column]
            strength += np.outer(means, steep.mean(axis=0))
            of_rois = of_rois + (steep @ members.T)[:, :, None] * means
        value = np.full((len(strength), len(used)), np.nan)
        value[:, used] = strength
        drawn = bootstrap_weights(len(inputs), BOOTSTRAPS, self.settings.seed).astype(np.float64)
        shape = np.shape(of_rois)[1:]
        draws = (drawn[1:] @ np.reshape(of_rois, (len(inputs), -1)) / len(inputs)).reshape(-1, *shape)
        tail = (1 - self.settings.confidence) / 2
        low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
        unknown = np.full(shape, np.nan)
        return _Mapped(value, None, np.mean(of_rois, axis=0), low, high, unknown, unknown)

    def _product(self, name: str, used: np.ndarray, masks: Mapping[str, np.ndarray], deviation: np.ndarray) -> _Mapped:
        """Map the product of the weights of a decoder's layers, averaged over features."""
        decoder, columns, value = self.system.decoders_[name], np.flatnonzero(used), np.full((1, len(used)), np.nan)
        if isinstance(decoder, FittedRidge):
            columns, known = _read_voxels(decoder, used), varies(deviation)
            units = np.asarray(decoder.coordinates_)[:, known] / deviation[known]
            signed = decoder.voxel_vectors_ @ units.mean(axis=1)
        else:
            signed = decoder.weight_product()
        value[:, columns] = np.abs(signed)
        rois = np.stack([_mean(value, mask) for mask in masks.values()])
        unknown = np.full_like(rois, np.nan)
        return _Mapped(value, None, rois, unknown, unknown, unknown, unknown)

    def _network(
        self, name: str, masks: Mapping[str, np.ndarray], parts: Mapping[str, slice], deviation: np.ndarray
    ) -> _Mapped:
        """Map the patterns of any decoder from responses and predictions."""
        responses = self.train.labeled_responses()
        decoded = self.system.decode(responses)[name].values.reshape(len(responses), -1)
        x = (responses.values - self.system.mean_) / self.system.scale_
        pieces, lines, varying = list(parts.values()) or [slice(0, len(deviation))], [], varies(deviation)
        for piece in pieces:
            y = decoded[:, piece][:, varying[piece]].astype(np.float64)
            y -= y.mean(axis=0)
            spread = y.std(axis=0)
            lines.append(np.abs(x.T @ (y / np.where(spread > 0, spread, np.inf))).sum(axis=1) / len(x))
        counts = np.array([varying[piece].sum() for piece in pieces], dtype=float)
        value = np.stack([np.sum(lines, axis=0) / counts.sum(), *(np.stack(lines) / np.maximum(counts, 1)[:, None])])
        value = value if parts else value[:1]
        rois = np.stack([_mean(value, mask) for mask in masks.values()])
        unknown = np.full_like(rois, np.nan)
        return _Mapped(value, None, rois, unknown, unknown, unknown, unknown)

    def _importance(
        self, name: str, standardized: bool, used: np.ndarray, pairs: Sequence[np.ndarray],
        without: Sequence[np.ndarray], sample: Sample, orders: np.ndarray,
    ) -> _Mapped:  # fmt: skip
        """Map what the score loses without an ROI and, if the decoder is linear, without a single voxel."""
        decoded, true = pairs
        drawn = bootstrap_weights(len(true), BOOTSTRAPS, self.settings.seed).astype(np.float64)

        def drops(truth: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
            full = correlations(decoded, truth, weights)
            return np.stack([(full - correlations(each, truth, weights)) @ sample.means for each in without])

        rois, draws = drops(true), drops(true, drawn)[:, 1:]
        tail = (1 - self.settings.confidence) / 2
        low, high = np.quantile(draws, [tail, 1 - tail], axis=1)
        null = np.stack([drops(true[order]) for order in orders])
        p_rois = permutation_p(rois, null)
        decoder = self.system.decoders_[name]
        value = p = None
        if isinstance(decoder, FittedRidge):
            columns = _read_voxels(decoder, used)
            x = self.test.responses[:, columns] - self.system.mean_[columns]
            x = x / self.system.scale_[columns] if standardized else x
            weights = decoder.voxel_vectors_ @ np.asarray(decoder.coordinates_[:, sample.columns])
            of_voxels = partial(voxel_drops, x, weights, x @ weights)
            observed = of_voxels(true, sample.means)
            counter = PermutationCounter(observed)
            for order in orders:
                counter.update(of_voxels(true[order], sample.means)[None])
            value, p = np.full((2, len(sample.means.T), len(used)), np.nan)
            value[:, columns], p[:, columns] = observed, counter.p
        return _Mapped(value, p, rois, low, high, null.mean(axis=0), p_rois)


def _read(target: Any, columns: np.ndarray) -> np.ndarray:
    """Return some features of a target, (sample, feature), read in blocks."""
    targets = Targets(target, "float64")
    found = np.empty((targets.n_samples, len(columns)))
    for these, values in TargetPart(targets, np.arange(targets.n_samples), columns).blocks():
        found[:, np.searchsorted(columns, these)] = values
    return found


def _read_voxels(decoder: FittedRidge, used: np.ndarray) -> np.ndarray:
    """Return the places of the voxels that a decoder reads among all that were selected for the system."""
    columns = np.flatnonzero(used)
    return columns[decoder.selected_voxels_] if hasattr(decoder, "selected_voxels_") else columns


def _in_time(table: pd.DataFrame) -> np.ndarray:
    """Return the order of samples in time, as far as it is known."""
    names = [name for name in ("time", "run", "session") if name in table]
    if not np.isfinite(table[names].to_numpy(dtype=float)).all():
        return np.arange(len(table))
    return np.lexsort([table[name] for name in names])


def _mean(value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the mean of maps, (part, voxel), over the voxels of an ROI that have a value; NaN if there is none."""
    known = mask & np.isfinite(value[0])
    return value[:, known].mean(axis=1) if known.any() else np.full(len(value), np.nan)


def _student(groups: int, confidence: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, groups - 1))
