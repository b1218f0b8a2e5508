"""Turn recorded runs (`docs/results/*.jsonl`) into the tables of docs/results.md.

    python tests/bench/render_results.py docs/results.md docs/results-methods.md docs/training.md

Every figure is the mean over cases, with the standard deviation over cases behind it; the gain is over the baseline on
the same case. A table whose runs are not recorded is left as it is.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from cases import caught

Records = list[dict]
PLANES = ("axial", "coronal", "sagittal")


def views(records: Records) -> str:
    """One table per number of views: sparse-view CT against total variation."""
    lines = []
    for number in sorted({r["views"] for r in records}):
        chosen = [r for r in records if r["views"] == number]
        cases = by_case(chosen, "patient", "seed")
        patients = len({r["patient"] for r in chosen})
        lines += [f"\n**{number} views** ({patients} patients, {len(cases)} cases)\n"]
        lines += [
            "| method | PSNR dB | gain over TV (worst, best) | SSIM ax / cor / sag | z-rough. | resid./noise | s |"
        ]
        lines += ["|---|---|---|---|---|---|---|"]
        for label, rows, gains in against(cases, ["tv"]):
            cells = [decibels(rows), gains, similarity(rows), f"{mean(rows, 'z_roughness'):.2f}"]
            cells += [f"{mean(rows, 'discrepancy'):.2f}", f"{mean(rows, 'seconds'):.0f}"]
            lines += [f"| {label} | {' | '.join(cells)} |"]
    return "\n".join(lines)


def objects(records: Records) -> str:
    """One row per object: what each method reaches on it, and what ``auto`` chose."""
    lines = ["", "| object | FBP | TV | refine | gain | auto | SSIM, TV / refine |", "|---|---|---|---|---|---|---|"]
    for (name,), found in by_case(records, "patient").items():
        fbp, tv, refine = (found[method] for method in ("fbp", "tv", "refine"))
        auto = f"{found['auto']['psnr']:.2f}" if "auto" in found else ""
        lines.append(
            f"| {name} | {fbp['psnr']:.2f} | {tv['psnr']:.2f} | {refine['psnr']:.2f} "
            f"| {refine['psnr'] - tv['psnr']:+.2f} | {auto} | {tv['ssim']:.3f} / {refine['ssim']:.3f} |"
        )
    return "\n".join(lines)


def beside_tv(records: Records) -> str:
    """One row per volume and number of views: total variation, and the one other method of the records."""
    (method,) = {r["method"] for r in records if ":" not in r["method"]} - {"tv"}
    lines = ["", f"| volume | views | TV | {method} | gain |", "|---|---|---|---|---|"]
    for (name, number), found in by_case(records, "patient", "views").items():
        tv, other = found["tv"]["psnr"], found[method]["psnr"]
        chosen = f" ({found[method]['chosen']})" if method == "auto" else ""
        lines.append(f"| {name} | {number} | {tv:.2f} | {other:.2f}{chosen} | {other - tv:+.2f} |")
    return "\n".join(lines)


def networks(records: Records) -> str:
    """One row per prior: its gain over total variation at each number of views, mean over patients."""
    cases = by_case([r for r in records if r["prior"] is None], "patient", "views")
    numbers = sorted({r["views"] for r in records})
    lines = [
        "",
        f"| network | {' | '.join(f'{number} views' for number in numbers)} |",
        f"|---|{'---|' * len(numbers)}",
    ]
    for (prior, *_), rows in grouped([r for r in records if r["prior"] is not None], "prior").items():
        gains = {
            n: [r["psnr"] - cases[r["patient"], n]["tv"]["psnr"] for r in rows if r["views"] == n] for n in numbers
        }
        lines += [f"| {prior} | {' | '.join(f'{np.mean(gains[n]):+.2f}' for n in numbers)} |"]
    return "\n".join(lines)


def seeds(records: Records) -> str:
    """One row per number of views: the gain over total variation for each noise, and how much it varies with that."""
    cases = by_case(records, "views", "patient", "seed")
    numbers = sorted({r["seed"] for r in records})
    lines = ["", f"| views | patients | {' | '.join(f'gain, noise {n}' for n in numbers)} | spread over noise |"]
    lines += [f"|---|---|{'---|' * (len(numbers) + 1)}"]
    for views in sorted({r["views"] for r in records}):
        patients = dict.fromkeys(name for number, name, _ in cases if number == views)
        found = [[cases[views, name, number] for number in numbers] for name in patients]
        gains = np.array([[case["refine"]["psnr"] - case["tv"]["psnr"] for case in row] for row in found])
        cells = [f"{gain:+.2f}" for gain in gains.mean(axis=0)]
        lines += [f"| {views} | {len(patients)} | {' | '.join(cells)} | {gains.std(axis=1, ddof=1).mean():.2f} |"]
    return "\n".join(lines)


def masks(records: Records) -> str:
    """One table per mask: undersampled MRI against the better of L1-wavelet and total variation."""
    lines = []
    for mask, rate in dict.fromkeys((r["mask"], r["acceleration"]) for r in records):
        chosen = [r for r in records if (r["mask"], r["acceleration"]) == (mask, rate)]
        cases = by_case(chosen, "subject", "seed")
        real = np.mean([r["real_acceleration"] for r in chosen])
        subjects = ", ".join(dict.fromkeys(r["subject"] for r in chosen))
        lines += [f"\n**{mask} x{rate:g}** (really {real:.2f}; {subjects}; {len(cases)} cases)\n"]
        lines += ["| method | PSNR dB | gain over the best classical (worst, best) | SSIM ax / cor / sag | s |"]
        lines += ["|---|---|---|---|---|"]
        for label, rows, gains in against(cases, ["l1-wavelet", "tv"]):
            cells = [decibels(rows), gains, similarity(rows), f"{mean(rows, 'seconds'):.0f}"]
            lines += [f"| {label} | {' | '.join(cells)} |"]
    return "\n".join(lines)


def reach(records: Records) -> str:
    """One row per case: factors by distance of total variation and `refine`, and the gains with several reaches."""
    edges, reaches = records[0]["edges"], list(records[0]["gains"])
    far = [f"to {high:g}" for high in edges[2:-1]] + [f"over {edges[-2]:g}"]
    lines = ["", f"| case | {' | '.join(far)} | {' | '.join(f'gain, reach {r}' for r in reaches)} |"]
    lines += ["|---|" + "---|" * (len(far) + len(reaches))]
    for r in records:
        pairs = zip(r["tv"][1:], r["refine"][1:], strict=True)  # the first are the samples themselves
        cells = ["" if b is None else f"{a:.2f} / {b:.2f}" for a, b in pairs]
        cells += [f"{r['gains'][key]:+.2f}" for key in reaches]
        lines += [f"| {r['subject']}, {r['mask']} x{r['acceleration']:g}, {r['seed']} | {' | '.join(cells)} |"]
    mean_gains = [f"{np.mean([r['gains'][key] for r in records]):+.2f}" for key in reaches]
    return "\n".join([*lines, f"| mean | {' | ' * (len(far) - 1)} | {' | '.join(mean_gains)} |"])


def brain(records: Records) -> str:
    """Measured brain: error of hidden samples."""
    lines = ["", "| method | error of hidden samples | weight |", "|---|---|---|"]
    for method in dict.fromkeys(r["method"] for r in records):
        rows = [r for r in records if r["method"] == method]
        weight = f"{rows[0]['weight']:g}, the best of a grid" if rows[0]["weight"] else "default"
        lines += [f"| {method} | {mean(rows, 'error'):.4f} ± {spread(rows, 'error'):.4f} | {weight} |"]
    return "\n".join(lines)


def phantom(records: Records) -> str:
    """Measured phantom, undersampled after the fact."""
    rates = sorted({r["acceleration"] for r in records})
    lines = ["", f"| method | {' | '.join(f'x{rate:g}, PSNR dB' for rate in rates)} |", f"|---|{'---|' * len(rates)}"]
    for method in dict.fromkeys(r["method"] for r in records):
        rows = [[r for r in records if (r["method"], r["acceleration"]) == (method, rate)] for rate in rates]
        lines += [f"| {method} | {' | '.join(decibels(cells) for cells in rows)} |"]
    ceiling = f"{records[0]['ceiling']:.2f}"
    return "\n".join([*lines, f"| a volume without noise | {' | '.join([ceiling] * len(rates))} |"])


def by_budget(records: Records) -> str:
    """One table per problem: PSNR of every method by the number of network evaluations, the best of each bold."""
    lines = []
    for problem, found in problems(records):
        budgets = sorted({r["budget"] for r in found} - {0})
        cases = grouped(found, "method", "budget")
        best = {b: max(mean(rows, "psnr") for (_, budget), rows in cases.items() if budget == b) for b in budgets}
        beside = [f"`{m}` {mean(cases[m, 0], 'psnr'):.2f} dB" for m in ("tv", "auto") if (m, 0) in cases]
        lines += [f"\n**{problem}** ({subjects(found)}; {', '.join(beside)})\n"]
        lines += [f"| method | {' | '.join(f'{b} evaluations' for b in budgets)} |", f"|---|{'---|' * len(budgets)}"]
        for method in dict.fromkeys(r["method"] for r in found if r["budget"]):
            reached = [mean(cases[method, b], "psnr") if (method, b) in cases else None for b in budgets]
            cells = ["" if x is None else f"**{x:.2f}**" if x == best[b] else f"{x:.2f}"
                     for b, x in zip(budgets, reached, strict=True)]  # fmt: skip
            lines += [f"| `{method}` | {' | '.join(cells)} |"]
    return "\n".join(lines)


def every_run(records: Records) -> str:
    """One table per problem: everything measured of each method at each number of evaluations."""
    lines = []
    for problem, found in problems(records):
        lines += [f"\n### {problem}\n\n{subjects(found)}\n"]
        lines += [
            "| method | evaluations | steps | PSNR dB | SSIM ax / cor / sag | z-rough. | resid./noise | s | MiB |"
        ]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        for (method, _), rows in grouped(found, "method", "budget").items():
            cells = [f"{rows[0]['evaluations']}", f"{rows[0]['steps'] or ''}", f"{mean(rows, 'psnr'):.2f}"]
            cells += [similarity(rows), f"{mean(rows, 'z_roughness'):.2f}", f"{mean(rows, 'discrepancy'):.2f}"]
            cells += [f"{mean(rows, 'seconds'):.1f}", f"{mean(rows, 'memory_mib'):.0f}"]
            lines += [f"| `{method}` | {' | '.join(cells)} |"]
    return "\n".join(lines)


def predicted_views(records: Records) -> str:
    """One row per measured object: error of hidden views, overlap of outlines; the best method bold."""
    methods = list(dict.fromkeys(r["method"] for r in records))
    lines = ["", f"| object | figure | views | {' | '.join(methods)} |", f"|---|---|---|{'---|' * len(methods)}"]
    for key, words, sign in (("error", "error of hidden views", 1), ("outline", "overlap of outlines", -1)):
        for (name,), found in by_case(records, "object").items():
            if any(r[key] is None for r in found.values()):
                continue
            best = min(found.values(), key=lambda r: sign * r[key])
            cells = []
            for method in methods:
                text = f"{found[method][key]:.4f}" + (f" ({found[method]['chosen']})" if method == "auto" else "")
                cells.append(f"**{text}**" if found[method] is best else text)
            lines += [f"| {name} | {words} | {best['views']} | {' | '.join(cells)} |"]
    return "\n".join(lines)


def mismatch(records: Records) -> str:
    """One row per shift of the axis: PSNR by method, at the default model error and at larger ones."""
    methods = list(dict.fromkeys(r["method"] for r in records))
    lines = ["", f"| axis off by | left of the data | {' | '.join(f'`{m}`: 0.01, E, 3 E' for m in methods)} |"]
    lines += [f"|---|---|{'---|' * len(methods)}"]
    for (pixels,), rows in grouped(records, "pixels").items():
        cells = [", ".join(f"{r['psnr']:.1f}" for r in rows if r["method"] == method) for method in methods]
        lines += [f"| {pixels:g} pixels | {rows[0]['left']:.3f} | {' | '.join(cells)} |"]
    return "\n".join(lines)


def traces(records: Records) -> str:
    """One row per survey and kind of holes: signal to noise of all and of the missing traces, the best method bold.

    The last column is of `auto`: missing samples within its intervals, and their half-width over the loudness.
    """
    records = [r | {"survey": r["survey"].partition("-")[0]} for r in records]  # several cubes of one kind are one row
    methods = list(dict.fromkeys(r["method"] for r in records))
    lines = ["", f"| survey | holes | {' | '.join(methods)} | within +- |", "|---|---|" + "---|" * (len(methods) + 1)]
    for case in dict.fromkeys((r["survey"], r["holes"], r["share"]) for r in records):
        chosen = [r for r in records if (r["survey"], r["holes"], r["share"]) == case]
        found = {method: [r for r in chosen if r["method"] == method] for method in methods}
        reached = {method: mean(rows, "snr_missing") for method, rows in found.items() if rows}
        cells = [f"{mean(found[m], 'snr_all'):.1f} / {reached[m]:.1f}" if m in reached else "" for m in methods]
        best = max(reached, key=lambda method: reached[method])
        cells = [f"**{cell}**" if m == best else cell for m, cell in zip(methods, cells, strict=True)]
        held = [r for r in found["auto"] if "covered" in r]
        cells.append(f"{mean(held, 'covered'):.0%} ({mean(held, 'half_width'):.2f})" if held else "")
        lines += [f"| {case[0]} | {case[1]}, {case[2]:.0%} | {' | '.join(cells)} |"]
    return "\n".join(lines)


def trace_gains(records: Records) -> str:
    """One row per kind of cube and of holes: what diffusion gains over the best classical method of each cube.

    Mean over cubes with the worst and the best; classical are all methods that need no prior, `dip` among them, then
    those without it.
    """
    lines = [
        "",
        "| cubes | holes | best classical | refine | auto | refine over all but `dip` |",
        "|---|---|---|---|---|---|",
    ]
    records = [r | {"kind": r["survey"].partition("-")[0]} for r in records]
    for (kind, holes, share), rows in grouped(records, "kind", "holes", "share").items():
        gains: dict[str, list[float]] = defaultdict(list)
        best = []
        for found in by_case(rows, "survey").values():
            classical = {m: r["snr_missing"] for m, r in found.items() if r["prior"] is None and m != "auto, classical"}
            best.append(max(classical, key=lambda m: classical[m]))
            others = max(value for method, value in classical.items() if method != "dip")
            refined, chosen = (found[method]["snr_missing"] for method in ("refine", "auto"))
            gains["refine"].append(refined - classical[best[-1]])
            gains["auto"].append(chosen - classical[best[-1]])
            gains["others"].append(refined - others)
        cells = [f"{np.mean(g):+.1f} ({min(g):+.1f} to {max(g):+.1f})" for g in gains.values()]
        named = ", ".join(f"`{method}`" for method in dict.fromkeys(best))
        lines.append(f"| {len(best)} {kind} | {holes}, {share:.0%} | {named} | {' | '.join(cells)} |")
    return "\n".join(lines)


def coverage(records: Records) -> str:
    """One row per method and number of data: share of the true voxels within the intervals, over patients."""
    levels = list(records[-1]["coverage"])
    amount = "acceleration" if "/mri:" in records[0]["case"] else "views"
    lines = [
        "",
        f"| method | {amount} | people | raw | {' | '.join(f'{float(x):.0%}' for x in levels)} | half-width | error |",
    ]
    lines += [f"|---|---|---|---|{'---|' * (len(levels) + 2)}"]
    for (method, number), rows in grouped([r for r in records if r["kind"] == "test"], "method", "views").items():
        shares = {level: [r["coverage"][level] for r in rows] for level in levels}
        cells = [f"{np.mean(x):.1%} ({min(x):.1%} to {max(x):.1%})" for x in shares.values()]
        samples = f", {rows[0]['samples']} samples" if rows[0]["samples"] > 1 else ""
        lines += [
            f"| `{method}`{samples} | {number} | {len(rows)} | {mean(rows, 'raw_coverage'):.0%} | {' | '.join(cells)} "
            f"| {mean(rows, 'half_width'):.3g} | {mean(rows, 'rms_error'):.3g} |"
        ]
    return "\n".join(lines)


def trust(records: Records) -> str:
    """One row per kind of trial: how many were called poor, and the figures that decide."""
    trials = [trial for record in records for trial in record["trials"]]
    lines = [
        "",
        "| trial | runs | caught | poor | residual / noise | moments, columns | error of the prior | brightness, HU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (name,), rows in grouped(trials, "trial").items():
        if name == "insert":
            continue
        ranges = []
        for figure, digits in (("discrepancy", 2), ("moments", 3), ("prior_error", 2), ("brightness", 0)):
            numbers = [r[figure] for r in rows if r[figure] is not None]
            ranges.append(f"{min(numbers):.{digits}f} to {max(numbers):.{digits}f}" if numbers else "")
        shares = [np.mean([caught(r) for r in rows]), np.mean([r["level"] == "poor" for r in rows])]
        lines += [f"| {name} | {len(rows)} | {shares[0]:.0%} | {shares[1]:.0%} | {' | '.join(ranges)} |"]
    scores = [[r[key] for r in trials if r["trial"] == "insert"] for key in ("score", "score_without")]
    hidden, plain = (np.array(x) for x in scores)
    curve = np.mean((hidden[:, None] > plain) + 0.5 * (hidden[:, None] == plain))
    return "\n".join([*lines, "", f"Inserts: {len(hidden)}; area under the curve {curve:.3f}."])


TABLES: dict[str, tuple[Callable[[Records], str], str]] = {
    "tables": (views, "ct-sparse.jsonl"),
    "objects": (objects, "ct-other.jsonl"),
    "networks": (networks, "ct-architectures.jsonl"),
    "cone": (views, "ct-cone.jsonl"),
    "seeds": (seeds, "ct-seeds.jsonl"),
    "automatic": (beside_tv, "ct-auto.jsonl"),
    "accepted": (beside_tv, "ct-validation.jsonl"),
    "mri": (masks, "mri-head.jsonl"),
    "mri-others": (masks, "mri-left-out.jsonl"),
    "mri-reach": (reach, "mri-reach.jsonl"),
    "mri-brain": (brain, "mri-brain.jsonl"),
    "mri-phantom": (phantom, "mri-phantom.jsonl"),
    "methods": (by_budget, "methods.jsonl"),
    "methods-in-full": (every_run, "methods.jsonl"),
    "methods-long": (every_run, "methods-long.jsonl"),
    "coverage": (coverage, "ct-coverage.jsonl"),
    "coverage-mri": (coverage, "mri-coverage.jsonl"),
    "trust": (trust, "ct-trust.jsonl"),
    "mismatch": (mismatch, "ct-mismatch.jsonl"),
    "measured": (predicted_views, "ct-measured.jsonl"),
    "seismic": (traces, "seismic.jsonl"),
    "seismic-cubes": (traces, "seismic-cubes.jsonl"),
    "seismic-gains": (trace_gains, "seismic-cubes.jsonl"),
}
"""Name of the marks in the page: how a table is made, and of which runs."""


# --- parts -----------------------------------------------------------------------------------------------------------
def by_case(records: Records, *keys: str) -> dict[tuple, dict[str, dict]]:
    """Records of each case by method."""
    cases: dict[tuple, dict[str, dict]] = defaultdict(dict)
    for record in records:
        samples = record.get("samples", 1)
        label = f"{record['method']}, mean of {samples}" if samples > 1 else record["method"]
        cases[tuple(record[key] for key in keys)][label] = record
    return cases


def grouped(records: Records, *keys: str) -> dict[tuple, Records]:
    """Records with the same values of some keys, in the order in which those appear."""
    groups: dict[tuple, Records] = defaultdict(list)
    for record in records:
        groups[tuple(record[key] for key in keys)].append(record)
    return groups


def problems(records: Records) -> Iterable[tuple[str, Records]]:
    """The runs of each problem, with its name in words."""
    names = {"ct": "CT, {} views", "mri": "MRI, gaussian1d x{}"}
    for (kind,), found in grouped(records, "problem").items():
        modality, amount = kind.split(":")
        yield names[modality].format(amount), found


def subjects(records: Records) -> str:
    """What was measured: names, slices, seeds."""
    names = ", ".join(dict.fromkeys(str(r["subject"]) for r in records))
    return f"{names}, {records[0]['slices']} slices, {len({r['seed'] for r in records})} seed(s)"


def against(cases: dict[tuple, dict[str, dict]], baselines: list[str]) -> Iterable[tuple[str, Records, str]]:
    """Every method with its records and its gain over the best baseline of each case."""
    for label in dict.fromkeys(label for case in cases.values() for label in case):
        rows = [case[label] for case in cases.values() if label in case]
        gains = [
            case[label]["psnr"] - max(case[b]["psnr"] for b in baselines if b in case)
            for case in cases.values()
            if label in case and any(b in case for b in baselines)
        ]
        shown = f"{np.mean(gains):+.2f} ({min(gains):+.2f}, {max(gains):+.2f})" if gains else ""
        yield label, rows, "" if baselines == [label] else shown


def mean(rows: Records, key: str) -> float:
    """Over cases."""
    return float(np.mean([r[key] for r in rows]))


def spread(rows: Records, key: str) -> float:
    """Standard deviation over cases, 0 of one."""
    return float(np.std([r[key] for r in rows], ddof=1)) if len(rows) > 1 else 0.0


def decibels(rows: Records) -> str:
    """PSNR with its spread."""
    return f"{mean(rows, 'psnr'):.2f} ± {spread(rows, 'psnr'):.2f}"


def similarity(rows: Records) -> str:
    """SSIM in three planes."""
    return " / ".join(f"{mean(rows, f'ssim_{plane}'):.4f}" for plane in PLANES)


def insert(page: str, name: str, table: str) -> str:
    """The page with another table between its marks."""
    before, rest = page.split(f"<!-- {name} -->")
    after = rest.split(f"<!-- end of {name} -->")[1]
    return f"{before}<!-- {name} -->\n{table}\n\n<!-- end of {name} -->{after}"


def main(page: Path) -> None:
    """Renew the tables of a page whose runs are in the folder ``results`` beside it."""
    text = page.read_text()
    for name, (render, file) in TABLES.items():
        source = page.parent / "results" / file
        if source.exists() and f"<!-- {name} -->" in text:
            text = insert(text, name, render([json.loads(line) for line in source.read_text().splitlines()]))
    page.write_text(text)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(Path(argument))
