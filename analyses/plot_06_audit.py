"""
Is it the brain or the generator? An audit of Brain-Diffuser
============================================================

Every score of a reconstruction is put beside what is reached with less: permutation nulls, also within categories,
images that know nothing of the response, a random image of the right category, the nearest training image, ridge
regression to pixels. Then the system is fitted again on harder splits: clusters of CLIP embeddings that training never
saw, stimuli far from training, a category left out. Last, one decoded target at a time is exchanged between stimuli:
which target carries which score? The responses are simulated. The script takes two hours on one core::

    .venv/bin/python analyses/plot_06_audit.py

The arguments are a folder for the results, a store that is there already, the number of test images of each split, and
the splits, separated by commas. Split columns are written into the store; it stays as it is otherwise.
"""

# %%
import sys
from pathlib import Path

import neurorecon as nr
from neurorecon.parallel import Compute

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_06_audit")
STIMULI = int(sys.argv[3]) if len(sys.argv) > 3 else 100
SPLITS = (sys.argv[4] if len(sys.argv) > 4 else "cluster_k5,tau,leave-category").split(",")

store = nr.open_store(sys.argv[2]) if len(sys.argv) > 2 else nr.build("scenes")
subject = store.subjects[0]
compute = Compute(folder=OUT / "parts")

# %%
# The splits: by default five clusters of CLIP embeddings, each held out in turn; test images far from training; a
# category left out in turn.
for kind in SPLITS:
    store = nr.split(store, kind)
print(store.split_columns)

# %%
# The audit. ``found.table`` has every row, ``found.verdicts`` what is left of each score.
found = nr.audit(store, "brain-diffuser", subject, "visual", n_stimuli=STIMULI, compute=compute)
print(found.text(store))
record = nr.record_of(store, "analyses/plot_06_audit.py", seed=0)
files = nr.write(found, store, OUT, record)

# %%
# Which target carries which score: 20 random exchanges of each, with new images of 40 stimuli (or of half of fewer).
shuffled = nr.shuffle(store, "brain-diffuser", subject, "visual", n_stimuli=min(40, STIMULI // 2), compute=compute)
print(shuffled.text(store))
files += nr.write(shuffled, store, OUT, record)
print("\n".join(str(path) for path in files))

# sphinx_gallery_thumbnail_path = "images/audit-scores.png"
