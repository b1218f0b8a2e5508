"""Draw docs/figures/training-curve.png: validation quality of a prior against the budget of its training.

    python docs/make_training_curve.py [PRIOR ...]

Without names: every bundled prior whose card holds the history of its training. The same figures go to stdout as a
Markdown table, for docs/training.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from medrecon.prior import PriorCard, bundled_priors, read_card

OUTPUT = Path(__file__).resolve().parent / "figures" / "training-curve.png"
STYLES = {"psnr": "-", "guided_psnr": "--"}
LABELS = {"psnr": "without a guide", "guided_psnr": "with a guide"}


def history(card: PriorCard) -> list[dict]:
    """The entries of a card's history that were validated."""
    return [entry for entry in card.training.get("history", []) if "psnr" in entry]


def table(card: PriorCard) -> str:
    """The history as Markdown: denoising PSNR in dB at each noise level, without / with a guide."""
    entries = history(card)
    levels = list(entries[-1]["psnr"])
    header = ["steps", "core-minutes", "loss", *(f"sigma {level}" for level in levels)]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for entry in entries:
        cells = [f"{entry['step']}", f"{entry['cpu_seconds'] / 60:.0f}", f"{entry['loss']:.3f}"]
        for level in levels:
            with_guide = entry.get("guided_psnr", {}).get(level)
            cells.append(f"{entry['psnr'][level]:.2f}" + (f" / {with_guide:.2f}" if with_guide is not None else ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(cards: list[PriorCard]) -> None:
    """One panel for each prior."""
    figure, axes = plt.subplots(1, len(cards), figsize=(5.5 * len(cards), 4), squeeze=False, layout="constrained")
    for ax, card in zip(axes[0], cards, strict=True):
        entries = history(card)
        minutes = [entry["cpu_seconds"] / 60 for entry in entries]
        for kind, style in STYLES.items():
            shown = [entry.get(kind) for entry in entries]
            for number, level in enumerate(entries[-1].get(kind, {})):
                values = [found[level] if found else float("nan") for found in shown]
                label = f"sigma {level}, {LABELS[kind]}"
                ax.plot(minutes, values, style, color=f"C{number}", marker=".", label=label)
        ax.set(xscale="log", xlabel="training, core-minutes", ylabel="denoising PSNR, dB", title=card.name)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=6, ncols=2)
    OUTPUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUTPUT, dpi=130)


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
