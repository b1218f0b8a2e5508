"""What is said of an error: the same at the terminal and in the viewer."""

from __future__ import annotations

from medrecon.errors import MedreconError


def said_of(error: Exception) -> str:
    """One line for errors raised on purpose and for want of memory; for any other, that it is a defect."""
    if isinstance(error, MedreconError):
        return f"error: {error}"
    if _is_out_of_memory(error):
        return "error: out of memory. Try a coarser grid (--voxel, --shape), and --dry-run before."
    text = str(error).strip().split("\n")[0]
    return (
        f"unexpected {type(error).__name__}: {text}\n"
        "This is a defect of medrecon; run the same command with --debug and report what it prints."
    )


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "out of memory" in str(error))
    )
