"""What every registered operator promises beyond test_linop.py: threads change no bit, and the norm is the norm."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
import torch

import medrecon.physics
from helpers.operators import as_matrix
from medrecon.physics.linop import LinearOperator, operators

for _module in pkgutil.iter_modules(medrecon.physics.__path__, "medrecon.physics."):
    importlib.import_module(_module.name)


@pytest.fixture(params=operators.names())
def op(request: pytest.FixtureRequest) -> LinearOperator:
    return operators.entry(request.param).meta["example"]()


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_number_of_threads_changes_no_bit(op: LinearOperator, threads):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(op.domain.shape, dtype=op.domain.dtype, generator=generator)
    y = torch.randn(op.range.shape, dtype=op.range.dtype, generator=generator)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append((op(x), op.adjoint(y)))
    for forward, adjoint in results[1:]:
        assert torch.equal(forward, results[0][0])
        assert torch.equal(adjoint, results[0][1])


def test_the_norm_is_the_largest_singular_value(op: LinearOperator):
    dense = torch.linalg.matrix_norm(as_matrix(op), 2)
    assert op.norm(tolerance=1e-5, max_iterations=1000) == pytest.approx(float(dense), rel=1e-3)
