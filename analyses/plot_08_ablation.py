"""
What does each part of a system contribute? Ablations of MindDiffuser's first stage
===================================================================================

One thing at a time is varied, all else stays, noise included: the targets c and z, the voxels (lower or higher visual
cortex), noise in place of z, the number of training images, and how many repeats of a test image are averaged. Each
variation is compared with the full system, image by image. The responses are simulated. The script takes a quarter of
an hour on one core::

    .venv/bin/python analyses/plot_08_ablation.py

The arguments are a folder for the results, a store that is there already, and the number of test images. An interrupted
script resumes.
"""

# %%
import sys
from pathlib import Path

import neurorecon as nr
from neurorecon.parallel import Compute

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_08_ablation")
STIMULI = int(sys.argv[3]) if len(sys.argv) > 3 else 100

store = nr.open_store(sys.argv[2]) if len(sys.argv) > 2 else nr.build("scenes")
stage_1 = {"refine": "none", "without": ("clip_layers",)}

# %%
# Targets, stages and voxels, as in the paper's table; then noise and data. ``found.table`` has every cell and metric
# with its paired difference from the full system, ``found.wide`` is the table in the papers' shape.
found = nr.ablate(
    store, "mind-diffuser", options=stage_1, n_stimuli=STIMULI, compute=Compute(folder=OUT / "parts"),
    metrics=["pixcorr", "ssim_gray2d", "two_way_clip", "probe"],
    vary=["targets", "stages", "rois", "noise=0.5,1", "stimuli=225,900", "trials"],
)  # fmt: skip
print(found.text(store))
print(found.wide.round(3))

# %%
# Tables (CSV, LaTeX), the figure of scores, and what each variation makes of a few images.
files = nr.write(found, store, OUT, nr.record_of(store, "analyses/plot_08_ablation.py", seed=0))
print("\n".join(str(path) for path in files))

# sphinx_gallery_thumbnail_path = "images/ablation-scores.png"
