"""Draw docs/figures/training-curve.png: validation quality of a prior against the budget of its training.

    python docs/make_training_curve.py [PRIOR ...]

Without names: every bundled prior whose card holds the history of its training. Its stages follow one another;
their core-minutes add up. The same figures go to stdout as a Markdown table, for docs/training.md.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from medrecon.prior import PriorCard, bundled_priors, read_card

OUTPUT = Path(__file__).resolve().parent / "figures" / "training-curve.png"
STYLES = {"psnr": "-", "guided_psnr": "--"}
LABELS = {"psnr": "without a guide", "guided_psnr": "with a guide"}


def history(card: PriorCard) -> list[dict]:
    """The validated entries of all stages in order, with the number of the stage and the core-minutes so far."""
    stages = [card.training]
    while (start := stages[0].get("start")) and start["training"]:
        stages.insert(0, start["training"])
    entries, before = [], 0.0
    for number, stage in enumerate(stages, 1):
        for entry in stage.get("history", []):
            if "psnr" in entry:
                entries.append(entry | {"stage": number, "core_minutes": before + entry["cpu_seconds"] / 60})
        before += stage["cpu_seconds"] / 60 if "cpu_seconds" in stage else stage.get("core_minutes", 0.0)
    return entries


def table(card: PriorCard) -> str:
    """The history as Markdown: denoising PSNR in dB at each noise level, without / with a guide."""
    entries = history(card)
    levels = sorted({*entries[-1]["psnr"], *entries[-1].get("guided_psnr", {})})
    header = [
        "stage",
        "steps",
        "core-minutes",
        *(f"sigma {level}" if level[0].isdigit() else level for level in levels),
    ]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for entry in entries:
        cells = [f"{entry['stage']}", f"{entry['step']}", f"{entry['core_minutes']:.0f}"]
        for level in levels:
            found = [entry.get(kind, {}).get(level) for kind in STYLES]
            cells.append(" / ".join("-" if value is None else f"{value:.2f}" for value in found))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(cards: list[PriorCard]) -> None:
    """One panel for each prior: what each figure gained since the first check, stages one after the other."""
    figure, axes = plt.subplots(1, len(cards), figsize=(6.5 * len(cards), 4.2), squeeze=False, layout="constrained")
    for ax, card in zip(axes[0], cards, strict=True):
        entries = history(card)
        for kind, style in STYLES.items():
            for number, level in enumerate(entries[-1].get(kind, {})):
                checked = [entry for entry in entries if level in entry.get(kind, {})]
                minutes = [entry["core_minutes"] for entry in checked]
                gains = [entry[kind][level] - checked[0][kind][level] for entry in checked]
                ax.plot(minutes, gains, style, color=f"C{number}", marker=".", label=f"{level}, {LABELS[kind]}")
        for before, entry in pairwise(entries):
            if entry["stage"] != before["stage"]:
                ax.axvline(before["core_minutes"], color="0.7", linewidth=0.8)
        ax.set(xlabel="training, core-minutes", ylabel="gain of PSNR since the first check, dB", title=card.name)
        ax.grid(alpha=0.3)
    lines = {line.get_label(): line for ax in axes[0] for line in ax.get_lines() if "guide" in str(line.get_label())}
    axes[0, -1].legend(
        lines.values(), lines.keys(), fontsize=7, title="noise level", loc="center left", bbox_to_anchor=(1, 0.5)
    )
    OUTPUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUTPUT, dpi=110)


def main() -> None:
    """Draw and print."""
    cards = [read_card(name) for name in sys.argv[1:] or bundled_priors()]
    cards = [card for card in cards if history(card)]
    if not cards:
        sys.stderr.write("no prior with a history of its training\n")
        return
    draw(cards)
    for card in cards:
        sys.stdout.write(f"{card.name}\n\n{table(card)}\n\n")


if __name__ == "__main__":
    main()
