import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.figures.mesh import border_chains, check_values, load_mesh, nearest_source, neighbor_distances, outline

MESH = "fsaverage5"


def plain_dijkstra(graph, sources):
    """The textbook algorithm, one vertex after the other."""
    distance = np.full(graph.shape[0], np.inf)
    queue = [(0.0, int(source)) for source in sources]
    while queue:
        length, vertex = heapq.heappop(queue)
        if length >= distance[vertex] or length > 15:
            continue
        distance[vertex] = length
        row = slice(graph.indptr[vertex], graph.indptr[vertex + 1])
        for neighbor, step in zip(graph.indices[row], graph.data[row], strict=True):
            heapq.heappush(queue, (length + step, int(neighbor)))
    return distance


def test_nearest_voxel_is_found_along_the_surface():
    graph = neighbor_distances(MESH, "left")
    sources = np.random.default_rng(0).choice(graph.shape[0], 40, replace=False)
    member = np.zeros(graph.shape[0], dtype=bool)
    member[sources] = True
    nearest, distance = nearest_source(member, MESH, "left", 12.0)
    expected = plain_dijkstra(graph, sources)
    near = expected <= 12.0
    np.testing.assert_allclose(distance[near], expected[near], atol=1e-9)
    assert np.isinf(distance[~near]).all()
    assert (nearest[~near] == -1).all()
    assert member[nearest[near]].all()
    assert (nearest[sources] == sources).all()


def test_no_source_reaches_nothing():
    nearest, distance = nearest_source(np.zeros(10242, dtype=bool), MESH, "left", 5.0)
    assert (nearest == -1).all()
    assert np.isinf(distance).all()


def test_outline_of_a_cap_is_a_circle():
    sphere = load_mesh(MESH, "sphere", "right")
    height = sphere.coordinates[:, 2]
    lines = outline(height > 50, sphere.faces, sphere.coordinates)
    assert len(lines) == 1
    np.testing.assert_array_equal(lines[0][0], lines[0][-1])
    assert np.abs(lines[0][:, 2] - 50).max() < 2.5
    assert np.abs(np.hypot(*lines[0][:, :2].T) - np.sqrt(100**2 - 50**2)).max() < 2.5


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.98))
def test_borders_run_along_every_edge_that_joins_inside_and_outside(seed, share):
    faces = load_mesh(MESH, "pial", "left").faces
    member = np.random.default_rng(seed).random(faces.max() + 1) < share
    chains = border_chains(member, faces)
    walked = [edge for chain in chains for edge in chain[:-1]]
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    mixed = {tuple(edge) for edge in edges.tolist() if member[edge[0]] != member[edge[1]]}
    assert len(walked) == len(set(walked))
    assert set(walked) == mixed
    assert all(chain[0] == chain[-1] for chain in chains)


def test_flat_map_has_no_bridges_over_its_cuts():
    flat = load_mesh(MESH, "flat", "left")
    edges = flat.coordinates[flat.faces] - flat.coordinates[np.roll(flat.faces, 1, axis=1)]
    assert np.linalg.norm(edges, axis=2).max() < 9
    assert len(flat.faces) > 18000


def test_meshes_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        load_mesh(MESH, "pial", "left").coordinates[0] = 0


@pytest.mark.parametrize(
    "values",
    [{"left": np.zeros(5)}, {"lh": np.zeros(10242)}, {}, np.zeros(10242), {"left": np.zeros((10242, 2))}],
)
def test_values_that_do_not_fit_are_refused(values):
    with pytest.raises(InputError):
        check_values(values, MESH)


def test_a_missing_hemisphere_is_empty():
    checked = check_values({"left": np.ones(10242)}, MESH)
    assert np.isnan(checked["right"]).all()


def test_unknown_mesh():
    with pytest.raises(UnknownNameError, match="fsaverage5"):
        load_mesh("fsaverage9", "pial", "left")
