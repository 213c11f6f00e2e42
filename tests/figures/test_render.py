import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay

from neurorecon.errors import UnknownNameError
from neurorecon.figures.mesh import load_mesh
from neurorecon.figures.paint import VIEWS, rasterize, vertex_normals, view_axes

SHAPE = (41, 53)


def triangulation(seed, count=30):
    """Return points (x right, y down, depth) and faces that look at the viewer."""
    random = np.random.default_rng(seed)
    plane = random.uniform(-5, 60, (count, 2))
    mesh = Delaunay(plane)
    faces = mesh.simplices.copy()
    corners = plane[faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    turned = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] > 0
    faces[turned] = faces[turned][:, ::-1]
    return np.column_stack([plane, random.normal(size=count)]), faces, mesh


def centers():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    return np.column_stack([x.ravel(), y.ravel()])


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000))
def test_pixels_show_the_faces_that_scipy_finds(seed):
    points, faces, mesh = triangulation(seed)
    raster = rasterize(points, faces, SHAPE)
    found = raster.image(raster.face, background=-1).ravel()
    expected = mesh.find_simplex(centers())
    # A pixel on an edge may go to either side; there is hardly ever one.
    assert (found == expected).mean() > 0.999
    values = np.random.default_rng(seed + 1).normal(size=len(points))
    interpolated = LinearNDInterpolator(mesh, values)(centers())[raster.pixel]
    inside = np.isfinite(interpolated)
    np.testing.assert_allclose(raster.interpolate(values, faces)[inside], interpolated[inside], atol=1e-9)


def test_the_nearer_face_hides_the_other_whatever_their_order():
    points = np.array([[0, 0, 1.0], [0, 40, 1], [50, 0, 1], [0, 0, 2], [0, 40, 2], [50, 0, 2]])
    for faces in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        raster = rasterize(points, np.array(faces), SHAPE)
        assert len(raster.pixel) > 500
        assert (points[np.array(faces)[raster.face, 0], 2] == 2).all()
        assert np.unique(raster.pixel).size == raster.pixel.size


def test_faces_seen_from_behind_are_left_out():
    points = np.array([[0, 0, 1.0], [0, 40, 1], [50, 0, 1]])
    assert len(rasterize(points, np.array([[0, 2, 1]]), SHAPE).pixel) == 0


def test_a_mesh_outside_the_image_is_no_error():
    points = np.array([[-90, -90, 1.0], [-90, -50, 1], [-50, -90, 1]])
    assert len(rasterize(points, np.array([[0, 1, 2]]), SHAPE).pixel) == 0


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_views_do_not_mirror(view, side):
    axes = view_axes(view, side)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3))
    assert np.linalg.det(axes) == pytest.approx(1)


@pytest.mark.parametrize(
    ("view", "side", "seen"),
    [
        # direction of the screen that shows the front of the brain, up is superior
        ("lateral", "left", (0, -1)), ("lateral", "right", (0, 1)),
        ("medial", "left", (0, 1)), ("medial", "right", (0, -1)),
        ("ventral", "left", (0, -1)), ("ventral", "right", (0, 1)),
    ],
)  # fmt: skip
def test_front_of_the_brain_is_where_anatomists_expect_it(view, side, seen):
    row, sign = seen
    assert view_axes(view, side)[row] @ (0, 1, 0) == sign


def test_unknown_view_lists_those_that_exist():
    with pytest.raises(UnknownNameError, match="lateral"):
        view_axes("sideways", "left")


def test_normals_of_the_sphere_point_outwards():
    sphere = load_mesh("fsaverage5", "sphere", "left")
    normals = vertex_normals(sphere.coordinates, sphere.faces)
    radial = sphere.coordinates / np.linalg.norm(sphere.coordinates, axis=1, keepdims=True)
    assert ((normals * radial).sum(axis=1) > 0.999).all()
