"""
Does the motion of reconstructed videos come from the brain? The shuffle test
=============================================================================

Mind-Animator (arXiv 2405.03280) shuffles the frames of reconstructed clips: if they moved as the brain saw it, shuffled
frames move less like what was seen. But shuffled frames also jump, whatever they show. So the motion of a clip is
exchanged for that of another clip, too, which leaves the rest as it is, and left out. Clips count once, with the mean
over both subjects. The responses are simulated::

    .venv/bin/python analyses/plot_11_motion_shuffle_test.py

The arguments are a folder for the results, a store that is there already, and the number of test clips.
"""

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import neurorecon as nr
from neurorecon.analyses.controls import true_targets
from neurorecon.analyses.shuffle import frames_shuffled
from neurorecon.decoders.samples import Recordings
from neurorecon.figures import WIDTHS, journal_style, save_figure
from neurorecon.metrics import load_metric, two_way
from neurorecon.metrics.base import mean_of_defined
from neurorecon.stats import bootstrap_means, bootstrap_p, permutation_p

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_11_motion_shuffle_test")
CLIPS = int(sys.argv[3]) if len(sys.argv) > 3 else 114
SHUFFLES, SHIFT = 19, 7  # orders of frames of each clip; the clip whose motion another one gets is that many further on
METRICS = {name: load_metric(name) for name in ("epe", "clip_pcc", "direction_agreement")}
LABELS = {"epe": "end-point error (pixels)", "clip_pcc": "CLIP-PCC", "direction_agreement": "direction agreement"}
DECODED, OTHER, SHUFFLED, STILL = "decoded", "of another clip", "frames shuffled", "none (first frame repeated)"
TRUE = "true motion energy"

store = nr.open_store(sys.argv[2]) if len(sys.argv) > 2 else nr.build("scenes")

# %%
# Each clip of each subject, with its decoded motion and with other motion. Every k-th test clip is used. The order of
# frames is drawn for each clip by itself, and the true one may be drawn.
rows, nulls, curve = [], {name: [] for name in METRICS}, []
for subject in store.subjects:
    system = nr.load_system("mind-animator", device="cpu").fit(store, subject, task="videos")
    test = Recordings.read(store, subject, task="videos", split="test")
    chosen = test.take(np.arange(0, len(test.table), max(1, len(test.table) // CLIPS))[:CLIPS])
    decoded = system.decode(chosen.labeled_responses())
    clips = decoded.stimuli.tolist()
    true, seen = true_targets(system, store, clips), store.frames(clips).values
    made = {
        DECODED: decoded,
        OTHER: decoded.permute("motion", np.roll(np.arange(len(clips)), SHIFT)),
        STILL: decoded.drop("motion"),
        TRUE: decoded.with_(motion=true["motion"]),
    }
    videos = {name: system.generate(one).values for name, one in made.items()}
    for name, metric in METRICS.items():
        shuffled = [metric.values(seen, frames_shuffled(videos[DECODED], seed)) for seed in range(1, SHUFFLES + 1)]
        nulls[name].append(np.nanmean(shuffled, axis=1))
        values = {row: metric.values(seen, one) for row, one in videos.items()}
        values[SHUFFLED] = mean_of_defined(np.stack(shuffled))
        rows += [
            (subject, clip, row, name, value)
            for row, of_clips in values.items()
            for clip, value in zip(clips, of_clips, strict=True)
        ]

    # The curve: what is decoded after training on fewer clips. (Structure from images would not depend on them.)
    table = store.samples(subject)
    train = np.flatnonzero((table["split"] == "train") & (table["task"] == "videos"))
    shown = table["stimulus"].to_numpy()[train]
    order = np.random.default_rng(0).permutation(np.unique(shown))
    truth = true_targets(system, store, test.stimuli.tolist())
    for count in sorted({len(order) // 8, len(order) // 4, len(order) // 2, len(order)}):
        fitted = nr.load_system("mind-animator", first_stage_only=True, structure="clips", device="cpu").fit(
            store, subject, task="videos", samples=train[np.isin(shown, order[:count])]
        )
        found = fitted.decode(test.labeled_responses())
        for name in found:
            mean, deviation = (moment.ravel() for moment in found.training[name])
            one, other = (part[name].values.reshape(len(test.stimuli), -1) for part in (found, truth))
            one, other = ((part - mean)[:, deviation > 0] for part in (one, other))
            one, other = (part / deviation[deviation > 0] for part in (one, other))
            r = ((one - one.mean(0)) * (other - other.mean(0))).mean(0) / (one.std(0) * other.std(0)).clip(1e-9)
            curve.append((subject, name, count, r.mean(), two_way(other, one).mean()))

# %%
# Differences are paired: of the same clip, averaged over subjects, with 95 % bootstrap intervals over clips. p is
# one-sided. That of shuffled frames against random orders is beside it.
OUT.mkdir(parents=True, exist_ok=True)
record = nr.record_of(store, "analyses/plot_11_motion_shuffle_test.py", seed=0)
results = pd.DataFrame(rows, columns=["subject", "clip", "motion", "metric", "value"])
results.to_csv(OUT / "clips.csv", index=False)
curves = pd.DataFrame(curve, columns=["subject", "target", "clips", "r", "two_way"])
curves.to_csv(OUT / "curves.csv", index=False)
print(curves.round(3).to_string(index=False))
means = results.groupby(["metric", "motion", "clip"])["value"].mean()
by_subject = results.groupby(["metric", "motion", "subject"])["value"].mean().unstack()
compared = []
for name, metric in METRICS.items():
    sign = 1.0 if metric.higher_is_better else -1.0
    for row in (OTHER, SHUFFLED, STILL, TRUE):
        gain = sign * (means[name, DECODED] - means[name, row])
        if gain.isna().all():
            continue  # what stands still has no direction
        drawn = bootstrap_means(gain.to_numpy()[:, None])
        low, high = np.percentile(drawn[1:], [2.5, 97.5])
        compared.append((name, row, *by_subject.loc[(name, row)], drawn[0, 0], low, high, float(bootstrap_p(drawn)[0])))
    value, null = sign * by_subject.loc[(name, DECODED)].mean(), sign * np.mean(nulls[name], axis=0)
    p = float(permutation_p(value, null))
    print(f"{name}: {sign * value:.4f}, of shuffled frames {sign * null.mean():.4f}, p {p:.3f}")
comparison = pd.DataFrame(compared, columns=["metric", "motion", *store.subjects, "gain", "low", "high", "p"])
comparison.to_csv(OUT / "comparison.csv", index=False)
print(by_subject.round(4).to_string())
print(comparison.round(4).to_string(index=False))

# %%
# Above: means over clips and subjects on the null of shuffled frames. Below: what is lost with other motion.
with journal_style():
    figure, axes = plt.subplots(
        2, len(METRICS), figsize=(WIDTHS["double"] / 25.4, 3.6), layout="constrained", height_ratios=[1, 0.9]
    )
    colors = {DECODED: "#D55E00", OTHER: "#0072B2", STILL: "#555555", TRUE: "#009E73"}
    for column, name in enumerate(METRICS):
        null = np.mean(nulls[name], axis=0)
        axis = axes[0, column]
        axis.hist(null, bins=10, color="#CCCCCC", edgecolor="#888888", linewidth=0.3, label=SHUFFLED)
        for row, color in colors.items():
            value = by_subject.loc[(name, row)].mean()
            if np.isfinite(value):
                axis.axvline(value, color=color, linewidth=1.2, linestyle="-" if row == DECODED else "--", label=row)
        axis.set_xlabel(LABELS[name])
        axis = axes[1, column]
        part = comparison[(comparison["metric"] == name) & comparison["motion"].isin([OTHER, SHUFFLED, STILL])]
        place = np.array([(OTHER, SHUFFLED, STILL).index(row) for row in part["motion"]])
        axis.errorbar(
            part["gain"], place, xerr=[part["gain"] - part["low"], part["high"] - part["gain"]], fmt="o",
            color="black", markersize=3, linewidth=1,
        )  # fmt: skip
        axis.axvline(0, color="#888888", linewidth=0.6, linestyle="--")
        axis.set_yticks(range(3), (OTHER, SHUFFLED, STILL) if column == 0 else [""] * 3)
        axis.set_ylim(2.5, -0.5)
        axis.set_xlabel(("gain of decoded motion: " if column == 0 else "") + LABELS[name].split(" (")[0])
    axes[0, 0].set_ylabel(f"orders of frames (of {SHUFFLES})")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(
        f"Motion of reconstructed clips: {len(clips)} clips, {len(store.subjects)} subjects (simulated responses)"
    )
save_figure(figure, OUT / "shuffle", record)

# %%
# How much more training data would help.
with journal_style():
    figure, axes = plt.subplots(1, 2, figsize=(WIDTHS["one-and-a-half"] / 25.4, 2.0), layout="constrained")
    for (subject, name), part in curves.groupby(["subject", "target"]):
        style = {"color": {"motion": "#D55E00", "vqvae_first": "#0072B2"}[name], "marker": "o", "markersize": 3}
        style["linestyle"] = "-" if subject == store.subjects[0] else "--"
        for axis, score in zip(axes, ("r", "two_way"), strict=True):
            axis.plot(part["clips"], part[score], label=f"{name}, {subject}", **style)
    for axis, label in zip(axes, ("mean correlation of features", "two-way identification"), strict=True):
        axis.set_xscale("log")
        axis.set_xticks(sorted(curves["clips"].unique()), [str(count) for count in sorted(curves["clips"].unique())])
        axis.minorticks_off()
        axis.set_xlabel("training clips")
        axis.set_ylabel(label)
    axes[0].legend(frameon=False, fontsize=5.5)
    figure.suptitle("What is decoded, over the number of training clips")
save_figure(figure, OUT / "curves", record)
print(f"figures and tables: {OUT}")
