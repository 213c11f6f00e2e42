"""The tour of the toolkit on the embedded data set (``neurorecon demo``): maps, reconstructions, one report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from neurorecon.analyses.audit import audit
from neurorecon.analyses.audit_result import Audit
from neurorecon.analyses.maps import VoxelwiseMap, voxelwise_maps
from neurorecon.analyses.reconstruct import FRAME_RATE, Reconstruction, reconstruct
from neurorecon.analyses.results import record_of, write
from neurorecon.analyses.roi_optimal import RoiOptimal, roi_optimal
from neurorecon.analyses.shuffle import FRAMES, Shuffle, shuffle
from neurorecon.analyses.system_maps import SystemMap, system_maps
from neurorecon.figures.style import band_label
from neurorecon.parallel import Compute, default_threads, in_processes
from neurorecon.store.store import Store
from neurorecon.systems.base import System, load_system

#: The systems that reconstruct, the one that is audited first, and their scores. The audit has ridge regression to
#: pixels among its baselines.
SYSTEMS = ("brain-diffuser",)
METRICS = ("pixcorr", "two_way_clip", "probe")
MOTION_METRICS = ("epe", "direction_agreement")

#: Steps of the diffusion, fewer than by default, because the tour makes hundreds of images.
STEPS = 6

#: Test images that are reconstructed, with their controls four times as many; and those of the audit of the first
#: system, with its baselines seven times as many. Two of each category can trade places.
RECONSTRUCTED, AUDITED = 48, 16

#: Whose preferred images are shown, what they are generated from, and how many of each.
PREFERRING, FROM, PREFERRED = ("FFA", "PPA", "EBA"), ("clip_text",), 4

#: The system of videos, its target of motion, test clips of its shuffle test, and permutations of their frames. Clips
#: are generated twice, with and without the decoded motion.
ANIMATOR, MOTION, CLIPS, SHUFFLES = "mind-animator", "motion", 12, 19

#: Permutations of the map of what its decoders read.
READ_PERMUTATIONS = 199

#: Images and video frames shown in the report, and clips that move.
IMAGES, VIDEOS, MOVING = 20, 4, 3


def tour(
    store: Store,
    out: str | Path,
    *,
    command: str,
    systems: Sequence[str] = SYSTEMS,
    say: Callable[[str], None] = print,
    seed: int = 0,
) -> tuple[list[Path], list[dict[str, Any]]]:
    """Map the cortex of the first subject, reconstruct images and videos, and write a report that opens offline.

    Parameters
    ----------
    store : Store
        The embedded store.
    out : path
        Folder for the files.
    command : str
        Goes into the record of every file.
    systems : sequence of str
        Which systems reconstruct.
    say : callable
        Called with a message after each part.
    seed : int
        Of permutations and resampling.

    Returns
    -------
    files : list of Path
        The report first.
    scores : list of dict
        All scores with their nulls.
    """
    folder, subject = Path(out), store.subjects[0]
    for system in (*systems, ANIMATOR):  # now, because the record of every file names the state of the store
        store = load_system(system).with_targets(store, progress=False)
    record = record_of(store, command, seed=seed)
    built = {system: _quick(system) for system in systems}
    what: Callable[[], Any]
    parts = [
        _Part("maps of the whole cortex", "cortex", partial(voxelwise_maps, store, subject, seed=seed), 155),
        _Part("the same from videos", "videos", partial(voxelwise_maps, store, subject, task="videos", seed=seed), 80),
    ]
    for number, (name, system) in enumerate(built.items()):
        on = (store, system, subject, "visual")
        what = partial(reconstruct, *on, metrics=METRICS, controls=True, n_stimuli=RECONSTRUCTED, seed=seed)
        parts.append(_Part(f"reconstructions by {name}", "reconstructions", what, 30 if number else 95))
        if number == 0:
            what = partial(audit, *on, metrics=METRICS, n_stimuli=AUDITED, splits=(), seed=seed)
            parts.append(_Part(f"audit of {name}", "audit", what, 90))
    for system in built.values():
        if set(FROM) <= set(system.targets):
            what = partial(roi_optimal, store, PREFERRING, system, subject, targets=FROM, seeds=PREFERRED, seed=seed)
            parts.append(_Part(f"images that {', '.join(PREFERRING)} prefer", "roi-optimal", what, 30))
    what = partial(
        system_maps, store, ANIMATOR, subject, kind="haufe", task="videos", n_permutations=READ_PERMUTATIONS, seed=seed,
        options={"rois": {}},  # all decoders read all voxels
    )  # fmt: skip
    parts.append(_Part(f"what the decoders of {ANIMATOR} read", "maps-of-a-system", what, 45))
    what = partial(
        shuffle, store, _quick(ANIMATOR), subject, targets=(FRAMES,), without=(MOTION,), task="videos",
        metrics=MOTION_METRICS, n_permutations=SHUFFLES, n_stimuli=CLIPS, seed=seed,
    )  # fmt: skip
    parts.append(_Part(f"videos by {ANIMATOR}, and the shuffle test of their motion", "shuffle-test", what, 80))
    say(f"{len(parts)} parts: {'; '.join(part.what for part in parts)} ...")
    shown = _computed(parts, store, folder, record, say)
    files = [file for _, written in shown for file in written]
    say("report ...")
    drawn = [(found, {file.stem: file for file in written if file.suffix == ".png"}) for found, written in shown]
    report = write_report(folder / "report.html", store, drawn, record)
    scores = [score.row() for found, _ in shown for score in found.scores]
    return [report, *files], scores


def _quick(name: str) -> System:
    """Return a system that generates with few steps."""
    built = load_system(name)
    return built.set_params(steps=STEPS, device="cpu") if "steps" in built.get_params() else built


@dataclass(frozen=True)
class _Part:
    """A part of the tour: what it is, the folder of its files, what computes it, and for how long with one core."""

    what: str
    place: str
    compute: Callable[[], Any]
    seconds: int


def _computed(
    parts: Sequence[_Part], store: Store, folder: Path, record: Mapping[str, Any], say: Callable[[str], None]
) -> list[tuple[Any, list[Path]]]:
    """Return the result of each part, and its files.

    Two parts are computed at a time, because much of each, such as imports and figures, uses one core alone. Those that
    take long come first, so that no core waits for the last one.
    """
    from joblib import cpu_count, delayed

    order = sorted(range(len(parts)), key=lambda number: -parts[number].seconds)
    processes = min(2, int(cpu_count()))
    if processes < 2:
        done: Iterable[Any] = (_write_part(number, parts[number], store, folder, record) for number in order)
    else:
        threads = max(1, default_threads() // processes)
        work = in_processes(processes, return_as="generator_unordered", pre_dispatch="all")
        done = work(delayed(_write_part)(number, parts[number], store, folder, record, threads) for number in order)
    found: dict[int, tuple[Any, list[Path]]] = {}
    for number, result, files in done:
        found[number] = result, files
        say(f"{len(found)} of {len(parts)} done: {parts[number].what}")
    return [found[number] for number in range(len(parts))]


def _write_part(
    number: int, part: _Part, store: Store, folder: Path, record: Mapping[str, Any], threads: int | None = None
) -> tuple[int, Any, list[Path]]:
    with Compute(threads=threads).limited():
        found = part.compute()
        return number, found, write(found, store, folder / part.place, record)


#: A result, and the files of its figures by their names without suffix.
_Shown = tuple[Any, Mapping[str, Path]]


def write_report(path: Path, store: Store, shown: Sequence[_Shown], record: dict[str, Any]) -> Path:
    """Write the report of the tour: stimuli, maps, and what the systems gave; one file that loads nothing."""
    from neurorecon.figures import Figure, Section, report

    cortex, others = shown[:2], shown[2:]
    sections = [
        Section("Stimuli", _stimuli_text(store), [Figure(figure, caption) for figure, caption in _stimuli(store)]),
        *(_map_section(*one, store, record, whole_page=one is cortex[0]) for one in cortex),
        *(_SECTIONS[type(found)](found, drawn, store) for found, drawn in others),
    ]
    return report(
        path,
        "neurorecon: the tour",
        sections,
        record,
        lead="All responses in this report are simulated: the brain is a model, and what was planted in it is known. "
        "The same commands run on measured data.",
    )


def _map_section(
    found: VoxelwiseMap, drawn: Mapping[str, Path], store: Store, record: dict[str, Any], *, whole_page: bool
) -> Any:
    """Return the section on one map of the whole cortex. The interactive page is large, so only one map has it."""
    from neurorecon.figures import Figure, Page, Section, Table

    what = found.task
    pages = found.pages(store, {**record, "settings": found.record()}) if whole_page else {}
    return Section(
        f"What each voxel encodes: {what}",
        f"Banded ridge regression predicts the response of each voxel to the {what} from bands of features: "
        f"{_bands_text(found.bands)}. R² on held-out {what} is split over the bands by the product measure. "
        f"p-values come from permutations of the held-out {what}; maps show voxels below a false discovery "
        f"rate of 5 %. {_WHY.get(found.task, '')}",
        [
            *(
                Figure(drawn[f"{found.stem}_{name}"], caption)
                for name, caption in _MAP_FIGURES.items()
                if f"{found.stem}_{name}" in drawn
            ),
            *(Page(page(), "Choose a map; point at the cortex to read its values.", 700) for page in pages.values()),
            _roi_table(Table, found),
        ],
    )


#: What to keep in mind about each task.
_WHY = {
    "videos": "Whatever moves has contrast, so motion energy and Gabor energy share much of what they explain. "
    "For the voxels of one ROI alone: neurorecon maps --roi MT --task videos.",
    "images": "Images have no motion: areas that follow motion show only what else drives them.",
}

#: What each band contains, for the report.
_BAND_TEXTS = {
    "clip_image": "the CLIP embedding of the image or the middle frame",
    "category": "how much of each object category is visible",
    "vqvae": "the latents of the autoencoder of latent diffusion",
    "vdvae": "the latents of a very deep variational autoencoder, from layout to texture",
    "gabor": "Gabor energy",
    "motion": "motion energy",
}

_MAP_FIGURES = {
    "cortex_bands": "The band that explains most of each significant voxel.",
    "flat_r2": "Joint R² of all bands on the flattened cortex.",
    "rois": "Split R² by ROI and band, beside the noise ceiling.",
}


def _bands_text(bands: list[str]) -> str:
    texts = [f"{band_label(name)}, {_BAND_TEXTS[name]}" if name in _BAND_TEXTS else band_label(name) for name in bands]
    return "; ".join(texts)


def _stimuli_text(store: Store) -> str:
    kinds = store.stimuli["kind"].value_counts()
    parts = [f"{number:,} {'images' if kind == 'image' else 'videos'}" for kind, number in kinds.items()]
    return f"{' and '.join(parts)}, drawn by a program; five captions and a table of contents go with each."


def _stimuli(store: Store) -> list[tuple[Any, str]]:
    """Return figures of some stimuli: one image per category, and strips of videos."""
    from neurorecon.figures import panel

    table = store.stimuli
    images = table[(table["kind"] == "image") & (table["split"] == "test")]
    picked = _spread(images, IMAGES)
    shown = panel(
        {"": store.images(picked["id"].tolist()).values},
        captions=[str(name) for name in picked["category"]],
        title="Images of the test set",
        simulated=store.simulated,
    )
    found = [(shown, "Some images, with the category of their main object.")]
    videos = table[(table["kind"] == "video") & (table["split"] == "test")]
    if len(videos):
        picked = _spread(videos, VIDEOS)
        frames = store.frames(picked["id"].tolist()).values
        strips = dict(zip([f"video {number + 1}" for number in range(len(frames))], frames, strict=True))
        seconds = [f"{number / (store.frames_per_second or 1):.2f} s" for number in range(frames.shape[1])]
        strip = panel(strips, captions=seconds, title="Videos of the test set", simulated=store.simulated)
        found.append((strip, "Frames of some videos: objects and camera move."))
    return found


def _spread(table: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return rows that go through all categories in turn."""
    turn = table.groupby("category", sort=True).cumcount()
    return table.assign(turn=turn).sort_values(["turn", "category"], kind="stable").head(number)


def _roi_table(table: Any, found: VoxelwiseMap) -> Any:
    wide = found.rois.pivot_table(index="roi", columns="band", values="value", sort=False)[found.bands]
    first = found.rois.groupby("roi", sort=False).first()
    rows = [
        [
            roi,
            int(first.loc[roi, "n"]),
            first.loc[roi, "ceiling"],
            first.loc[roi, "joint"],
            first.loc[roi, "p"],
        ]
        + [float(value) for value in wide.loc[roi]]
        + [int(first.loc[roi, "significant"])]
        for roi in wide.index
    ]
    columns = ["ROI", "voxels", "noise ceiling", "joint R²", "p", *map(band_label, found.bands), "significant"]
    numbers = ["noise ceiling", "joint R²", "p", *map(band_label, found.bands)]
    caption = f"{found.subject}: mean over all voxels of the ROI; R² of each band is its share of the joint R²."
    return table(columns, rows, caption, dict.fromkeys(numbers, ".3f"))


#: What each system does, for the report.
_SYSTEM_TEXTS = {
    "brain-diffuser": "Brain-Diffuser (Ozcelik & VanRullen 2023): a VDVAE turns decoded latents into a first image, "
    "and a diffusion network goes on from it, guided by decoded vision and text tokens.",
    "takagi": "Takagi & Nishimoto (2023): latents are decoded from early visual cortex, a text condition from ventral "
    "cortex, and a diffusion network turns both into an image.",
    "linear-pixels": "Ridge regression from voxels to pixels: the baseline of all systems. No generative model added "
    "anything to these images; details that are blurred here are not in the responses in linear form.",
}

#: What the rows of the tables of scores mean.
_CONTROLS_TEXT = (
    "Rows below the system have no response to the stimulus: the mean response of all stimuli, the response to another "
    "stimulus, the mean of all training images. What they reach comes from the generator, not from the brain. The "
    "oracle generates from the true targets: more cannot be reached with this generator. The network that judges "
    "(probe) names the main object; chance is 1 of 8."
)


def _reconstruction_section(found: Reconstruction, drawn: Mapping[str, Path], store: Store) -> Any:
    """Return the section on the reconstructions of one system: the panel, and its scores beside its controls."""
    from neurorecon.figures import Figure, Section, Table

    shown = "contact_sheet" if f"{found.stem}_contact_sheet" in drawn else "panel"
    assert found.comparison is not None, "controls were asked for"
    scores = found.comparison.table[["reconstruction", "metric", "mean", "low", "high", "null_mean", "p"]]
    differences = found.comparison.differences[["control", "metric", "difference", "low", "high", "p"]]
    return Section(
        f"Reconstructions: {found.system}",
        [_SYSTEM_TEXTS[found.system], _CONTROLS_TEXT],
        [
            Figure(drawn[f"{found.stem}_{shown}"], "Test images from the best to the worst by the first score."),
            Table.from_frame(scores, "Mean over test images, interval, and permutation null with its p-value."),
            Table.from_frame(differences, "The system minus each control, paired over images."),
        ],
    )


def _audit_section(found: Audit, drawn: Mapping[str, Path], store: Store) -> Any:
    """Return the section on an audit: its verdicts, and scores beside baselines; its own page has the rest."""
    from neurorecon.figures import Figure, Section

    verdict = found.verdict_section()
    return Section(
        f"Is it the brain or the generator? {found.name}",
        [*verdict.text, f"The same as a page of its own: neurorecon audit --system {found.name}."],
        [
            *verdict.items,
            Figure(
                drawn[f"{found.stem}_scores"],
                f"Scores of {len(found.stimuli)} test images, and what is reached with less.",
            ),
        ],
    )


def _preferred_section(found: RoiOptimal, drawn: Mapping[str, Path], store: Store) -> Any:
    """Return the section on the images that ROIs prefer."""
    from neurorecon.figures import Figure, Section, Table

    return Section(
        "What do ROIs prefer?",
        f"The decoders of {found.system} read a pattern that is one in an ROI and zero elsewhere, and images are "
        f"generated from what they decode ({', '.join(FROM)}): neurorecon roi-optimal --roi FFA --target clip_text.",
        [
            Figure(drawn[f"{found.stem}_grid"], "One row for each ROI, one column for each seed."),
            Table.from_frame(found.summary(), "Verdicts of the probe, and predicted responses."),
        ],
    )


def _read_section(found: SystemMap, drawn: Mapping[str, Path], store: Store) -> Any:
    """Return the section on what the decoders of a system read."""
    from neurorecon.figures import Figure, Section

    return Section(
        f"Which voxels hold what {found.system} decodes?",
        "Haufe patterns: the covariance of each voxel with what is decoded. Weights would say how the decoder reads, "
        f"not where the information is: neurorecon maps --system {found.system} --kind haufe --task {found.task}.",
        [
            *(Figure(drawn[f"{found.stem}_flat_haufe_{band}"], f"Pattern of {band}.") for band in found.bands),
            Figure(drawn[f"{found.stem}_rois"], "Mean pattern by ROI."),
        ],
    )


def _shuffle_section(found: Shuffle, drawn: Mapping[str, Path], store: Store) -> Any:
    """Return the section on videos: clips beside their reconstructions, and whether their motion was decoded."""
    from neurorecon.figures import Animation, Figure, Section, Table, side_by_side

    rate, clips = store.frames_per_second or FRAME_RATE, len(found.stimuli)
    moving = []
    for number, name in enumerate(found.stimuli["stimulus"].tolist()[:MOVING]):
        videos = side_by_side({label: each[number] for label, each in found.videos.items()}, simulated=store.simulated)
        moving.append(Animation(videos, rate, f"{name}, {rate:g} frames per second."))
    columns = ["target", "metric", "value", "exchanged", "drop", "low", "high", "p"]
    return Section(
        f"Videos, and whether their motion comes from the brain: {found.system}",
        [
            "Mind-Animator (Lu et al. 2024): semantics, the first frame and motion are decoded apart, and a diffusion "
            "network of images makes the frames, which attend to each other. Without motion, all frames start from the "
            "first one.",
            "The shuffle test puts the frames of each reconstructed clip in random order. If the end-point error of "
            "optical flow (epe, lower is better) does not get worse by that, the motion was not decoded; if it gets "
            "worse as much without the decoded motion, it came from the generator: neurorecon shuffle "
            f"--system {found.system} --task videos --target frames --without {MOTION}.",
        ],
        [
            *moving,
            Figure(drawn[f"{found.stem}_drops"], f"What is lost if frames of {clips} clips are shuffled."),
            Table.from_frame(found.table[columns], "Mean over clips and over shuffles, the drop with its interval."),
        ],
    )


_SECTIONS: dict[type, Callable[[Any, Mapping[str, Path], Store], Any]] = {
    Reconstruction: _reconstruction_section,
    Audit: _audit_section,
    RoiOptimal: _preferred_section,
    SystemMap: _read_section,
    Shuffle: _shuffle_section,
}
