"""The report: one file, nothing outside it, and what it says of a result."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import body
from medrecon import figures
from medrecon.data import Geometry, Volume
from medrecon.errors import InputError, UsageError
from medrecon.report import ReportData, render, verdict, write_report


def _noisy(volume: Volume, size: float, seed: int) -> Volume:
    noise = np.random.default_rng(seed).normal(0, size, volume.array.shape).astype(np.float32)
    return volume.with_array(volume.array + noise)


@pytest.fixture(scope="module")
def data() -> ReportData:
    truth = body((12, 40, 48), (3.0, 2.0, 2.0))
    return ReportData(
        title="scan.h5: 12 views",
        volume=_noisy(truth, 20, 1),
        method="dds",
        baseline=_noisy(truth, 40, 2),
        baseline_method="tv",
        truth=truth,
        spread=truth.with_array(np.full_like(truth.array, 20.0)),
        samples=4,
        uses_prior=True,
        history=[{"stage": "baseline", "sample": 0, "step": n, "discrepancy": 3 / n} for n in range(1, 9)]
        + [{"stage": "dds", "sample": 0, "step": n, "discrepancy": 2 / n, "sigma": 0.5 / n} for n in range(1, 9)],
        assessment={"discrepancy": 1.02, "baseline_discrepancy": 1.01},
        residual_per_view=[1.0 + 0.01 * n for n in range(12)],
        metrics={"result": {"psnr": 40.0, "rmse": 20.0}, "baseline": {"psnr": 34.0, "rmse": 40.0}},
        settings={"method": "dds", "steps": 20, "axes": [0, 1, 2]},
        provenance={"versions": {"medrecon": "0.1.0"}, "seconds": 12.3},
        notes=("Simulated.",),
    )


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _parsed(text: str) -> _Page:
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


def test_report_is_one_valid_file_without_anything_from_outside(data: ReportData, tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", data)
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 10e6
    page = _parsed(text)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")]
    for tag, attributes in page.tags:
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/png;base64,")
            assert attributes["alt"]
    assert "http" not in re.sub(r'src="[^"]*"', "", text)
    assert "url(" not in re.sub(r'src="[^"]*"', "", text)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def test_report_says_what_must_be_said(data: ReportData) -> None:
    text = render(data)
    for words in (
        "research use only", "not be used for diagnosis", "may be invented", "scan.h5: 12 views", "Simulated.",
        "tv (baseline)", "dds (result)", "dds − truth", "tv − truth", "coronal strips", "Residual and convergence",
        "Profile", "Standard deviation over 4 samples", "Settings", "Provenance", "6.0 dB better than tv",
    ):  # fmt: skip
        assert words in text, words


def test_nothing_known_still_makes_a_report(data: ReportData) -> None:
    bare = ReportData(title="bare", volume=data.volume, method="fbp")
    text = render(bare)
    _parsed(text)
    assert "No residual was recorded" in text
    assert "may be invented" not in text
    one_slice = Volume(data.volume.array[:1], Geometry.from_spacing((1, 40, 48), (3.0, 2.0, 2.0)), "HU")
    assert "From slice to slice" not in render(replace(bare, volume=one_slice))


def test_names_cannot_inject_markup(data: ReportData) -> None:
    text = render(replace(data, title="<script>alert(1)</script>", settings={"<b>": "<i>"}, notes=("<img src=x>",)))
    page = _parsed(text)
    assert "script" not in [tag for tag, _ in page.tags]
    assert "x" not in [attributes.get("src") for _, attributes in page.tags]


@pytest.mark.parametrize(
    ("discrepancy", "known", "level"),
    [(1.0, True, "good"), (1.2, True, "good"), (1.6, True, "fair"), (3.0, True, "poor"), (0.3, True, "fair"),
     (0.05, False, "fair"), (float("nan"), True, "poor"), (None, True, "poor")],
)  # fmt: skip
def test_verdict(data: ReportData, discrepancy: float | None, known: bool, level: str) -> None:
    judged = replace(data, assessment={"discrepancy": discrepancy}, noise_known=known, metrics={})
    assert verdict(judged)[0] == level


def test_verdict_says_when_the_baseline_was_better(data: ReportData) -> None:
    worse = {"result": {"psnr": 30.0}, "baseline": {"psnr": 33.0}}
    assert "3.0 dB worse than tv" in verdict(replace(data, metrics=worse))[2]
    equal = {"result": {"psnr": 30.01}, "baseline": {"psnr": 30.02}}
    assert "as good as tv" in verdict(replace(data, metrics=equal))[2]


def test_volumes_on_other_grids_are_refused(data: ReportData) -> None:
    with pytest.raises(InputError, match="grid"):
        replace(data, truth=body((12, 40, 40), (3.0, 2.0, 2.0)))
    with pytest.raises(InputError, match="quantit"):
        replace(data, baseline=data.volume.with_array(data.volume.array, "1/mm"))


def test_old_report_stays_unless_told(data: ReportData, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(UsageError):
        write_report(path, data)
    assert path.read_text() == "old"
    write_report(path, data, overwrite=True)
    assert path.read_text() != "old"


# --- figures -----------------------------------------------------------------------------------------------------
def test_window_maps_its_ends_to_black_and_white() -> None:
    import io

    from PIL import Image

    window = figures.HU_WINDOWS["soft tissue"]
    assert (window.low, window.high) == (-160.0, 240.0)
    picture = figures.grey_png(np.array([[-1000.0, -160.0, 40.0, 240.0, 3000.0]]), window, (5, 1))
    assert list(np.array(Image.open(io.BytesIO(picture)))[0]) == [0, 0, 128, 255, 255]


def test_difference_is_white_at_zero_and_symmetric() -> None:
    import io

    from PIL import Image

    picture = figures.difference_png(np.array([[-50.0, 0.0, 50.0]]), 50.0, (3, 1))
    left, middle, right = np.array(Image.open(io.BytesIO(picture)))[0].astype(int)
    assert middle.min() > 240
    assert left[2] > left[0]
    assert right[0] > right[2]


@pytest.mark.parametrize("letters", ["LPS", "RAS", "PSR"])
def test_pictures_do_not_depend_on_the_order_of_the_axes(data: ReportData, letters: str) -> None:
    turned = data.volume.as_orientation(letters)
    assert figures.montage_png({"a": turned}) == figures.montage_png({"a": data.volume})


def test_windows_follow_the_body() -> None:
    chest = body((8, 64, 64), (5.0, 6.0, 6.0))
    assert figures.windows_for(chest)[0].name == "mediastinum"
    head = chest.with_array(np.where(chest.array < -500, -1000, chest.array).astype(np.float32))
    small = Volume(head.array, Geometry.from_spacing((8, 64, 64), (5.0, 3.0, 3.0)), "HU")
    assert figures.windows_for(small)[0].name == "brain"
    other = head.with_array(head.array, "a.u.")
    assert figures.windows_for(other)[0].name == "full range"


def test_windows_of_amplitudes_are_symmetric_and_of_others_percentiles() -> None:
    values = np.linspace(-1, 3, 4001, dtype=np.float32).reshape(1, 4001, 1)
    grid = Geometry.from_spacing(values.shape, (1.0, 1.0, 1.0))
    for window in [
        *figures.windows_for(Volume(values, grid, "amplitude")),
        *figures.presets_of(Volume(values, grid, "amplitude")),
    ]:
        assert window.level == 0 and window.width > 0
    middle = figures.percentile_window(Volume(values, grid), 50)
    assert (middle.low, middle.high) == pytest.approx((0, 2), abs=1e-3)
    flat = figures.percentile_window(
        Volume(np.full((1, 4, 1), np.nan, np.float32), Geometry.from_spacing((1, 4, 1), (1, 1, 1))), 99
    )
    assert flat.width > 0
    assert {w.name for w in figures.presets_of(body((4, 8, 8), (1.0, 1.0, 1.0)))} >= {
        "brain",
        "lung",
        "abdomen",
        "bone",
        "mediastinum",
    }


def test_a_drag_to_the_right_widens_and_one_upwards_brightens() -> None:
    window = figures.HU_WINDOWS["abdomen"]
    wide, bright = window.dragged(0.25, 0.0), window.dragged(0.0, -0.25)
    assert (wide.width, wide.level) == pytest.approx((350 * np.exp(0.5), 40))
    assert (bright.width, bright.level) == pytest.approx((350, 40 - 175))


def test_automatic_gain_makes_all_depths_equally_strong() -> None:
    time = np.arange(400)
    section = (np.sin(time * 0.9) * np.exp(-time / 60))[None, :, None] * np.ones((1, 1, 3))
    section[:, :, 2] = 0
    gained = figures.automatic_gain(section, 40)
    early, late = (np.sqrt(np.mean(gained[0, part, 0] ** 2)) for part in (slice(40, 90), slice(300, 350)))
    assert early == pytest.approx(late, rel=0.05) and early == pytest.approx(1.0, rel=0.15)
    assert not gained[:, :, 2].any()


def test_body_holds_its_holes() -> None:
    volume = body((4, 64, 64), (5.0, 2.0, 2.0))
    mask = figures.body_mask(volume)
    assert mask[volume.array == -700].all()
    assert not mask[:, 0].any()
    empty = volume.with_array(np.full_like(volume.array, -1000.0))
    assert figures.body_mask(empty).all()


def test_figures_that_read_alike_are_not_called_better_or_worse(data: ReportData) -> None:
    metrics = {"result": {"psnr": 31.254, "ssim": 0.85}, "baseline": {"psnr": 31.251, "ssim": 0.8499}}
    text = render(replace(data, metrics=metrics))
    assert '<td class="number">31.25</td><td class="number">31.25</td>' in text
    assert '<td class="number">0.8499</td><td class="number better">0.8500</td>' in text
    assert "as good as tv" in text


def test_records_are_short_and_plain(data: ReportData) -> None:
    text = render(
        replace(data, provenance={"photons": 1e5, "affine": [[-3.4610453, 0.0], [0.0, 1.0]], "many": [1] * 30})
    )
    for shown in ("<dd>100000</dd>", "<dd>(-3.461, 0), (0, 1)</dd>", "<dd>30 values</dd>"):
        assert shown in text


def test_trust_is_said_with_its_numbers(data: ReportData):
    """The sentence on top is that of the assessment; the maps and figures have a section."""
    found = {
        "discrepancy": 1.02,
        "verdict": {"level": "fair", "text": "Usable with care: the prior alone added 12.3% of the contrast."},
        "null_space": {"share": 0.37},
        "prior_only": {"rms": 8.25, "relative_to_contrast": 0.123},
        "held_out": {"result": 1.5, "classical": 1.7},
    }
    share = Volume(np.full(data.volume.array.shape, 0.4, np.float32), data.volume.geometry, "share")
    layers = {"null-share": share, "prior-only": data.volume.with_array(data.volume.array * 0.01)}
    judged = replace(data, assessment=found, layers=layers)
    level, headline, detail = verdict(judged)
    assert (level, headline) == ("fair", "Usable with care") and detail.startswith("The prior alone added 12.3%")
    page = render(judged)
    for text in (
        "<h2>Trust</h2>",
        "37%",
        "8.25 HU",
        "1.700",
        "What the data cannot decide",
        "What only the prior says",
    ):
        assert text in page
    assert "<h2>Trust</h2>" not in render(replace(data, assessment={}, layers={}))


def test_what_a_physicist_measures(data: ReportData):
    page = render(data)
    for text in ("Image quality", "soft tissue", "Edge of the body", "10 % to 90 %", "Noise power"):
        assert text in page
    plain = body((4, 12, 12), (3.0, 2.0, 2.0))
    assert "Noise power" not in render(ReportData(title="t", volume=plain, method="fbp"))  # too small for a patch
