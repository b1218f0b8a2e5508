"""Checkpoints: exact, complete or refused, and never a worse file than the one before."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.problems import projection_problem
from medrecon import checkpoint as checkpoint_module
from medrecon.checkpoint import Progress, RunKey, empty_progress, load_progress, run_key, save_progress
from medrecon.errors import MedreconError, ResumeError
from medrecon.physics.noise import GaussianNoise
from medrecon.samplers import State

KEY = RunKey("abc", (1.0, -2.0))


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def progress() -> Progress:
    """Tensors of several shapes, types and layouts, two of which share memory."""
    x = noise((3, 4, 5))
    tensors = {
        "x": x,
        "same": x,
        "innermost": noise((4, 5, 3)).permute(2, 0, 1),
        "dual": noise((4, 5, 3, 3), 1).permute(3, 2, 0, 1),
        "weight": torch.tensor(0.1, dtype=torch.float64),
        "complex": noise((2, 2)).to(torch.complex64),
        "one_slice": noise((1, 4, 5)),
    }
    return Progress(2, State(7, x + 1, tensors), noise((3, 4, 5), 2), noise((3, 4, 5), 3).abs())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / ".out.nii.gz.checkpoint"
    save_progress(path, KEY, progress())
    return path


def test_round_trip_is_exact(saved: Path):
    """Values, types and memory order: sums run in memory order, so another order would round otherwise."""
    wanted, found = progress(), load_progress(saved, KEY)
    assert (found.sample, found.state.step) == (2, 7)
    assert torch.equal(found.mean, wanted.mean)
    assert torch.equal(found.deviations, wanted.deviations)
    assert torch.equal(found.state.estimate, wanted.state.estimate)
    assert found.state.tensors.keys() == wanted.state.tensors.keys()
    for name, value in wanted.state.tensors.items():
        assert found.state.tensors[name].dtype == value.dtype
        assert torch.equal(found.state.tensors[name], value)
        assert found.state.tensors[name].stride() == value.stride(), name


def test_only_one_file_is_left(saved: Path):
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("other", [RunKey("abd", (1.0, -2.0)), RunKey("abc", (1.0, -2.01)), RunKey("abc")], ids=str)
def test_the_checkpoint_of_another_run_is_refused(saved: Path, other: RunKey):
    with pytest.raises(ResumeError, match=r"checkpoint: the checkpoint belongs to another run.*Delete it") as caught:
        load_progress(saved, other)
    assert caught.value.exit_code == 3


def test_rounding_of_the_fingerprint_is_forgiven(saved: Path):
    assert load_progress(saved, RunKey("abc", (1.00001, -2.00001))).sample == 2


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(saved: Path, share: float):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ResumeError, match=r"damaged.*Delete it to start afresh"):
        load_progress(saved, KEY)


def header_length(content: bytes) -> int:
    return 8 + struct.unpack("<Q", content[:8])[0]


def test_no_flipped_bit_goes_unnoticed(saved: Path):
    """Each byte of the header and every 13th of the data, one bit each: refused, as damaged or as another run's.

    Spaces that pad the header may change into other white space without changing its meaning.
    """
    content = saved.read_bytes()
    end = header_length(content)
    unnoticed = []
    for position in [*range(end), *range(end, len(content), 13)]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 7)
        saved.write_bytes(damaged)
        try:
            load_progress(saved, KEY)
        except ResumeError:
            continue
        unnoticed.append(position)
    padding = len(content[:end]) - len(content[:end].rstrip(b" "))
    assert [p for p in unnoticed if p < end - padding or p >= end] == []


def test_a_changed_step_is_noticed(saved: Path):
    """A consistent edit of the header, which the hash of the tensors alone would not see."""
    content = saved.read_bytes()
    assert content.count(b'"step":"7"') == 1
    saved.write_bytes(content.replace(b'"step":"7"', b'"step":"3"'))
    with pytest.raises(ResumeError, match="damaged"):
        load_progress(saved, KEY)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b" + bytes(100), struct.pack("<Q", 2) + b"{}"])
def test_a_foreign_file_is_refused(saved: Path, content: bytes):
    saved.write_bytes(content)
    with pytest.raises(ResumeError, match="damaged"):
        load_progress(saved, KEY)


def test_an_older_format_is_refused(saved: Path):
    content = saved.read_bytes()
    name = checkpoint_module._FORMAT.encode()
    saved.write_bytes(content.replace(name, name[:-1] + b"0"))
    with pytest.raises(ResumeError):
        load_progress(saved, KEY)


def test_a_failed_save_keeps_the_old_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch):
    """The disk fills up while the new one is written: the old one is whole, and nothing else is left."""
    before = saved.read_bytes()

    def full(tensors: object, target: Path, metadata: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(MedreconError, match="disk is full"):
        save_progress(saved, KEY, replace(progress(), sample=3))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


# --- keys --------------------------------------------------------------------------------------------------


def test_the_key_knows_description_and_data():
    y = noise((2, 3))
    key = run_key({"seed": 0, "method": "tv"}, [y])
    assert run_key({"method": "tv", "seed": 0}, [y.clone()]) == key
    assert run_key({"seed": 1, "method": "tv"}, [y]) != key
    assert run_key({"seed": 0, "method": "tv"}, [y + 1e-6]) != key
    assert json.dumps(key.digest)


def test_the_key_does_not_depend_on_the_layout_of_the_data():
    y = noise((2, 3, 4))
    assert run_key({}, [y.permute(1, 2, 0).contiguous().permute(2, 0, 1)]) == run_key({}, [y])


def test_the_fingerprint_knows_what_else_decides_the_result():
    """Operator, noise model, units and bounds; the same problem made twice has the same one."""
    problem = projection_problem()

    def key(p: object) -> RunKey:
        return RunKey("", p.system().fingerprint())  # type: ignore[attr-defined]

    assert key(projection_problem()).belongs_to(key(problem))
    others = [
        replace(problem, op=1.001 * problem.op),
        replace(problem, noise_model=GaussianNoise(0.051)),
        replace(problem, noise_model=None),
        replace(problem, lower_bound=None),
        replace(problem, lower_bound=0.1),
        replace(problem, op=projection_problem(views=6, sigma=0.05).op @ _shifted(problem)),
    ]
    for other in others:
        assert not key(other).belongs_to(key(problem))


def _shifted(problem: object):
    """A volume whose last two columns are swapped: the same norm, nearly the same data."""
    from helpers.operators import MatrixOperator

    shape = problem.op.domain.shape  # type: ignore[attr-defined]
    order = torch.arange(torch.Size(shape).numel()).reshape(shape)
    order[..., -4:-2] = order[..., -4:-2].flip(-1)
    return MatrixOperator(torch.eye(order.numel())[order.reshape(-1)], shape, shape)


# --- running mean and spread -------------------------------------------------------------------------------


def test_mean_and_spread_of_the_samples():
    """Against numpy in double precision, for values whose spread is a millionth of their size squared."""
    draws = 1.0 + 1e-3 * noise((6, 3, 4, 5)).double()
    state = State(0, torch.zeros(3, 4, 5))
    done = empty_progress((3, 4, 5), state)
    for draw in draws.float():
        done = done.finished(draw)
    assert done.sample == 6
    torch.testing.assert_close(done.mean.double(), draws.mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(done.spread().double(), draws.std(0), rtol=1e-3, atol=1e-7)


def test_equal_samples_have_no_spread_at_all():
    done = empty_progress((3, 4, 5), State(0, torch.zeros(3, 4, 5)))
    for _ in range(5):
        done = done.finished(noise((3, 4, 5)))
    assert torch.equal(done.spread(), torch.zeros(3, 4, 5))
    assert torch.equal(done.mean, noise((3, 4, 5)))
