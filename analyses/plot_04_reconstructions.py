"""
Reconstructions, and what of them comes from the brain
======================================================

Two published systems reconstruct the test images of the embedded data set: Brain-Diffuser (Ozcelik & VanRullen 2023)
and the system of Takagi & Nishimoto (2023). Beside each reconstruction stand images that were generated without the
response to the stimulus, and the one that perfect decoding would give. The responses are simulated. The script takes
ten minutes on two cores::

    .venv/bin/python analyses/plot_04_reconstructions.py

The arguments are a folder for the results, a store that is there already, and the number of test images. With NSD and
the published weights, only the names of the store and of the models change, see the README.
"""

# %%
import sys
from pathlib import Path

import numpy as np

import neurorecon as nr
from neurorecon.analyses.controls import compare, with_controls
from neurorecon.figures import panel, save_figure

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_04_reconstructions")
STIMULI = int(sys.argv[3]) if len(sys.argv) > 3 else 100
SUBJECT = "subj01"

# %%
# Targets that the store lacks are extracted when a system is fitted.
store = nr.open_store(sys.argv[2]) if len(sys.argv) > 2 else nr.build("scenes")
systems = {
    name: nr.load_system(name, models="bundled", preset="corrected").fit(store, SUBJECT, roi="visual")
    for name in ("brain-diffuser", "takagi")
}
store = nr.open_store(store.location)
record = nr.record_of(store, "analyses/plot_04_reconstructions.py", seed=0)

# %%
# Decoding and generating are two steps. What was decoded can be changed in between: without the text, Brain-Diffuser is
# guided by vision alone; with the targets of another image, it shows the other image.
test = store.responses(SUBJECT, roi="visual", task="images", split="test", average="stimulus")[:STIMULI]
decoded = systems["brain-diffuser"].decode(test[:8])
variants = {
    "first stage": systems["brain-diffuser"].stages(decoded)["vdvae"],
    "both": systems["brain-diffuser"].generate(decoded),
    "vision alone": systems["brain-diffuser"].generate(decoded.drop("clip_text")),
    "text alone": systems["brain-diffuser"].generate(decoded.drop("clip_vision")),
    "text of the next": systems["brain-diffuser"].generate(decoded.permute("clip_text", np.roll(np.arange(8), -1))),
}
seen = store.images(decoded.stimuli.tolist()).values
figure = panel(
    {"seen": seen, **{name: images.values for name, images in variants.items()}},
    title="Brain-Diffuser, target by target",
    note="The first test images.",
    simulated=True,
)
save_figure(figure, OUT / "targets", record)

# %%
# Controls: the mean response, the response to another stimulus, the mean training image, and the oracle, which
# generates from the true targets. Scores are means over test images with bootstrap intervals; differences are paired.
for name, system in systems.items():
    images = with_controls(system, store, test)
    found = compare(images, store, metrics=("pixcorr", "two_way_clip", "probe"), subject=SUBJECT)
    print(found.text(store))
    order = np.argsort(-found.values[name]["pixcorr"])
    picked = order[np.linspace(0, len(order) - 1, 16).round().astype(int)]
    rows = {
        "seen": store.images(test["stimulus"].values[picked].tolist()).values,
        "oracle": images["oracle"][0].values[picked],
        "first stage": next(iter(system.stages(system.decode(test[picked])).values())).values,
        "reconstructed": images[name][0].values[picked],
        "mean response": images["mean response"][0].values[picked],
        "another trial": images["another trial"][0].values[picked],
    }
    figure = panel(
        rows,
        scores={"reconstructed": found.values[name]["pixcorr"][picked].tolist()},
        score_label="pixel correlation",
        per_line=8,
        title=f"{name} · {SUBJECT}",
        note="16 of the test images, from the best to the worst.",
        simulated=True,
    )
    save_figure(figure, OUT / name, record)
    nr.write(found, store, OUT / name, record)  # a folder for each system
print(f"figures and tables: {OUT}")

# sphinx_gallery_thumbnail_path = "images/reconstructions.png"
