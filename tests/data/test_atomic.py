"""Files appear whole or not at all: failures midway, a full disk, races, kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medrecon.data.atomic import Transaction, _temporary_name, atomic_write, check_target, final_name, sha256_of_file
from medrecon.errors import MedreconError, UsageError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_writes_and_leaves_nothing_else(tmp_path):
    seen = []

    def writer(path: Path) -> None:
        seen.append((path.parent, final_name(path)))
        path.write_bytes(b"new")

    assert atomic_write(tmp_path / "a.nii.gz", writer) == tmp_path / "a.nii.gz"
    assert (tmp_path / "a.nii.gz").read_bytes() == b"new"
    assert names(tmp_path) == ["a.nii.gz"]
    assert seen == [(tmp_path, "a.nii.gz")]


def test_existing_output_is_refused_before_writing(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(UsageError, match="a: the output exists"):
        atomic_write(tmp_path / "a", lambda path: pytest.fail("must not be called"))
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("mode", [0o640, 0o444])
def test_overwrite_replaces_and_keeps_the_mode(tmp_path, mode):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    target.chmod(mode)
    atomic_write(target, lambda path: path.write_bytes(b"new") and None, overwrite=True)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("failure", [ValueError("bug"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_failing_writer_harms_nothing(tmp_path, existing, failure):
    target = tmp_path / "a"
    if existing:
        target.write_bytes(b"old")

    def writer(path: Path) -> None:
        path.write_bytes(b"half")
        raise failure

    expected = MedreconError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected) as info:
        atomic_write(target, writer, overwrite=True)
    assert names(tmp_path) == (["a"] if existing else [])
    if existing:
        assert target.read_bytes() == b"old"
    if isinstance(failure, OSError):
        assert "disk is full" in str(info.value) and str(tmp_path) not in str(info.value)


def test_file_that_appears_meanwhile_is_kept(tmp_path):
    target = tmp_path / "a"

    def writer(path: Path) -> None:
        path.write_bytes(b"mine")
        target.write_bytes(b"theirs")

    with pytest.raises(UsageError, match="meanwhile"):
        atomic_write(target, writer)
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a"]


def test_links_are_replaced_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("precious")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("link", "dangling"):
        with pytest.raises(UsageError):
            atomic_write(tmp_path / name, lambda path: path.write_bytes(b"x") and None)
        atomic_write(tmp_path / name, lambda path: path.write_bytes(b"new") and None, overwrite=True)
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


def test_unusable_targets(tmp_path):
    (tmp_path / "folder").mkdir()
    for path, text in [
        (tmp_path / "no" / "a", "folder for the output"),
        (tmp_path / "folder", "a folder has this name"),
    ]:
        with pytest.raises(UsageError, match=text):
            check_target(path, overwrite=True)


def test_read_only_folder(tmp_path):
    if os.geteuid() == 0:
        folder = Path("/proc")  # root may write anywhere else
    else:
        folder = tmp_path
        folder.chmod(0o500)
    with pytest.raises(MedreconError, match="could not write"):
        atomic_write(folder / "a", lambda path: path.write_bytes(b"x") and None)


def test_transaction_is_all_or_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"old a")
    (tmp_path / "a.json").write_bytes(b"old json")
    with pytest.raises(RuntimeError), Transaction(overwrite=True) as both:
        both.write(tmp_path / "a", lambda path: path.write_bytes(b"new a") and None)
        both.write(tmp_path / "a.json", lambda path: path.write_bytes(b"new json") and None)
        raise RuntimeError
    assert (tmp_path / "a").read_bytes() == b"old a" and (tmp_path / "a.json").read_bytes() == b"old json"
    with Transaction(overwrite=True) as both:
        both.write(tmp_path / "a", lambda path: path.write_bytes(b"new a") and None)
        both.write(tmp_path / "a.json", lambda path: path.write_bytes(b"new json") and None)
        both.commit()
    assert (tmp_path / "a").read_bytes() == b"new a" and (tmp_path / "a.json").read_bytes() == b"new json"
    assert names(tmp_path) == ["a", "a.json"]


LIMITED = """
import resource, sys
from pathlib import Path
import file_examples as examples
import numpy as np
from medrecon.data import Geometry, Volume, write
from medrecon.errors import MedreconError
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.data.scan import Scan

folder, name, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
grid = Geometry.from_spacing((40, 50, 60), (1, 1, 1))
rng = np.random.default_rng(0)
if what == "scan":
    geometry = CTGeometry.parallel(grid.shape, grid.spacing, 30)
    content = Scan(rng.normal(size=geometry.data_shape).astype(np.float32), geometry.to_dict(), grid)
else:
    content = Volume(rng.normal(size=grid.shape).astype(np.float32), grid, "HU")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write(folder / name, content, overwrite=True)
except MedreconError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(
    ("name", "what"), [("a.nii", "volume"), ("a.nii.gz", "volume"), ("a.h5", "volume"), ("scan.h5", "scan")]
)
def test_full_disk_keeps_the_old_file(tmp_path, name, what):
    """A limit on the size of files acts like a disk that fills up while the file is written."""
    pytest.importorskip("resource")
    (tmp_path / name).write_bytes(b"old")
    (tmp_path / "a.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), name, what],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]) + os.pathsep + os.environ.get("PYTHONPATH", ""),
        },
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{name}: could not write: the file would exceed the size limit" in done.stdout
    assert "Traceback" not in done.stderr
    assert (tmp_path / name).read_bytes() == b"old"
    assert names(tmp_path) == sorted({name, "a.json"})


ENDLESS = """
import sys
from pathlib import Path
from medrecon.data.atomic import atomic_write
target = Path(sys.argv[1])
for n in range(10**9):
    atomic_write(target, lambda path: path.write_bytes(bytes([n % 256]) * 2_000_000) and None, overwrite=True)
    if n == 0:
        print("ready", flush=True)
"""


def test_killed_writers_leave_a_whole_file(tmp_path):
    target = tmp_path / "a"
    for attempt in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(target)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.003 * attempt)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        content = target.read_bytes()
        assert len(content) == 2_000_000 and len(set(content)) == 1
    for leftover in names(tmp_path):
        assert leftover == "a" or (leftover.startswith(".a.") and leftover.endswith(".part"))


def test_companion_of_a_file_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(UsageError, match="meanwhile"), Transaction() as both:
        both.write(tmp_path / "a", lambda path: path.write_bytes(b"mine") and None)
        both.write(tmp_path / "a.json", lambda path: path.write_bytes(b"mine") and None, replace=True)
        (tmp_path / "a").write_bytes(b"theirs")
        (tmp_path / "a.json").write_bytes(b"theirs")
        both.commit()
    assert names(tmp_path) == ["a", "a.json"]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "a.json").read_bytes() == b"theirs"


def test_sha256_of_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- permissions, and what killed writers leave ------------------------------------------------------------------


def private(path: Path) -> None:
    """What safetensors does: a file that only its owner can read."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    path.chmod(0o600)


@pytest.mark.skipif(os.name == "nt", reason="no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
@pytest.mark.parametrize("writer", [private, lambda path: path.write_bytes(b"x")])
def test_new_files_have_the_permissions_that_the_umask_leaves(tmp_path, umask, mode, writer):
    before = os.umask(umask)
    try:
        with Transaction() as both:
            both.write(tmp_path / "a", writer)
            both.write(tmp_path / "a.json", writer)
            both.commit()
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a.json")] == [mode, mode]
    assert names(tmp_path) == ["a", "a.json"]


def write_a(folder: Path) -> None:
    atomic_write(folder / "a", lambda path: path.write_bytes(b"new") and None, overwrite=True)


def test_the_next_write_removes_what_a_killed_writer_left(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from medrecon.data.atomic import atomic_write\n"
        "def die(path): path.write_bytes(b'half'); os.kill(os.getpid(), 9)\n"
        "atomic_write(Path(sys.argv[1]), die)"
    )
    folder = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], cwd=folder, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    (leftover,) = names(tmp_path)
    assert leftover.startswith(".a.") and leftover.endswith(".part")
    atomic_write(tmp_path / "b", lambda path: path.write_bytes(b"b") and None)
    assert names(tmp_path) == [leftover, "b"]  # that of another target
    write_a(tmp_path)
    assert names(tmp_path) == ["a", "b"]


def test_parts_of_writers_that_may_live_are_kept(tmp_path):
    """This process's own, one of another machine, and names that only look alike."""
    ours = _temporary_name(tmp_path / "a").name
    elsewhere = f".a.{'0' * 8}-{2**22 + 1}-00000000.part"  # beyond the largest number of a process
    here = ours.split(".")[2].split("-")[0]
    kept = [ours, elsewhere, f".aa.{here}-{2**22 + 1}-00000000.part", f".a.{here}.part", ".a.part", "a.part"]
    for name in kept:
        (tmp_path / name).write_bytes(b"x")
    dead = tmp_path / f".a.{here}-{2**22 + 1}-00000000.part"
    dead.write_bytes(b"x")
    write_a(tmp_path)
    assert names(tmp_path) == sorted([*kept, "a"])


def test_parts_that_stand_still_for_a_day_are_removed_whoever_wrote_them(tmp_path):
    young, old = (tmp_path / f".a.{digit * 8}-1-{digit * 8}.part" for digit in "01")
    for path, hours in ((young, 23), (old, 25)):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - hours * 3600,) * 2)
    write_a(tmp_path)
    assert names(tmp_path) == sorted(["a", young.name])


def test_temporary_names_lead_back_to_the_target(tmp_path):
    for name in ("a.nii.gz", "b", "c.part", ".hidden"):
        assert final_name(_temporary_name(tmp_path / name)) == name
