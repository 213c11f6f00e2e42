"""ROIs where they are known to be, contralateral fields, growth of receptive fields, sampling of voxels."""

from __future__ import annotations

import numpy as np
import pytest

from neurorecon.errors import InputError
from neurorecon.simulation.cortex import (
    EARLY,
    ECCENTRICITIES,
    RETINOTOPIC,
    ROIS,
    build_cortex,
    load_hemispheres,
    unroll,
)

NAMES = [roi.name for roi in ROIS]


@pytest.fixture(scope="module")
def cortex():
    return build_cortex(seed=0, subject=1, voxels=2500)


def test_every_roi_has_voxels_in_every_subject() -> None:
    for subject in (1, 2, 3, 4):
        cortex = build_cortex(seed=subject, subject=subject, voxels=2500)
        assert list(cortex.rois) == [*NAMES, *ECCENTRICITIES]
        assert min(mask.sum() for mask in cortex.rois.values()) >= 15
        assert cortex.rois["MT"].sum() >= 40
        assert len(cortex.voxels) == 2500
        outside = (cortex.voxels["roi"] == "").mean()
        assert 0.09 < outside < 0.16


def test_voxels_lie_at_different_vertices_on_the_cortex(cortex) -> None:
    table = cortex.voxels
    assert not table.duplicated(["hemisphere", "vertex"]).any()
    for name, surface in load_hemispheres().items():
        assert surface.cortex[table.loc[table["hemisphere"] == name, "vertex"]].all()


def test_membership_follows_the_model_and_overlaps_only_between_localized_rois(cortex) -> None:
    inside = np.stack([cortex.rois[name] for name in NAMES])
    own = cortex.voxels["roi"].to_numpy()
    for number, name in enumerate(NAMES):
        assert inside[number, own == name].all()
    assert not inside[:, own == ""].any()
    for first, second in np.argwhere(np.triu(inside.astype(int) @ inside.T.astype(int), 1) > 0):
        assert {NAMES[first], NAMES[second]} in ({"EBA", "LO"}, {"FFA", "VWFA"})


def test_receptive_fields_lie_in_the_opposite_half_of_the_field(cortex) -> None:
    table = cortex.voxels[cortex.voxels["roi"] != ""]
    left = table["hemisphere"] == "left"
    assert (table.loc[left, "prf_x"] > -0.5).mean() > 0.97
    assert (table.loc[~left, "prf_x"] < 0.5).mean() > 0.97


def test_upper_bank_sees_below_and_lower_bank_sees_above(cortex) -> None:
    early = cortex.voxels[cortex.voxels["roi"].isin(["V1", "V2", "V3"])]
    for _, side in early.groupby("hemisphere"):
        assert np.corrcoef(side["z"], side["prf_y"])[0, 1] > 0.45  # y runs downward


def test_eccentricity_grows_from_the_pole_forward_and_sizes_with_it(cortex) -> None:
    first = cortex.voxels[cortex.voxels["roi"] == "V1"]
    eccentricity = np.hypot(first["prf_x"], first["prf_y"])
    assert np.corrcoef(first["y"], np.log(eccentricity))[0, 1] > 0.6
    assert np.corrcoef(first["prf_size"], eccentricity)[0, 1] > 0.6
    # At the same eccentricity, sizes grow along the hierarchy.
    sizes = {roi.name: roi.size[0] + 4 * roi.size[1] for roi in ROIS}
    assert sizes["V1"] < sizes["V2"] < sizes["V3"] < sizes["hV4"] < sizes["LO"] < sizes["MST"]


def test_places_agree_with_published_ones(cortex) -> None:
    """Peaks or centers of mass in MNI space, from other papers than those that the centers were taken from."""
    published = {
        "V1": (11, -83, 2),  # hOc1 of Juelich's cytoarchitectonic atlas
        "MT": (46, -70, 3),  # meta-analytic peak of hMT+
        "FFA": (41, -53, -19),
        "PPA": (28, -47, -8),
        "RSC": (17, -58, 13),
        "OPA": (35, -80, 22),
        "EBA": (50, -69, 4),
        "OFA": (42, -77, -12),
    }
    for name, (x, y, z) in published.items():
        table = cortex.voxels[cortex.rois[name]]
        for side, sign in (("left", -1), ("right", 1)):
            center = table.loc[table["hemisphere"] == side, ["x", "y", "z"]].mean().to_numpy()
            assert np.linalg.norm(center - (sign * x, y, z)) < 12, (name, side, center)


def test_subjects_differ_and_seeds_repeat() -> None:
    first, again, other = (build_cortex(0, subject, 600) for subject in (1, 1, 2))
    assert first.voxels.equals(again.voxels)
    assert not np.array_equal(first.voxels["vertex"], other.voxels["vertex"])


def test_more_voxels_than_vertices_lie_at_several_depths() -> None:
    cortex = build_cortex(0, 1, 15000)
    table = cortex.voxels
    assert len(table) == 15000
    assert table["depth"].max() >= 4
    assert not table.duplicated(["hemisphere", "vertex", "depth"]).any()
    assert 0.08 < (table["roi"] == "").mean() < 0.2


def test_left_to_right_and_up_when_unrolled() -> None:
    sphere = load_hemispheres()["left"].sphere
    center = np.asarray(EARLY["left"].center) / np.linalg.norm(EARLY["left"].center)
    plane = unroll(sphere, center)
    distance = np.arccos(np.clip(sphere @ center, -1, 1)) * 100
    np.testing.assert_allclose(np.hypot(*plane.T), distance, atol=1e-6)
    near = distance < 40
    assert np.corrcoef(plane[near, 1], sphere[near, 2])[0, 1] > 0.9


def test_a_brain_needs_more_voxels_than_rois() -> None:
    with pytest.raises(InputError, match="too few voxels"):
        build_cortex(0, 1, 10)


def test_rois_by_eccentricity_divide_the_voxels_with_a_map(cortex) -> None:
    mapped = np.any([cortex.rois[name] for name in RETINOTOPIC], axis=0)
    rings = np.stack([cortex.rois[name] for name in ECCENTRICITIES])
    np.testing.assert_array_equal(rings.sum(axis=0), mapped)
    degrees = np.hypot(cortex.voxels["prf_x"], cortex.voxels["prf_y"]).to_numpy()
    assert [f"{degrees[ring].max():.1f}" for ring in rings[:4]] == ["0.5", "1.0", "2.0", "4.0"]
    assert degrees[cortex.rois["ecc4+"]].min() > 4
