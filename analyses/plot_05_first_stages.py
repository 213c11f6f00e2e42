"""
First stages: how well networks and ridge regression decode a layout, and how much data they need
=================================================================================================

The first stage of ``gru-two-stage`` decodes the first latents of a VDVAE, from which an image of the layout is
generated. Here a bidirectional GRU (arXiv 2412.13237) and ridge regression learn from more and more training images of
the embedded data set. What is compared is the correlation of decoded and true latents over the test images, at each
resolution of the VDVAE. The responses are simulated. The script takes ten minutes on one core::

    .venv/bin/python analyses/plot_05_first_stages.py

The arguments are a folder for the results, a store that is there already, the first stages (also ``mlp``, ``cnn``,
``transformer``) and the subjects, both separated by commas.
"""

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import neurorecon as nr
from neurorecon.figures import WIDTHS, journal_style, save_figure
from neurorecon.stats import bootstrap_weights

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_05_first_stages")
STAGES = sys.argv[3].split(",") if len(sys.argv) > 3 else ["ridge", "gru"]
SUBJECTS = sys.argv[4].split(",") if len(sys.argv) > 4 else None
SHARES = (0.125, 0.25, 0.5, 1.0)
COLORS = dict(
    zip(
        ("ridge", "gru", "mlp", "cnn", "transformer"),
        ("#555555", "#D55E00", "#0072B2", "#009E73", "#CC79A7"),
        strict=True,
    )
)

store = nr.open_store(sys.argv[2]) if len(sys.argv) > 2 else nr.build("scenes")
subjects = SUBJECTS or store.subjects


# %%
# The correlation of each latent over stimuli, and its mean over the latents of a resolution, for the test images and
# for bootstrap samples of them. All systems see the same samples, so differences are paired.
def correlations(decoded, true, weights):
    """Return the mean correlation of latents over stimuli, (1 + bootstrap,); the first one is the original sample."""
    share = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float64)
    moments = [share @ values for values in (decoded, true, decoded * true, decoded**2, true**2)]
    covariance = moments[2] - moments[0] * moments[1]
    spread = np.sqrt((moments[3] - moments[0] ** 2).clip(0) * (moments[4] - moments[1] ** 2).clip(0))
    return np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 1e-12).mean(axis=1)


rows, paired = [], []
for subject in subjects:
    test = store.responses(subject, roi="visual", task="images", split="test", average="stimulus")
    true = store.targets("vdvae", stimuli=test["stimulus"].values.tolist())
    weights = bootstrap_weights(len(test), 1000, seed=0)
    table = store.samples(subject)
    train = np.flatnonzero((table["split"] == "train") & (table["task"] == "images"))
    train = np.random.default_rng(0).permutation(train)
    curves = {}
    for share in SHARES:
        samples = np.sort(train[: round(share * len(train))])
        for stage in STAGES:
            system = nr.load_system("gru-two-stage", first_stage_decoder=stage, first_stage_only=True, device="cpu")
            decoded = system.fit(store, subject, roi="visual", samples=samples).decode(test)["vdvae"]
            used = system.targets["vdvae"].part(true)
            starts = used.attrs["group_boundaries"]
            sides = np.repeat([shape[-1] for shape in true.attrs["group_shapes"][: len(starts) - 1]], np.diff(starts))
            for side in np.unique(sides):
                own = np.flatnonzero(sides == side)
                center = true.values[:, own].mean(axis=0)
                found = correlations(decoded.values[:, own] - center, true.values[:, own] - center, weights)
                curves[stage, share, side] = found
                low, high = np.percentile(found[1:], [2.5, 97.5])
                rows.append((subject, stage, len(samples), side, found[0], low, high))
            print(
                subject,
                stage,
                len(samples),
                *(f"{side}x{side}: {curves[stage, share, side][0]:.3f}" for side in np.unique(sides)),
            )
    for stage in STAGES[1:]:
        for side in np.unique(sides):
            difference = curves[stage, 1.0, side] - curves[STAGES[0], 1.0, side]
            paired.append(
                (subject, f"{stage} - {STAGES[0]}", side, difference[0], *np.percentile(difference[1:], [2.5, 97.5]))
            )

# %%
# Curves with 95 % bootstrap intervals over test images, and paired differences with all training images.
OUT.mkdir(parents=True, exist_ok=True)
results = pd.DataFrame(rows, columns=["subject", "first_stage", "samples", "resolution", "correlation", "low", "high"])
results.to_csv(OUT / "curves.csv", index=False)
differences = pd.DataFrame(paired, columns=["subject", "difference", "resolution", "value", "low", "high"])
differences.to_csv(OUT / "differences.csv", index=False)
print(differences.round(3).to_string(index=False))

with journal_style():
    resolutions = sorted(results["resolution"].unique())
    size = (WIDTHS["double"] / 25.4, 1.7 * len(subjects) + 0.5)
    figure, axes = plt.subplots(
        len(subjects), len(resolutions), figsize=size, sharex=True, squeeze=False, layout="constrained"
    )
    for (subject, side, stage), part in results.groupby(["subject", "resolution", "first_stage"]):
        axis = axes[subjects.index(subject), resolutions.index(side)]
        axis.plot(part["samples"], part["correlation"], marker="o", markersize=3, color=COLORS[stage], label=stage)
        axis.fill_between(part["samples"], part["low"], part["high"], color=COLORS[stage], alpha=0.15, linewidth=0)
        axis.set_title(f"{subject}: {side} x {side}")
    for axis in axes.flat:
        axis.set_xscale("log")
        counts = sorted(results["samples"].unique())
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("correlation of latents")
    for axis in axes[-1]:
        axis.set_xlabel("training images")
    axes[0, 0].legend(frameon=False)
    figure.suptitle("Decoded latents of the VDVAE")
record = nr.record_of(store, "analyses/plot_05_first_stages.py", seed=0)
save_figure(figure, OUT / "curves", record)
print(f"figures and tables: {OUT}")

# sphinx_gallery_thumbnail_path = "images/first-stages.png"
