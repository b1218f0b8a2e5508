"""The slice-stack projectors: against an explicit matrix, exact line integrals, units, threads and memory layouts."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch

from medrecon.errors import MissingDependency, TooLarge, UsageError
from medrecon.physics import backends, ct_matrix, fbp
from medrecon.physics.ct import CTOperator, slices_innermost
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.ct_matrix import joseph_matrix
from medrecon.physics.ct_rays import ray_table
from medrecon.physics.phantoms import EllipsoidPhantom

BEAMS = ["parallel", "fan-flat", "fan-curved"]


def geometry_of(beam: str, shape, spacing, n_views: int = 11, **changes: object) -> CTGeometry:
    if beam == "parallel":
        return CTGeometry.parallel(shape, spacing, n_views, **changes)
    values = {"source_origin": 150.0, "source_detector": 260.0, **changes}
    return CTGeometry.fan(shape, spacing, n_views, detector=beam.removeprefix("fan-"), **values)


def noise(shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def off_centre(beam: str, slices: int) -> CTGeometry:
    """Neither square pixels nor a square slice, an offset detector and a shifted axis."""
    return geometry_of(
        beam,
        (slices, 37, 45),
        (2.0, 1.1, 0.9),
        detector_offset=1.7,
        rotation_shift=-0.8,
        columns=50,
        column_spacing=1.4,
    )


@pytest.mark.parametrize("slices", [1, 7, 8, 40, 64, 65, 130])
@pytest.mark.parametrize("beam", BEAMS)
def test_kernels_equal_the_matrix(beam: str, slices: int):
    geometry = off_centre(beam, slices)
    op = CTOperator(geometry, backend="numba")
    matrix, transpose = (part.to_dense() for part in joseph_matrix(geometry, torch.float64))
    x, y = noise(op.domain.shape), noise(op.range.shape, 1)
    expected = (matrix @ x.double().flatten(1).T).unflatten(0, (11, 50)).transpose(1, 2)
    assert relative(op(x), expected) < 1e-6
    assert torch.equal(transpose, matrix.T)
    pulled = matrix.T @ y.double().transpose(1, 2).flatten(0, 1)
    assert relative(op.adjoint(y), pulled.T.unflatten(1, (37, 45))) < 1e-6


@pytest.mark.parametrize("backend", ["numba", "csr"])
@pytest.mark.parametrize("beam", BEAMS)
def test_adjoint_on_signed_noise(beam: str, backend: str):
    op = CTOperator(off_centre(beam, 9), backend=backend)
    x, y = noise(op.domain.shape), noise(op.range.shape, 1)
    forward, adjoint = op(x).double(), op.adjoint(y).double()
    gap = (forward * y).sum() - (x * adjoint).sum()
    assert abs(float(gap)) <= 1e-7 * float(forward.norm() * y.double().norm())


@pytest.mark.parametrize("beam", BEAMS)
def test_results_are_stored_slices_innermost(beam: str):
    op = CTOperator(off_centre(beam, 5))
    y = op(noise(op.domain.shape))
    x = op.adjoint(y)
    assert y.permute(0, 2, 1).is_contiguous()
    assert x.permute(1, 2, 0).is_contiguous()
    assert slices_innermost(x).data_ptr() == x.data_ptr()


def test_any_memory_layout_gives_the_same_bits():
    op = CTOperator(off_centre("parallel", 6))
    x = noise((6, 37, 45))
    wide = noise((6, 37, 90), 3)
    wide[:, :, ::2] = x
    for other in (slices_innermost(x), wide[:, :, ::2], x.permute(2, 0, 1).contiguous().permute(1, 2, 0)):
        assert torch.equal(op(other), op(x))


# --- against the truth ------------------------------------------------------------------------------------------
ELLIPSES = EllipsoidPhantom(
    centres=np.array([[0.0, 5.0, -8.0], [0.0, -10.0, 20.0]]),
    semi_axes=np.array([[math.inf, 60.0, 80.0], [math.inf, 20.0, 30.0]]),
    rotations=np.array([0.3, 1.0]),
    values=np.array([0.02, 0.01]),
)


def against_ellipses(beam: str, n: int) -> tuple[float, float]:
    """Relative L2 error and ratio of the masses on an n x n grid over 200 mm."""
    shape, spacing = (1, n, n), (1.0, 200 / n, 200 / n)
    changes = {} if beam == "parallel" else {"source_origin": 300.0, "source_detector": 500.0}
    geometry = geometry_of(beam, shape, spacing, 60, **changes)
    found = CTOperator(geometry)(ELLIPSES.rasterise(shape, spacing, (1, 4, 4)))
    truth = ELLIPSES.project(geometry)
    return relative(found, truth), float(found.double().sum() / truth.double().sum())


@pytest.mark.parametrize("beam", BEAMS)
def test_the_error_against_exact_line_integrals_halves_with_the_pixel(beam: str):
    errors, masses = zip(*(against_ellipses(beam, n) for n in (64, 128, 256)), strict=True)
    assert errors[2] <= 0.005
    assert 1.7 < errors[0] / errors[1] < 2.4
    assert 1.7 < errors[1] / errors[2] < 2.4
    assert masses == pytest.approx([1.0, 1.0, 1.0], abs=1e-3)


@pytest.mark.parametrize("beam", BEAMS)
def test_lengths_scale_the_result(beam: str):
    """The same object described in other units: all lengths times ten give ten times the line integrals."""
    small = off_centre(beam, 2)
    values = small.to_dict()
    for name in ("column_spacing", "detector_offset", "rotation_shift", "source_origin", "source_detector"):
        if name in values:
            values[name] *= 10
    values["spacing"] = [10 * s for s in values["spacing"]]
    x = noise((2, 37, 45))
    assert relative(CTOperator(CTGeometry.from_dict(values))(x), 10 * CTOperator(small)(x)) < 1e-6


@pytest.mark.parametrize("beam", BEAMS)
def test_a_point_is_seen_where_the_conventions_say(beam: str):
    geometry = geometry_of(beam, (1, 41, 41), (1.0, 1.0, 1.0), angles=[0.0, math.pi / 2], n_views=None)
    x = torch.zeros(1, 41, 41)
    x[0, 20, 30] = 1.0  # 10 mm to the right
    y = CTOperator(geometry)(x)[:, 0].double()
    centres = (y * torch.from_numpy(geometry.column_positions)).sum(1) / y.sum(1)
    # At a quarter turn the source stands to the right and the point lies on the central ray.
    assert float(centres[0]) == pytest.approx(10 * geometry.magnification, rel=0.01)
    assert float(centres[1]) == pytest.approx(0.0, abs=1e-3)


def test_a_shift_of_the_axis_equals_a_shift_of_the_detector_for_parallel_beams():
    x = noise((1, 37, 45))
    shape = {"shape": (1, 37, 45), "spacing": (1.0, 1.0, 1.0), "n_views": 6, "columns": 70}
    one = CTOperator(CTGeometry.parallel(**shape, rotation_shift=2.3))(x)
    other = CTOperator(CTGeometry.parallel(**shape, detector_offset=-2.3))(x)
    assert relative(one, other) < 1e-6


def test_rays_beside_the_slice_are_zero():
    geometry = CTGeometry.parallel((2, 16, 16), (1.0, 1.0, 1.0), 8, columns=60)
    y = CTOperator(geometry)(torch.ones(2, 16, 16))
    lateral = np.abs(geometry.column_positions)
    assert (y[:, :, lateral > geometry.radius + 1] == 0).all()
    assert (y[:, :, lateral < 7] > 0).all()


def test_single_pixels_rows_and_views():
    for shape in ((1, 1, 1), (3, 1, 9), (2, 9, 1)):
        geometry = CTGeometry.parallel(shape, (1.0, 2.0, 2.0), 1, columns=25)
        op = CTOperator(geometry)
        assert float(op(torch.ones(shape)).sum()) > 0
        x, y = noise(shape), noise(op.range.shape, 1)
        assert float((op(x) * y).sum()) == pytest.approx(float((x * op.adjoint(y)).sum()), abs=1e-4)


# --- how it is run ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("beam", BEAMS)
def test_threads_change_no_bit(beam: str):
    op = CTOperator(off_centre(beam, 70))
    x, y = noise(op.domain.shape), noise(op.range.shape, 1)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append((op(x), op.adjoint(y)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, results[0][0]) and torch.equal(b, results[0][1]) for a, b in results)


def test_two_python_threads_may_call_at_once():
    op = CTOperator(off_centre("fan-flat", 20))
    x = noise(op.domain.shape)
    expected = op(x)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(result, expected) for result in pool.map(op, [x] * 16))


def test_slices_do_not_touch_each_other():
    """A slice's data have the same bits whatever slices surround it in its chunk."""
    op = CTOperator(off_centre("parallel", 70))
    alone = CTOperator(off_centre("parallel", 64))
    x = noise((70, 37, 45))
    assert torch.equal(op(x)[:, :64], alone(x[:64]))
    assert not op.couples_slices


def test_gradients_are_adjoints():
    op = CTOperator(off_centre("fan-curved", 3))
    x = noise(op.domain.shape).requires_grad_()
    y = noise(op.range.shape, 1)
    residual = op(x) - y
    (0.5 * residual.square().sum()).backward()
    assert x.grad is not None
    assert relative(x.grad, op.adjoint(residual.detach())) < 1e-6


def test_without_numba_the_matrix_takes_over(monkeypatch: pytest.MonkeyPatch):
    geometry = off_centre("fan-flat", 3)
    x, y = noise(geometry.shape), noise(geometry.data_shape, 1)
    expected, filtered = CTOperator(geometry)(x), fbp.fbp(geometry, y)
    for module in (backends, fbp):
        monkeypatch.setattr(module, "has_numba", lambda: False)
    assert relative(CTOperator(geometry)(x), expected) < 1e-6
    assert relative(fbp.fbp(geometry, y), filtered) < 1e-5
    with pytest.raises(MissingDependency, match="numba"):
        CTOperator(geometry, backend="numba")


def test_unknown_backends_and_huge_matrices_are_refused(monkeypatch: pytest.MonkeyPatch):
    geometry = off_centre("parallel", 1)
    with pytest.raises(UsageError, match="unknown CT backend"):
        CTOperator(geometry, backend="cuda")
    monkeypatch.setattr(ct_matrix, "MAX_ENTRIES", 100)
    with pytest.raises(TooLarge, match="numba"):
        CTOperator(geometry, backend="csr")(noise(geometry.shape))


@pytest.mark.parametrize("beam", BEAMS)
def test_the_ray_table_holds_every_ray_that_meets_the_slice_once(beam: str):
    table = ray_table(off_centre(beam, 1))
    index = np.concatenate([rays.index for rays in table])
    assert len(np.unique(index)) == len(index)
    for rays in table:
        assert (np.abs(rays.slope) <= 1.0).all()
        middle = rays.position + rays.slope * rays.first
        assert ((middle > -1 - 1e-6) & (middle < rays.width + 1e-6)).all()


@pytest.mark.cuda
def test_the_matrix_works_on_a_cuda_device():
    if not torch.cuda.is_available():
        pytest.skip("CUDA device needed")
    op = CTOperator(off_centre("fan-flat", 5))
    x, y = noise(op.domain.shape), noise(op.range.shape, 1)
    assert relative(op(x.cuda()).cpu(), op(x)) < 1e-5
    assert relative(op.adjoint(y.cuda()).cpu(), op.adjoint(y)) < 1e-5


@pytest.mark.parametrize("count", [1, 2, 4, 7, 50])
@pytest.mark.parametrize("backend", ["auto", "csr"])
def test_subsets_of_views_are_the_rows_of_the_operator(count: int, backend: str):
    """Each view in exactly one subset, measured as the whole operator measures it; views in any order."""
    angles = [2.0, 0.1, 1.5, 0.7, 3.0, 2.6, 1.0]
    op = CTOperator(CTGeometry.parallel((3, 9, 8), (1.0, 1.0, 1.0), angles=angles), backend)
    x = torch.rand(3, 9, 8, generator=torch.Generator().manual_seed(0))
    subsets = op.view_subsets(count)
    assert len(subsets) == min(count, 7)
    assert sorted(view for views, _ in subsets for view in views) == list(range(7))
    assert max(len(views) for views, _ in subsets) - min(len(views) for views, _ in subsets) <= 1
    for views, part in subsets:
        torch.testing.assert_close(part(x), op(x)[views], atol=1e-6, rtol=1e-6)


def test_subsets_that_follow_each_other_lie_far_apart():
    """One view each: no two neighbours of 16 views come one after the other."""
    op = CTOperator(CTGeometry.parallel((1, 8, 8), (1.0, 1.0, 1.0), 16))
    order = [views[0] for views, _ in op.view_subsets(16)]
    steps = [min((a - b) % 16, (b - a) % 16) for a, b in pairwise(order)]
    assert min(steps) >= 3
