"""
Where Mind-Animator reads semantics, structure and motion
=========================================================

The gradient maps of Mind-Animator's three decoders (arXiv 2405.03280) by ROI, next to what an encoding model says of
the same targets: split R2, the part of a voxel's responses that each target explains when all three compete. The
released code draws another map, the product of the weights of a network's layers; it is drawn for the preset
``released``, with layers that are narrower than the published ones. At last, how well each target is decoded from the
volume at a delay after the onset of a clip. The responses are simulated::

    .venv/bin/python analyses/plot_12_mind_animator_maps.py

The arguments are a folder for the results, a store that is there already, and the number of permutations.
"""

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import neurorecon as nr
from neurorecon.analyses.controls import true_targets
from neurorecon.figures import WIDTHS, journal_style, save_figure
from neurorecon.metrics import two_way

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_12_mind_animator_maps")
PERMUTATIONS = int(sys.argv[3]) if len(sys.argv) > 3 else 20
ROUNDS = 8  # epochs of the networks of the preset "released"
TARGETS = {"clip_text_20": "semantics", "vqvae_first": "structure", "motion": "motion"}
COLORS = dict(zip(TARGETS, ("#009E73", "#0072B2", "#D55E00"), strict=True))
ROIS = ("V1", "V2", "V3", "hV4", "LO", "OFA", "FFA", "PPA", "OPA", "RSC", "EBA", "V3A", "V3B", "MT", "MST")

store = nr.open_store(sys.argv[2]) if len(sys.argv) > 2 else nr.build("scenes")
OUT.mkdir(parents=True, exist_ok=True)
record = nr.record_of(store, "analyses/plot_12_mind_animator_maps.py", seed=0)

# %%
# Gradients, which are weights of these ridge decoders, with jackknife intervals; and split R2 with its intervals.
# Gradients of different targets have different sizes, so each is divided by its mean over ROIs. The system decodes
# motion from MT and MST; here it reads all voxels (``rois={}``), or the map would show no more than that.
gradients, explained = [], []
for subject in store.subjects:
    found = nr.system_maps(
        store, "mind-animator", subject, kind="gradient", task="videos", n_permutations=PERMUTATIONS,
        options={"device": "cpu", "rois": {}},
    )  # fmt: skip
    store = found.source(store)
    nr.write(found, store, OUT, record, figures=False)
    gradients.append(found.rois.assign(subject=subject))
    (encoded,) = nr.maps(store, subject, bands=list(TARGETS), task="videos", n_permutations=PERMUTATIONS)
    nr.write(encoded, store, OUT, record, figures=False)
    explained.append(encoded.rois.assign(subject=subject))
tables = {"gradient": pd.concat(gradients), "split R2": pd.concat(explained)}
for name, table in tables.items():
    table = table[table["roi"].isin(ROIS)].copy()
    if name == "gradient":
        unit = table.groupby(["subject", "band"])["value"].transform("mean")
        table[["value", "low", "high"]] = table[["value", "low", "high"]].div(unit, axis=0)
    tables[name] = table
    table.to_csv(OUT / f"{name.replace(' ', '_')}.csv", index=False)
    wide = table.groupby(["roi", "band"])["value"].mean().unstack().loc[list(ROIS), list(TARGETS)]
    print(name, "\n", wide.round(3).to_string())

with journal_style():
    figure, axes = plt.subplots(
        len(tables), len(TARGETS), figsize=(WIDTHS["double"] / 25.4, 3.6), sharex=True, layout="constrained"
    )
    for row, table in enumerate(tables.values()):
        for column, (target, label) in enumerate(TARGETS.items()):
            axis, part = axes[row, column], table[table["band"] == target]
            for shift, subject in zip((-0.15, 0.15), store.subjects, strict=False):
                own = part[part["subject"] == subject].set_index("roi").loc[list(ROIS)]
                spread = [own["value"] - own["low"], own["high"] - own["value"]]
                axis.errorbar(
                    np.arange(len(ROIS)) + shift, own["value"], yerr=spread, fmt="o" if shift < 0 else "s",
                    color=COLORS[target], markersize=2.2, linewidth=0.8, label=subject,
                    markerfacecolor=COLORS[target] if shift < 0 else "white",
                )  # fmt: skip
            axis.set_xticks(range(len(ROIS)), ROIS, rotation=90)
            axis.axhline(1 if row == 0 else 0, color="#888888", linewidth=0.5, linestyle="--")
            if row == 0:
                axis.set_title(f"{label} ({target})")
    axes[0, 0].set_ylabel("|gradient| / mean of ROIs")
    axes[1, 0].set_ylabel("split R²")
    axes[0, 0].legend(frameon=False, fontsize=5.5)
    figure.suptitle("Which ROIs the three decoders read, and what their targets explain (simulated responses)")
save_figure(figure, OUT / "rois", record)

# %%
# The map of the released code, of networks.
small = {"max_epochs": ROUNDS, "progress": False}
network = {
    "clip_text_20": {**small, "hidden": [256] * 4, "head": [512]},
    "vqvae_first": {**small, "hidden": [256]},
    "vqvae_frames": {**small, "width": 64, "depth": 1, "heads": 2, "feedforward": 64, "patch": 4, "max_epochs": 2},
}
product = nr.system_maps(
    store, "mind-animator", store.subjects[0], kind="product", task="videos", n_permutations=1,
    options={"preset": "released", "motion": "frames", "linear": (), "network": network, "device": "cpu"},
)  # fmt: skip
store = product.source(store)
nr.write(product, store, OUT, record, figures=False)
released = product.rois[product.rois["roi"].isin(ROIS)].pivot(index="roi", columns="band", values="value")
print((released / released.mean()).loc[list(ROIS)].round(2).to_string())

# %%
# The delay between the onset of a clip and the volume that is decoded: each target is decoded from single volumes. The
# system itself averages those around the peak.
step = store.series(store.subjects[0])["videos"]
delays, rows = range(7), []
for subject in store.subjects:
    for delay in delays:
        parts = {
            split: store.responses(subject, task="videos", split=split, average="stimulus", delays=(delay,))
            for split in ("train", "test")
        }
        system = nr.load_system("mind-animator", device="cpu", rois={})
        ids = {split: part["stimulus"].values.tolist() for split, part in parts.items()}
        truth = {split: true_targets(system, store, names) for split, names in ids.items()}
        system.fit_arrays(parts["train"].values, dict(truth["train"].items()))
        found = system.decode(parts["test"].values)
        for target in TARGETS:
            mean, deviation = (moment.ravel() for moment in found.training[target])
            one, other = (values[target].values.reshape(len(found.stimuli), -1) for values in (found, truth["test"]))
            one, other = (((part - mean) / np.where(deviation > 0, deviation, np.inf)) for part in (one, other))
            rows.append((subject, target, delay * step, two_way(other, one).mean()))
sweep = pd.DataFrame(rows, columns=["subject", "target", "delay", "two_way"])
sweep.to_csv(OUT / "delays.csv", index=False)
print(sweep.pivot(index="delay", columns=["target", "subject"], values="two_way").round(3).to_string())

with journal_style():
    figure, axis = plt.subplots(figsize=(WIDTHS["single"] / 25.4, 2.2), layout="constrained")
    for (subject, target), part in sweep.groupby(["subject", "target"]):
        axis.plot(
            part["delay"], part["two_way"], marker="o", markersize=3, color=COLORS[target],
            linestyle="-" if subject == store.subjects[0] else "--",
            label=TARGETS[target] if subject == store.subjects[0] else None,
        )  # fmt: skip
    axis.axhline(0.5, color="#888888", linewidth=0.6, linestyle=":")
    axis.set_xlabel("hrf_delay: onset of the clip to the volume (s)")
    axis.set_ylabel("two-way identification")
    axis.legend(frameon=False, loc="upper left")
save_figure(figure, OUT / "delays", record)
print(f"figures and tables: {OUT}")
