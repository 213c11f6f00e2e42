"""What several targets of captions have in common is computed once."""

from __future__ import annotations

import numpy as np

import neurorecon as nr
from neurorecon.features.extract import load_extractor


def test_one_pass_of_the_text_tower_serves_all_targets_of_captions(store):
    text, condition, first = (
        load_extractor(name, models="bundled") for name in ("clip_text", "clip_text_sd", "clip_text_15")
    )
    passes: list[int] = []
    for extractor in (condition, first):
        extractor.network.register_forward_hook(lambda *_: passes.append(1))
    after = nr.extract(store, [text, condition, first], progress=False)
    assert not passes
    captions = [list(found) for found in after.stimuli["captions"] if len(found)]
    for name in ("clip_text", "clip_text_sd", "clip_text_15"):
        alone = load_extractor(name, models="bundled").transform(captions)
        np.testing.assert_array_equal(after.targets(name).values, alone)
    assert not condition._kept
    assert not [finding for finding in nr.check_store(after) if finding.problem]


def test_a_target_that_meets_no_other_is_computed_alone(store):
    text, condition = (load_extractor(name, models="bundled") for name in ("clip_text", "clip_text_sd"))
    together = nr.extract(store, [text, condition], progress=False).targets("clip_text_sd").values
    other = load_extractor("clip_text", models="bundled", precision="bfloat16")
    other.meet([condition])
    assert other._condition is None  # computed otherwise
    text.meet([])
    assert text._condition is None
    again = nr.extract(store, [load_extractor("clip_text_sd", models="bundled")], overwrite=True, progress=False)
    np.testing.assert_array_equal(again.targets("clip_text_sd").values, together)
