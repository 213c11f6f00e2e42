"""
Brain-optimized inference: all systems side by side
===================================================

An encoding model, fitted to the training images, says how likely the measured response is given an image. Choosing the
likeliest of eight images, and averaging the likeliest before they are rendered again, improves what a system generates
without another look at the targets that it decodes. ``neurorecon`` is brain-diffuser with both, and with latents that
are decoded from lower visual cortex, as in all refinements here. The responses are simulated, and the encoding model
nearly is the simulation, so gains on measured data will be smaller. With 24 test images and a store that is there,
the script takes three minutes on one core::

    .venv/bin/python analyses/plot_13_brain_optimized.py

The arguments are a folder for the results, a store that is there already, and the number of test images. An interrupted
script resumes.
"""

# %%
import sys
from pathlib import Path

import neurorecon as nr
from neurorecon.figures import save_figure, score_rows
from neurorecon.parallel import Compute
from neurorecon.systems.decoded import as_images
from neurorecon.systems.generation import generate_parts

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_13_brain_optimized")
STIMULI = int(sys.argv[3]) if len(sys.argv) > 3 else 100
SUBJECT = "subj01"

store = nr.open_store(sys.argv[2]) if len(sys.argv) > 2 else nr.build("scenes")

# %%
# A refinement is a system like any other. ``rank="random"`` takes one of the same eight images at random.
text = nr.load_system("brain-diffuser", text_ratio=0.8, rois={"vdvae": "LVC"}, steps=8)
systems = {
    "linear-pixels": nr.load_system("linear-pixels"),
    "takagi": nr.load_system("takagi"),
    "mind-diffuser": nr.load_system("mind-diffuser"),
    "brain-diffuser": nr.load_system("brain-diffuser"),
    "random of 8": nr.refine(text, best_of=8, strengths=(0.42, 0.55), rank="random"),
    "best of 8": nr.refine(text, best_of=8, strengths=(0.42, 0.55)),
    "average": nr.refine(text, best_of=8, strengths=(0.42, 0.55), average=4, again=[0.17]),
    "neurorecon": nr.load_system("neurorecon"),
}

# %%
# Fits and images are kept, so the script resumes; the three refinements share a fit.
test = store.responses(SUBJECT, roi="visual", task="images", split="test", average="stimulus")[:STIMULI]
images = {}
for name, system in systems.items():
    system.fit(store, SUBJECT, roi="visual", task="images", folder=OUT / "fits" / system.name)
    decoded = system.decode(test)
    made = generate_parts(system, decoded, [0], Compute(folder=OUT / "parts", progress=True))
    images[name] = as_images(made[:, 0], decoded.stimuli)

# %%
# Scores with intervals over images, and paired differences from the systems named as references.
found = nr.compare(
    images, nr.open_store(store.location), metrics=("pixcorr", "ssim_gray2d", "two_way_clip", "probe"), subject=SUBJECT,
    references=("brain-diffuser", "random of 8", "best of 8"),
)  # fmt: skip
print(found.text(store))

# %%
# The table as a figure, and a contact sheet of all systems.
record = nr.record_of(store, "analyses/plot_13_brain_optimized.py", seed=0)
figure = score_rows(
    found.table.rename(columns={"reconstruction": "row"}),
    observed="neurorecon",
    title=f"Brain-optimized inference · {SUBJECT}",
    note=f"Means over {len(test)} test images with 95% intervals; the line is neurorecon.",
    simulated=store.simulated,
)
save_figure(figure, OUT / "scores", record)
files = nr.write(found, store, OUT, record)
print("\n".join(str(path) for path in files))
