"""Which voxels drive which feature of the output: raise the responses of an ROI, generate, and measure what changes.

An intervention at the seam of a system: the responses to test stimuli are raised by a standard deviation in all voxels
of one ROI, decoded, and generated with the noise of the same stimuli. What is measured is what the eye sees: luminance,
contrast, saturation, two opponent colors, edges, and of drawn scenes the category that the probe sees. Decoders with
weights alone do not tell: a target may be decoded well and be ignored by what generates.

More voxels change more. The same is therefore done with as many voxels drawn at random, and what is tested is the
difference of the two: what is peculiar to the ROI.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses import design
from neurorecon.analyses.cross_validation import shown_by
from neurorecon.analyses.maps import WIDTH
from neurorecon.analyses.results import Result, Score
from neurorecon.analyses.system_maps import SystemSettings, fit_system
from neurorecon.errors import InputError
from neurorecon.metrics.networks import CategoryProbe
from neurorecon.parallel import Compute
from neurorecon.stats import bootstrap_interval, false_discovery_rate, permutation_p
from neurorecon.store.store import Store
from neurorecon.systems.base import System
from neurorecon.systems.generation import generate_parts, networks_of

#: Weights of red, green and blue in luminance (ITU-R BT.709).
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])

#: Stimuli of the panel.
SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class OutputSettings(SystemSettings):
    """Settings of effects on the output; the others as for :class:`SystemSettings`.

    Parameters
    ----------
    roi : str or sequence of str, optional
        What is raised, one ROI or union at a time; by default all ROIs that the system reads. The system is fitted to
        all voxels, unless it was fitted before.
    stimuli : int
        Number of test stimuli, the first ones.
    step : float
        By how many standard deviations of training responses those of an ROI are raised.
    """

    stimuli: int = 12
    step: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("stimuli", self.stimuli >= 2, "two or more", "12")
        self._require("step", np.isfinite(self.step) and self.step != 0, "a number other than 0", "1")


@dataclass(frozen=True, kw_only=True)
class OutputEffects(Result):
    """What raised responses of each ROI change in the output of a system.

    Parameters
    ----------
    system : str
        Its name.
    table : DataFrame
        One row per ROI and feature of the output: ``value`` (mean change over stimuli, in standard deviations of the
        feature over the test stimuli as they were seen), ``random`` (the same for as many voxels drawn at random),
        ``difference`` with its
        interval (``low``, ``high``), ``p`` (signs of the difference flipped by stimulus), ``q`` (over all rows) and
        ``n`` (voxels).
    stimuli : list of str
    images : dict of str to array, shape (stimulus, [frame,] y, x, rgb)
        What is generated: ``"as measured"``, and with each ROI raised.
    """

    kind: str = "output"
    system: str
    table: pd.DataFrame
    stimuli: list[str]
    images: dict[str, np.ndarray]
    store: Store | None = None

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"{self.subject}_{self.system}_{self.kind}"

    def source(self, store: Store) -> Store:
        """Return the store that the result was made from."""
        return store if self.store is None else self.store

    def made_by(self, store: Store) -> dict[str, dict[str, Any]]:
        """Return what made the targets that were decoded, and the networks that generated."""
        return {
            **super().made_by(store),
            **{f"network {role}": made for role, made in self.chosen["networks"].items()},
        }

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the table of ROIs and features."""
        return {"rois": self.table}

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """Return the images, by ROI."""
        return {"images": {"stimulus": np.array(self.stimuli), **self.images}}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws each figure: the images of each ROI, and all effects in a grid."""
        return {"panel": partial(self._panel, store), "rois": partial(self._grid, store)}

    def _panel(self, store: Store) -> Any:
        from neurorecon.figures import panel

        rows = {name: images[:SHOWN] for name, images in self.images.items()}
        if next(iter(rows.values())).ndim == 5:  # of a video, the middle frame
            rows = {name: row[:, row.shape[1] // 2] for name, row in rows.items()}
        return panel(
            rows, title=f"{self.system}: responses of one ROI raised · {self.subject} · {store.name}",
            note=f"Rows: what is generated from measured responses, and with all voxels of an ROI raised by "
            f"{self.chosen['step']:g} standard deviations. The noise is the same in all rows.", width="one-and-a-half",
            simulated=store.simulated,
        )  # fmt: skip

    def _grid(self, store: Store) -> Any:
        from neurorecon.figures.style import (
            DIVERGING,
            axes_mm,
            journal_style,
            new_figure,
            tag_simulated,
            text_mm,
            width_mm,
            wrap_mm,
        )

        assert isinstance(self.settings, SystemSettings)
        values, q = (
            self.table.pivot(index="roi", columns="feature", values=name).loc[
                self.table["roi"].unique(), self.table["feature"].unique()
            ]
            for name in ("difference", "q")
        )
        limit = float(np.abs(values.to_numpy()).max())
        with journal_style():
            full, height = width_mm("one-and-a-half"), 5.0 * len(values)
            note = wrap_mm(
                new_figure(full, 30),
                "Change of a feature of the output, in standard deviations over the stimuli seen, when responses of an "
                f"ROI are raised by {self.chosen['step']:g} standard deviations, less that of as many voxels at "
                f"random. *: q (FDR over all cells) at most {self.settings.fdr:g}.",
                full - 3,
                6,
            )
            figure = new_figure(full, 26 + height + 2.75 * (note.count("\n") + 1))
            text_mm(
                figure, 1.5, 1.2, f"{self.system}: what an ROI drives · {self.subject} · {store.name}", fontsize=8,
                weight="bold",
            )  # fmt: skip
            axes = axes_mm(figure, 15, 7, full - 32, height)
            image = axes.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
            axes.set_xticks(range(len(values.columns)), values.columns, rotation=45, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(len(values)), values.index)
            for row, column in np.argwhere(q.to_numpy() <= self.settings.fdr):
                axes.text(column, row, "*", ha="center", va="center")
            figure.colorbar(image, cax=axes_mm(figure, full - 14, 7, 2.5, height))
            text_mm(figure, 1.5, 24 + height, note, fontsize=6, linespacing=1.25)
            if store.simulated:
                tag_simulated(figure)
        return figure

    def text(self, store: Store) -> str:
        """Return the effects as a table of ROIs and features, with a star where they are significant."""
        label = "SIMULATED responses" if store.simulated else "measured responses"
        features = list(dict.fromkeys(self.table["feature"]))
        assert isinstance(self.settings, SystemSettings)
        what = (
            f"{self.system}: change of the output, in standard deviations over the stimuli seen, when responses of an "
            f"ROI are raised by {self.chosen['step']:g} standard deviations, less that of as many voxels at random"
        )
        lines = [
            "",
            f"{self.subject} · {store.name} ({label}) · {self.task}: {len(self.stimuli)} test stimuli",
            *textwrap.wrap(what, WIDTH, subsequent_indent="  "),
            f"{'ROI':<8}{'voxels':>7}" + "".join(f"{name[:11]:>12}" for name in features),
        ]
        for roi, rows in self.table.groupby("roi", sort=False):
            cells = (
                f"{row.difference:>11.2f}{'*' if row.q <= self.settings.fdr else ' '}" for row in rows.itertuples()
            )
            lines.append(f"{roi:<8}{rows.iloc[0]['n']:>7}{''.join(cells)}")
        lines.append(f"*: q (over ROIs and features) at most {self.settings.fdr:g}; signs flipped by stimulus")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.chosen["warnings"])])


def output_effects(
    store: Store,
    system: str | System,
    subject: str | None = None,
    roi: Any = None,
    *,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    **options: Any,
) -> OutputEffects:
    """Measure which ROIs drive which features of what a system generates.

    Parameters
    ----------
    store, system, subject, compute
        As for :func:`neurorecon.system_maps`.
    roi : str or list of str, optional
        What is raised; see :class:`OutputSettings`.
    **options
        Of :class:`OutputSettings`.

    Returns
    -------
    OutputEffects
    """
    given = system if isinstance(system, System) else None
    settings = OutputSettings(system=system.name if isinstance(system, System) else system, roi=roi, **options)
    return compute_output_effects(store, store.subjects[0] if subject is None else subject, settings, compute, given)


def compute_output_effects(
    store: Store,
    subject: str,
    settings: OutputSettings,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    system: System | None = None,
) -> OutputEffects:
    """Do what :func:`output_effects` does, from its settings."""
    import xarray

    with tempfile.TemporaryDirectory(prefix="neurorecon-") as scratch, compute.limited():
        store.voxels(subject, settings.rois)  # wrong names show before anything is fitted
        fitted = fit_system(store, subject, replace(settings, roi=None), compute, system, scratch)
        system, store = fitted.system, fitted.store
        first = np.unique(fitted.test.stimuli, return_index=True)[1]
        test = fitted.test.take(np.sort(first)[: settings.stimuli])
        stimuli = test.stimuli
        table = store.voxels(subject, fitted.settings.rois)
        rois = {name: mask for name, mask in design.covered_rois(store, subject, table).items() if mask.any()}
        if settings.rois is not None:
            names = [settings.rois] if isinstance(settings.rois, str) else settings.rois
            masks = {name: np.isin(table.index, store.voxels(subject, name).index) for name in names}
            rois = {name: mask for name, mask in masks.items() if mask.any()}
        if not rois:
            raise InputError(
                "there is no ROI to raise",
                given=f"{settings.rois or 'no ROI'} among the {len(table)} voxels of the system",
                expected="ROIs that the system reads",
                todo="name other ROIs, or build the store with ROIs",
            )
        random = np.random.default_rng(settings.seed)
        sets: dict[str, np.ndarray] = {}
        for name, mask in rois.items():
            drawn = np.zeros(len(mask), dtype=bool)
            drawn[random.choice(len(mask), int(mask.sum()), replace=False)] = True
            sets |= {name: mask, f"random {name}": drawn}
        measured = (test.responses - system.mean_) / system.scale_
        # Decoded together: decoders that rescale by the moments of what they decode see all of them.
        responses = np.concatenate([measured, *(measured + settings.step * mask for mask in sets.values())])
        coordinates = {"stimulus": np.tile(stimuli, 1 + len(sets)), "voxel": fitted.test.voxels}
        decoded = system.decode(
            xarray.DataArray(responses, dims=("stimulus", "voxel"), coords=coordinates), standardized=True
        )
        images = generate_parts(system, decoded, [settings.seed], compute)[:, 0]
    each = np.split(images, 1 + len(sets))
    said, judge = [], CategoryProbe()
    probe: CategoryProbe | None = judge
    try:
        judge.check(store)
    except InputError as error:
        probe, said = None, [f"no category is measured: {str(error).splitlines()[0]}"]
    # In units of what differs between the stimuli that were seen: what is generated may hardly differ.
    seen = measure(fitted.test.take(np.sort(first)).target(shown_by(system)).values, probe)
    features, rows, scores = measure(images, probe), [], []
    for name, values in features.items():
        base, *others = np.split(values, 1 + len(sets))
        spread = seen[name].std()
        if spread < 1e-12:  # gray images have no color
            continue
        changes = dict(zip(sets, ((other - base) / spread for other in others), strict=True))
        for roi, mask in rois.items():
            difference = changes[roi] - changes[f"random {roi}"]
            p, null = flip_signs(difference, settings.n_permutations, settings.seed)
            scores.append(Score(
                f"{subject} {roi} {name} change of the output", float(difference.mean()), len(difference),
                float(null.mean()), float(null.max()), p, len(null),
            ))  # fmt: skip
            interval = bootstrap_interval(difference, level=settings.confidence, seed=settings.seed)
            rows.append({
                "roi": roi, "feature": name, "value": changes[roi].mean(), "random": changes[f"random {roi}"].mean(),
                "difference": difference.mean(), "low": float(interval.low), "high": float(interval.high),
                "p": p, "n": int(mask.sum()),
            })  # fmt: skip
    found = pd.DataFrame(rows)
    smallest = max(2.0 ** (1 - len(stimuli)), 1 / (1 + settings.n_permutations))
    if smallest > settings.fdr / len(found):
        said.append(f"p is at least {smallest:.2g}: a single effect among {len(found)} cannot be significant; it takes "
                    "more stimuli, or more permutations")  # fmt: skip
    found["q"] = false_discovery_rate(found["p"].to_numpy(), settings.fdr)[1]
    order = {roi: number for number, roi in enumerate(rois)}
    found = found.sort_values("roi", key=lambda names: names.map(order), kind="stable").reset_index(drop=True)
    kept = {"as measured": each[0], **{roi: each[1 + 2 * number] for number, roi in enumerate(rois)}}
    return OutputEffects(
        subject=subject,
        task=fitted.task,
        system=system.name,
        settings=settings,
        chosen={
            "targets": system.sources,
            "networks": networks_of(system),
            "step": settings.step,
            "voxels": len(table),
            "stimuli": len(stimuli),
            "warnings": [*fitted.warnings, *said],
        },
        scores=scores,
        table=found,
        stimuli=stimuli.tolist(),
        images=kept,
        store=store,
    )


def measure(images: np.ndarray, probe: CategoryProbe | None = None) -> dict[str, np.ndarray]:
    """Measure features of images that the eye sees.

    Parameters
    ----------
    images : array, shape (stimulus, [frame,] y, x, rgb)
        From 0 to 1. Features of videos are means over frames.
    probe : CategoryProbe, optional
        Adds the probability of each category, as the probe sees it.

    Returns
    -------
    dict of str to array, shape (stimulus,)
        ``luminance`` (mean), ``contrast`` (standard deviation of luminance over pixels), ``saturation`` (mean range of
        the channels), ``red-green`` and ``blue-yellow`` (mean opponent channels), ``edges`` (mean Sobel magnitude of
        luminance), and the categories.
    """
    from skimage.filters import sobel

    frames = images.reshape(-1, *images.shape[-3:]).astype(np.float64)
    red, green, blue = np.moveaxis(frames, -1, 0)
    gray = frames @ LUMINANCE
    found = {
        "luminance": gray.mean(axis=(1, 2)),
        "contrast": gray.std(axis=(1, 2)),
        "saturation": (frames.max(axis=-1) - frames.min(axis=-1)).mean(axis=(1, 2)),
        "red-green": (red - green).mean(axis=(1, 2)),
        "blue-yellow": (blue - (red + green) / 2).mean(axis=(1, 2)),
        "edges": np.array([sobel(image).mean() for image in gray]),
    }
    if probe is not None:
        found |= _categories(frames, probe)
    return {name: values.reshape(len(images), -1).mean(axis=1) for name, values in found.items()}


def _categories(frames: np.ndarray, probe: CategoryProbe) -> dict[str, np.ndarray]:
    """Return the probability of each category: the sum of those of its kinds of objects."""
    import torch

    network, names = probe.network, np.array(probe.network.config.categories)
    logits = []
    with torch.no_grad():
        for start in range(0, len(frames), 128):
            part = probe.preprocessing.prepare(np.round(255 * frames[start : start + 128]).astype(np.uint8))
            logits.append(network.kind(network.pooled(part)))
    chances = torch.softmax(torch.cat(logits), dim=1).cpu().numpy().astype(np.float64)
    return {name: chances[:, names == name].sum(axis=1) for name in dict.fromkeys(names.tolist())}


def flip_signs(differences: np.ndarray, n_permutations: int, seed: int) -> tuple[float, np.ndarray]:
    """Return the two-sided p-value of a mean difference, from flipped signs of the stimuli, and the null.

    Parameters
    ----------
    differences : array, shape (stimulus,)
    n_permutations, seed : int

    Returns
    -------
    p : float
    null : array, shape (permutation,)
        Means with flipped signs.
    """
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (n_permutations, len(differences)))
    null = signs @ differences / len(differences)
    return float(permutation_p(abs(differences.mean()), np.abs(null))), null
