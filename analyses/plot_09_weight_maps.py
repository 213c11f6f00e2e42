"""
Weight maps: which voxels a decoder reads, and which hold what it decodes
=========================================================================

Three maps of the decoders of ``mind-diffuser`` (arXiv 2308.04249), against the planted truth of the embedded data set,
of which it is known which voxels hold nothing but noise: absolute weights, as the paper draws them, Haufe patterns, and
what the score loses without a voxel. The responses are simulated. The script takes five minutes on one core::

    .venv/bin/python analyses/plot_09_weight_maps.py

The second argument is a store that is there already, the third the number of permutations.
"""

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu, spearmanr

import neurorecon as nr
from neurorecon.figures import WIDTHS, journal_style, save_figure

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_09_weight_maps")
PERMUTATIONS = int(sys.argv[3]) if len(sys.argv) > 3 else 200
KINDS = {"weights": "absolute weight", "haufe": "Haufe pattern", "importance": "importance"}
TARGETS = {"clip_text_15": "c (captions)", "clip_layers": "Z_CLIP (blocks of CLIP)"}

store = nr.open_store(sys.argv[2]) if len(sys.argv) > 2 else nr.build("scenes")
OUT.mkdir(parents=True, exist_ok=True)
record = nr.record_of(store, "analyses/plot_09_weight_maps.py", seed=0)

# %%
# The maps of all voxels, with p from decoders that are fitted to re-paired stimuli. The target z is left out here: its
# decoder reads early visual areas alone, of which no voxel is noise only.
rows, points = [], {}
for subject in store.subjects:
    truth = store.truth(subject)
    noise = truth["noise_only"].astype(bool)
    for kind in KINDS:
        found = nr.system_maps(
            store, "mind-diffuser", subject, kind=kind, n_permutations=PERMUTATIONS, options={"without": ["vqvae"]}
        )
        print(found.text(store))
        nr.write(found, store, OUT, record, figures=(subject, kind) == (store.subjects[0], "haufe"))
        for target in TARGETS:
            value = found.table[f"{kind}_{target}"].to_numpy()
            significant = found.table[f"significant_{target}"].to_numpy(dtype=bool)
            area = mannwhitneyu(value[~noise], value[noise]).statistic / (~noise).sum() / noise.sum()
            rows.append(
                {
                    "subject": subject,
                    "target": target,
                    "kind": kind,
                    "area": area,
                    "rank_correlation": spearmanr(value[~noise], truth["ncsnr"][~noise]).statistic,
                    "noise_to_signal": value[noise].mean() / value[~noise].mean(),
                    "significant_signal": significant[~noise].mean(),
                    "significant_noise": significant[noise].mean(),
                }
            )
            points[subject, target, kind] = value, truth["ncsnr"], noise

# %%
# Area: how often a voxel with signal has a larger value than one of noise only (chance is 0.5). Rank correlation: with
# the planted signal-to-noise ratio, over the voxels with signal.
table = pd.DataFrame(rows)
table.to_csv(OUT / "truth.csv", index=False)
print(table.round(3).to_string(index=False))

with journal_style():
    figure, axes = plt.subplots(
        len(TARGETS), len(KINDS), figsize=(WIDTHS["double"] / 25.4, 1.7 * len(TARGETS) + 0.4), layout="constrained"
    )
    for row, target in enumerate(TARGETS):
        for column, kind in enumerate(KINDS):
            axis, (value, ratio, noise) = axes[row, column], points[store.subjects[0], target, kind]
            spread = np.random.default_rng(0).uniform(-0.05, 0.0, noise.sum())
            axis.scatter(ratio[~noise], value[~noise], s=1.5, color="#0072B2", linewidths=0, label="signal")
            axis.scatter(spread, value[noise], s=1.5, color="#D55E00", linewidths=0, label="noise only")
            chosen = table[(table["subject"] == store.subjects[0]) & (table["target"] == target)]
            area = chosen.set_index("kind")["area"][kind]
            axis.set_title(f"{KINDS[kind]}, area {area:.2f}")
            axis.set_ylim(1.05 * min(0.0, value.min()), 1.05 * value.max())
    for axis, label in zip(axes[:, 0], TARGETS.values(), strict=True):
        axis.set_ylabel(label)
    for axis in axes[-1]:
        axis.set_xlabel("planted signal-to-noise ratio")
    axes[0, 1].legend(frameon=False, loc="upper left", markerscale=3)
    figure.suptitle(f"Three maps of the decoders of mind-diffuser, against the planted truth ({store.subjects[0]})")
save_figure(figure, OUT / "truth", record)
print(f"figures and tables: {OUT}")

# sphinx_gallery_thumbnail_path = "images/weight-maps.png"
