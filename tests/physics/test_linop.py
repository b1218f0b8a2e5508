"""The algebra of linear operators against dense matrices, and contract tests over every registered operator."""

from __future__ import annotations

import pytest
import torch

import medrecon.physics.ct  # registers the CT operators
import medrecon.physics.mri  # and those of MRI
from helpers.operators import MaskedHartley, MatrixOperator, SliceProjector, as_matrix
from medrecon.errors import InputError
from medrecon.physics.linop import Diagonal, Identity, LinearOperator, Space, operators, stack

_ = medrecon.physics.ct, medrecon.physics.mri


def random_matrix(rows: int, columns: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn((rows, columns), dtype=dtype, generator=torch.Generator().manual_seed(seed))


def matrix_operator(dtype: torch.dtype = torch.float64, seed: int = 0) -> MatrixOperator:
    return MatrixOperator(random_matrix(10, 24, dtype, seed), (2, 3, 4), (5, 2))


def signed(space: Space, seed: int) -> torch.Tensor:
    return torch.randn(space.shape, dtype=space.dtype, generator=torch.Generator().manual_seed(seed))


def dot(a: torch.Tensor, b: torch.Tensor) -> complex:
    """``sum(conj(a) * b)`` in double precision."""
    kind = torch.complex128 if a.is_complex() else torch.float64
    return complex((a.to(kind).conj() * b.to(kind)).sum())


def length(a: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(a.to(torch.complex128 if a.is_complex() else torch.float64)))


EXAMPLES = {
    "matrix-f64": lambda: matrix_operator(),
    "matrix-c128": lambda: matrix_operator(torch.complex128),
    "matrix-c64": lambda: matrix_operator(torch.complex64),
    "adjoint": lambda: matrix_operator(torch.complex128).H,
    "gram": lambda: matrix_operator(torch.complex128).gram,
    "scaled": lambda: (2 - 3j) * matrix_operator(torch.complex128),
    "weighted": lambda: matrix_operator(torch.complex128) * random_matrix(5, 2, torch.complex128, 3),
    "broadcast": lambda: matrix_operator() * random_matrix(5, 1, torch.float64, 3),
    "sum": lambda: matrix_operator(torch.complex128) + matrix_operator(torch.complex128, 1),
    "product": lambda: (
        matrix_operator(torch.complex128, 1)
        @ matrix_operator(torch.complex128).H
        @ matrix_operator(torch.complex128, 2)
    ),
    "stack": lambda: stack([matrix_operator(torch.complex128), matrix_operator(torch.complex128, 1).gram]),
    "identity": lambda: Identity(Space((3, 2))),
    "projector": lambda: SliceProjector((3, 6, 5)),
    "hartley": lambda: MaskedHartley((3, 6, 5), torch.tensor([0, 2, 3])),
}
CONTRACT = EXAMPLES | {entry.name: entry.meta["example"] for entry in operators}


@pytest.fixture(params=list(CONTRACT), scope="module")
def op(request: pytest.FixtureRequest) -> LinearOperator:
    return CONTRACT[request.param]()


def tolerance(op: LinearOperator) -> float:
    """Rounding of one application, relative to the lengths: 1e-6 in single, 1e-12 in double precision."""
    single = {op.domain.dtype, op.range.dtype} & {torch.float32, torch.complex64}
    return 1e-6 if single else 1e-12


# --- contract: helpers, compositions and every registered operator -----------------------------------------


def test_every_registered_operator_has_an_example():
    assert {"ct-parallel", "ct-fan-flat", "ct-fan-curved"} <= set(operators.names())
    assert all(callable(entry.meta.get("example")) for entry in operators)


def test_the_adjoint_is_exact(op: LinearOperator):
    """``<Ax, y> = <x, A'y>`` on signed noise, relative to the lengths of both sides."""
    x, y = signed(op.domain, 1), signed(op.range, 2)
    forward, backward = op(x), op.adjoint(y)
    scale = min(length(forward) * length(y), length(x) * length(backward))
    real_only = not (op.domain.dtype.is_complex and op.range.dtype.is_complex)
    error = dot(forward, y) - dot(x, backward)
    assert abs(error.real if real_only else error) <= tolerance(op) * scale


def test_linear(op: LinearOperator):
    a, b = signed(op.domain, 1), signed(op.domain, 2)
    together, apart = op(2 * a - 3 * b), 2 * op(a) - 3 * op(b)
    assert length(together - apart) <= 10 * tolerance(op) * length(apart)


def test_shapes_and_dtypes_of_the_results(op: LinearOperator):
    y = op(signed(op.domain, 1))
    assert (tuple(y.shape), y.dtype) == (tuple(op.range.shape), op.range.dtype)
    x = op.adjoint(signed(op.range, 1))
    assert (tuple(x.shape), x.dtype) == (tuple(op.domain.shape), op.domain.dtype)


def test_the_inputs_stay_as_they_are(op: LinearOperator):
    x, y = signed(op.domain, 1), signed(op.range, 2)
    copies = x.clone(), y.clone()
    op(x), op.adjoint(y)
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])


def test_twice_the_same_bits(op: LinearOperator):
    x, y = signed(op.domain, 1), signed(op.range, 2)
    assert torch.equal(op(x), op(x))
    assert torch.equal(op.adjoint(y), op.adjoint(y))


def test_the_result_does_not_depend_on_the_memory_layout(op: LinearOperator):
    """Reversed strides, and a view into a larger tensor; layouts may change rounding only."""
    for space, apply in ((op.domain, op), (op.range, op.adjoint)):
        x = signed(space, 3)
        reverse = tuple(reversed(range(x.ndim)))
        reordered = x.permute(reverse).contiguous().permute(reverse)
        padded = torch.zeros([n + 1 for n in x.shape], dtype=x.dtype)
        view = padded[tuple(slice(1, None) for _ in x.shape)]
        view.copy_(x)
        for same in (reordered, view):
            assert length(apply(same) - apply(x)) <= 10 * tolerance(op) * length(apply(x))


def test_the_gradient_is_the_adjoint(op: LinearOperator):
    """Of ``1/2 ||Ax - y||^2``: ``A'(Ax - y)``; and the same through the adjoint."""
    for apply, back in ((op, op.adjoint), (op.adjoint, op)):
        source = op.domain if apply is op else op.range
        x = signed(source, 1).requires_grad_()
        residual = apply(x) - torch.ones_like(apply(x).detach())
        loss = 0.5 * (residual * residual.conj()).real.sum()
        (gradient,) = torch.autograd.grad(loss, x)
        expected = back(residual.detach())
        assert length(gradient - expected) <= 10 * tolerance(op) * length(expected)


@pytest.mark.parametrize("side", ["forward", "adjoint"])
def test_other_shapes_ranks_and_dtypes_are_refused(op: LinearOperator, side: str):
    space, apply = (op.domain, op) if side == "forward" else (op.range, op.adjoint)
    x = signed(space, 1)
    pairs = [(torch.float32, torch.float64), (torch.complex64, torch.complex128)]
    other = next(a if x.dtype == b else b for a, b in pairs if x.dtype in (a, b))
    for wrong in (x[None], x[..., :-1], x.reshape(-1)[1:], x.to(other)):
        with pytest.raises(InputError, match=r"wrong (shape|dtype)"):
            apply(wrong)


def test_the_norm_bounds_every_image(op: LinearOperator):
    """Lanczos values approach the largest singular value from below; 0.1 % is left to their stopping rule."""
    x = signed(op.domain, 5)
    for _ in range(3):
        x = op.adjoint(op(x / length(x)))
    assert length(op(x / length(x))) <= 1.001 * op.norm()


# --- against dense matrices --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_the_norm_is_the_largest_singular_value(name: str):
    op = EXAMPLES[name]()
    assert op.norm() == pytest.approx(float(torch.linalg.matrix_norm(as_matrix(op), ord=2)), rel=1e-3)


def test_the_norm_of_a_crowded_spectrum_takes_few_steps(monkeypatch: pytest.MonkeyPatch):
    """Hundreds of singular values near the largest: power iteration would need a hundred steps."""
    op = Diagonal(Space((4000,)), 1 - 0.1 * torch.linspace(0, 1, 4000) ** 0.5)
    calls, normal = [], op._normal
    monkeypatch.setattr(op, "_normal", lambda x: calls.append(0) or normal(x))
    assert op.norm() == pytest.approx(1, rel=2e-3) and len(calls) < 25


def test_the_norm_of_nothing_is_zero():
    assert (0.0 * matrix_operator()).norm() == 0.0


def test_compositions_are_matrix_products():
    a, b = matrix_operator(torch.complex128), matrix_operator(torch.complex128, 1)
    A, B = a.matrix, b.matrix
    cases = [
        (a.H, A.conj().T),
        (a.gram, A.conj().T @ A),
        ((2 - 3j) * a, (2 - 3j) * A),
        (a * 2.0, 2 * A),
        (a + b, A + B),
        (a @ b.H, A @ B.conj().T),
        (stack([a, b]), torch.cat([A, B])),
    ]
    for op, expected in cases:
        torch.testing.assert_close(as_matrix(op), expected)
        torch.testing.assert_close(as_matrix(op.H), expected.conj().T)
    assert a.H.H is a


def test_what_does_not_fit_is_refused():
    a = matrix_operator()
    with pytest.raises(InputError, match="do not fit"):
        a @ a
    with pytest.raises(InputError, match="differ in their spaces"):
        a + a.H
    with pytest.raises(InputError, match="to stack differ"):
        stack([a, a.H])
    with pytest.raises(InputError, match="factors do not fit"):
        Diagonal(Space((2, 3)), torch.ones(4, 2, 3))
    with pytest.raises(InputError, match="factors do not fit"):
        Diagonal(Space((2, 3)), torch.ones(2, 1, 3))


def test_what_couples_slices():
    free, coupled = SliceProjector((2, 4, 4)), matrix_operator(torch.float32)
    assert not (2.0 * free).couples_slices
    assert not free.H.couples_slices
    assert not free.gram.couples_slices
    assert coupled.gram.couples_slices
    assert (2.0 * coupled).couples_slices
    assert (free.gram + MatrixOperator(torch.eye(32), (2, 4, 4), (2, 4, 4))).couples_slices


@pytest.mark.parametrize(
    "entry", [e for e in operators if not e.meta["example"]().couples_slices], ids=lambda e: e.name
)
def test_an_operator_that_says_so_keeps_slices_apart(entry):
    """A change of the first slice reaches, through the data, the first slice alone."""
    op = entry.meta["example"]()
    x = signed(op.domain, 1)
    changed = x.clone()
    changed.select(-3, 0).add_(1)
    back = op.adjoint(op(changed) - op(x)).abs().movedim(-3, 0).reshape(x.shape[-3], -1)
    reached = back.amax(dim=1) > 0
    assert reached.tolist() == [True] + [False] * (x.shape[-3] - 1)


def test_the_normal_operator_is_forward_then_adjoint(op: LinearOperator):
    """Operators may take a shorter way; finufft's own accuracy, 1e-6, shows in one that goes by convolution."""
    x = signed(op.domain, 1)
    expected = op.adjoint(op(x))
    assert length(op.normal(x) - expected) <= 10 * tolerance(op) * length(expected)
