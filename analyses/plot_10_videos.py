"""
Videos: what was seen, what Mind-Animator reconstructs, and what it takes without a motion decoder
==================================================================================================

Frames of test clips of the embedded data set next to those that Mind-Animator (arXiv 2405.03280) reconstructs, to what
the autoencoder makes of the same latents without diffusion, and to two baselines: ridge regression to the latents of
all frames, and a system of images that makes each frame by itself. Clips are chosen by their place in the test set and
not by their scores. The responses are simulated::

    .venv/bin/python analyses/plot_10_videos.py

The arguments are a folder for the results, a store that is there already, and the number of clips (an even one).
"""

# %%
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import neurorecon as nr
from neurorecon.analyses.controls import true_targets
from neurorecon.decoders.samples import Recordings
from neurorecon.figures import panel, save_figure
from neurorecon.metrics import load_metric
from neurorecon.metrics.decoding import retrieval
from neurorecon.stats import permutation_p, stimulus_permutations

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_10_videos")
CLIPS = int(sys.argv[3]) if len(sys.argv) > 3 else 4
SUBJECT, SHOWN, PERMUTATIONS = "subj01", [0, 2, 5, 7], 99
METRICS = ("ssim_frames", "psnr_frames", "vifi_clip", "epe", "clip_pcc")

store = nr.open_store(sys.argv[2]) if len(sys.argv) > 2 else nr.build("scenes")
OUT.mkdir(parents=True, exist_ok=True)

# %%
# The system, and the baselines. The same noise belongs to a clip in all of them.
systems = {
    "Mind-Animator": nr.load_system("mind-animator", device="cpu"),
    "linear frames": nr.load_system("linear-frames", device="cpu"),
    "frame by frame": nr.load_system("frame-by-frame", system="takagi", device="cpu"),
}
systems = {name: system.fit(store, SUBJECT, task="videos") for name, system in systems.items()}
store = nr.open_store(store.location)
record = nr.record_of(store, "analyses/plot_10_videos.py", seed=0)
test = Recordings.read(store, SUBJECT, task="videos", split="test")
chosen = test.take(np.linspace(0, len(test.table) - 1, CLIPS).round().astype(int)).labeled_responses()
animator = systems["Mind-Animator"]
decoded = animator.decode(chosen)
clips = decoded.stimuli.tolist()
seen = store.frames(clips).values
rows = {
    "seen": seen,
    "Mind-Animator": animator.generate(decoded).values,
    "its first stage": animator.generate_first_stage(decoded, 0).values,
    "true targets": animator.generate(true_targets(animator, store, clips)).values,
    "linear frames": systems["linear frames"].reconstruct(chosen).values,
    "frame by frame": systems["frame by frame"].reconstruct(chosen).values,
}
scores = pd.DataFrame({
    name: {metric: float(np.nanmean(load_metric(metric).values(seen, videos))) for metric in METRICS}
    for name, videos in rows.items()
}).T  # fmt: skip
scores.to_csv(OUT / "scores.csv")
print(scores.round(3).to_string())

# %%
# Two clips a line, four of their eight frames each.
rate = float(store.frames(clips).attrs.get("frames_per_second", 4.0))
figure = panel(
    {name: videos[:, SHOWN].reshape(-1, *videos.shape[2:]) for name, videos in rows.items()},
    captions=[f"{frame / rate:.2f} s" for _ in clips for frame in SHOWN],
    per_line=2 * len(SHOWN),
    title=f"Mind-Animator · {SUBJECT}",
    note=f"{CLIPS} test clips, evenly spread over the test set: frames 1, 3, 6 and 8 of 8. First stage: the decoded "
    "latents without diffusion. True targets: what perfect decoding would give. Frame by frame: the system of Takagi & "
    "Nishimoto.",
    simulated=True,
)
save_figure(figure, OUT / "videos", record)

# %%
# Retrieval by the decoded semantics, as in the paper: which clip was seen, of those of the test set (small pool), and
# of these and the training clips (large pool)?
table = []
for subject in store.subjects:
    system = nr.load_system("mind-animator", device="cpu", without=("vqvae_first", "motion"))
    system = system.fit(store, subject, task="videos")
    samples = Recordings.read(store, subject, task="videos", split="test")
    found = system.decode(samples.labeled_responses())["clip_text_20"]
    others = sorted(set(Recordings.read(store, subject, task="videos", split="train").stimuli.tolist()))
    mean, deviation = system.training_["clip_text_20"]
    true, training, decoded = (
        (values - mean) / np.where(deviation > 0, deviation, np.inf)
        for values in (
            store.targets("clip_text_20", stimuli=samples.stimuli.tolist()).values,
            store.targets("clip_text_20", stimuli=others).values,
            found.values,
        )
    )
    orders = stimulus_permutations(len(true), PERMUTATIONS, 0)
    for name, pool in (("small", None), ("large", training)):
        size = len(true) + (0 if pool is None else len(pool))
        for best in (10, 100):
            value = retrieval(true, decoded, best, pool).mean()
            null = np.array([retrieval(true[order], decoded, best, pool).mean() for order in orders])
            p = float(permutation_p(value, null))
            table.append((subject, name, size, best, value, best / size, null.mean(), null.max(), p))
scores = pd.DataFrame(
    table, columns=["subject", "pool", "clips", "top", "found", "chance", "null_mean", "null_max", "p"]
)
scores.to_csv(OUT / "retrieval.csv", index=False)
print(scores.round(4).to_string(index=False))
print(f"figures and tables: {OUT}")
