"""Turn the JSON lines of `quality_ct.py` and `quality_seismic.py` into the tables of docs/results.md.

    python tests/bench/render_results.py docs/results.md docs/results/ct-sparse.jsonl docs/results/ct-other.jsonl \\
        docs/results/seismic.jsonl

Every figure is the mean over cases, with the standard deviation over cases behind it; the gain is over total variation
on the same case.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

COLUMNS = ("psnr", "ssim_axial", "ssim_coronal", "ssim_sagittal", "z_roughness", "discrepancy", "seconds")


def render(paths: list[Path]) -> str:
    """One table per number of views."""
    records = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    lines = []
    for views in sorted({r["views"] for r in records}):
        chosen = [r for r in records if r["views"] == views]
        cases = defaultdict(dict)
        for r in chosen:
            cases[r["patient"], r["seed"]][_label(r)] = r
        labels = list(dict.fromkeys(_label(r) for r in chosen))
        baseline = next((label for label in labels if label.startswith("tv")), None)
        patients = len({r["patient"] for r in chosen})
        lines += [f"\n**{views} views** ({patients} patients, {len(cases)} cases)\n"]
        lines += [
            "| method | PSNR dB | gain over TV (worst, best) | SSIM ax / cor / sag | z-rough. | resid./noise | s |"
        ]
        lines += ["|---|---|---|---|---|---|---|"]
        for label in labels:
            rows = [case[label] for case in cases.values() if label in case]
            mean = {c: float(np.mean([r[c] for r in rows])) for c in COLUMNS}
            spread = float(np.std([r["psnr"] for r in rows], ddof=1)) if len(rows) > 1 else 0.0
            gains = [c[label]["psnr"] - c[baseline]["psnr"] for c in cases.values() if label in c and baseline in c]
            gain = f"{np.mean(gains):+.2f} ({min(gains):+.2f}, {max(gains):+.2f})" if label != baseline else ""
            ssim = " / ".join(f"{mean[f'ssim_{plane}']:.4f}" for plane in ("axial", "coronal", "sagittal"))
            lines += [
                f"| {label} | {mean['psnr']:.2f} ± {spread:.2f} | {gain} | {ssim} | {mean['z_roughness']:.2f} "
                f"| {mean['discrepancy']:.2f} | {mean['seconds']:.0f} |"
            ]
    return "\n".join(lines)


def _label(record: dict) -> str:
    label = record["method"]
    return f"{label}, mean of {record['samples']}" if record["samples"] > 1 else label


def render_objects(path: Path) -> str:
    """One row per object: what each method reaches on it."""
    objects = defaultdict(dict)
    for line in path.read_text().splitlines():
        record = json.loads(line)
        objects[record["patient"]][record["method"]] = record
    lines = ["", "| object | FBP | TV | refine | gain | SSIM, TV / refine |", "|---|---|---|---|---|---|"]
    for name, found in objects.items():
        fbp, tv, refine = (found[method] for method in ("fbp", "tv", "refine"))
        lines.append(
            f"| {name} | {fbp['psnr']:.2f} | {tv['psnr']:.2f} | {refine['psnr']:.2f} "
            f"| {refine['psnr'] - tv['psnr']:+.2f} | {tv['ssim']:.3f} / {refine['ssim']:.3f} |"
        )
    return "\n".join(lines)


def render_traces(path: Path) -> str:
    """One row per survey and kind of holes: signal to noise of all and of the missing traces, the best one bold."""
    cases = defaultdict(lambda: defaultdict(list))
    for line in path.read_text().splitlines():
        record = json.loads(line)
        cases[record["survey"], record["holes"], record["share"]][record["method"]].append(record)
    methods = list(dict.fromkeys(method for found in cases.values() for method in found))
    lines = ["", f"| survey | holes | {' | '.join(methods)} |", "|---|---|" + "---|" * len(methods)]
    for (survey, holes, share), found in cases.items():
        means = {
            m: [np.mean([r[f"snr_{part}"] for r in rows]) for part in ("all", "missing")] for m, rows in found.items()
        }
        best = max(means, key=lambda method: means[method][1])
        cells = [f"{means[m][0]:.1f} / {means[m][1]:.1f}" if m in means else "" for m in methods]
        cells = [f"**{cell}**" if m == best else cell for m, cell in zip(methods, cells, strict=True)]
        lines.append(f"| {survey} | {holes}, {share:.0%} | {' | '.join(cells)} |")
    return "\n".join(lines)


def insert(page: Path, name: str, tables: str) -> None:
    """Put the tables between the marks of a page."""
    before, rest = page.read_text().split(f"<!-- {name} -->")
    after = rest.split(f"<!-- end of {name} -->")[1]
    page.write_text(f"{before}<!-- {name} -->\n{tables}\n\n<!-- end of {name} -->{after}")


if __name__ == "__main__":
    page, patients, others, traces = (Path(name) for name in sys.argv[1:])
    insert(page, "tables", render([patients]))
    insert(page, "objects", render_objects(others))
    insert(page, "traces", render_traces(traces))
