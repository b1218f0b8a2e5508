"""Draw docs/figures/architectures.png: networks that were trained alike from the start, quality against core-minutes.

    python docs/make_architecture_curve.py [CARD.json ...]

With cards of finished trainings their histories are first written to docs/results/architectures.jsonl; without, the
recorded ones are drawn. The last figures of each go to stdout as a Markdown table, for docs/training.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from medrecon.prior import read_card

DOCS = Path(__file__).resolve().parent
RECORDS = DOCS / "results" / "architectures.jsonl"
OUTPUT = DOCS / "figures" / "architectures.png"
SHOWN = (("psnr", "0.2"), ("psnr", "1"), ("guided_psnr", "0.2"), ("guided_psnr", "1"), ("guided_psnr", "quiet"))
TITLES = {"psnr": "without a guide", "guided_psnr": "with a guide"}


def record(card: str) -> dict:
    """What is kept of a training: its name, its network and its checks."""
    found = read_card(card)
    training = found.training
    keys = ("step", "cpu_seconds", "psnr", "guided_psnr")
    return {
        "name": found.name, "widths": training["settings"]["widths"], "guides": training["settings"]["guides"],
        "parameters": training["parameters"], "pairs": training["pairs"], "steps": training["steps"],
        "core_minutes": training["cpu_seconds"] / 60,
        "history": [{key: entry[key] for key in keys} for entry in training["history"] if "psnr" in entry],
    }  # fmt: skip


def label(level: str) -> str:
    """Of a column: noise levels are numbers, ``quiet`` is a name."""
    return f"sigma {level}" if level[0].isdigit() else level


def table(records: list[dict]) -> str:
    """The last check of each as Markdown."""
    columns = [f"{label(level)}, {TITLES[kind]}" for kind, level in SHOWN]
    lines = [f"| network | widths | guide slices | parameters | steps | core-minutes | {' | '.join(columns)} |"]
    lines.append(f"|{'---|' * (6 + len(columns))}")
    for found in records:
        last = found["history"][-1]
        cells = [found["name"], ", ".join(map(str, found["widths"])), str(found["guides"])]
        cells += [f"{found['parameters'] / 1e6:.1f} M", str(found["steps"]), f"{found['core_minutes']:.0f}"]
        cells += [f"{last[kind][level]:.2f}" for kind, level in SHOWN]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(records: list[dict]) -> None:
    """One panel for each figure, one line for each network."""
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(3.4 * len(SHOWN), 3.4), squeeze=False, layout="constrained")
    for ax, (kind, level) in zip(axes[0], SHOWN, strict=True):
        for found in records:
            minutes = [entry["cpu_seconds"] / 60 for entry in found["history"]]
            ax.plot(minutes, [entry[kind][level] for entry in found["history"]], marker=".", label=found["name"])
        ax.set(xlabel="training, core-minutes", title=f"{label(level)}, {TITLES[kind]}")
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("validation PSNR, dB")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(OUTPUT, dpi=110)


def main() -> None:
    """Record, draw and print."""
    if sys.argv[1:]:
        RECORDS.write_text("".join(json.dumps(record(card)) + "\n" for card in sys.argv[1:]))
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    draw(records)
    sys.stdout.write(table(records) + "\n")


if __name__ == "__main__":
    main()
