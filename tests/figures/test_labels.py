import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurorecon.figures.paint import place_labels


def count_overlaps(centers, sizes):
    """Count the pairs of boxes that overlap."""
    centers, half = np.asarray(centers, dtype=float), np.asarray(sizes, dtype=float) / 2
    between = np.abs(centers[None] - centers[:, None])
    touching = (between < half[None] + half[:, None] - 1e-6).all(axis=2)
    return int(np.triu(touching, k=1).sum())


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 17))
def test_labels_never_overlap_and_stay_inside(seed, count):
    random = np.random.default_rng(seed)
    anchors = random.uniform(15, 25, (count, 2))
    sizes = np.column_stack([random.uniform(2, 6, count), np.full(count, 2.0)])
    occupied = np.zeros((160, 160), dtype=bool)
    occupied[60:100, 60:100] = True
    centers = place_labels(anchors, sizes, random.uniform(3, 60, count), occupied, 0.25)
    assert count_overlaps(centers, sizes) == 0
    assert (centers - sizes / 2 >= -0.25).all()
    assert (centers + sizes / 2 <= 40.25).all()


def test_large_roi_keeps_its_name_inside_and_small_one_has_it_beside():
    occupied = np.zeros((160, 160), dtype=bool)
    occupied[40:120, 40:120] = True
    large = place_labels([[20, 20]], [[4, 2]], [400.0], occupied, 0.25)[0]
    assert np.abs(large - 20).max() < 0.5
    occupied[:] = False
    occupied[74:86, 74:86] = True
    small = place_labels([[20, 20]], [[4, 2]], [9.0], occupied, 0.25)[0]
    assert np.abs(small - 20).max() > 1.5


def test_places_are_the_same_each_time():
    anchors, sizes = np.full((6, 2), 10.0), np.full((6, 2), 2.0)
    occupied = np.zeros((90, 90), dtype=bool)
    first, second = (place_labels(anchors, sizes, np.ones(6), occupied, 0.25) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_overlaps_are_counted():
    assert count_overlaps([[0, 0], [1, 0], [9, 9]], [[2, 2]] * 3) == 1
