"""What is said and drawn of estimators, from metadata that can be told without a computer."""

import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest
from cli_calls import Cli

from fastsim.commands.estimator_report import draw, quantiles, render
from fastsim.errors import ConfigError
from fastsim.svg import check_html, element, figure, write_page

EDGES = [-0.2, -0.1, 0.0, 0.1, 0.2]
ERRORS = {"median": 0.02, "mean": 0.03, "p95": 0.1, "worst": {"column": "m", "range": [1, 2], "rows": 5, "mean": 0.2}}


def metadata(counts: list[list[int]] | None = None, **change: Any) -> dict[str, Any]:
    picture = {"first_octave_quarter": -80, "log_ratio_edges": EDGES, "counts": counts or [[0, 4, 4, 0], [1, 1, 1, 1]]}
    return {
        "source": "toy 1.0",
        "engine": "toy engine",
        "rows": {"read": 40, "dropped": 10, "merged": 3, "used": 27, "outliers": 2},
        "held_out_errors": {"shapes": ERRORS, "rows": ERRORS},
        "picture": picture,
        "calibration": {"inflation": 1.2, "shared": 0.01, "claimed": 0.9, "covered": 0.88},
    } | change


def test_the_text_has_errors_rows_intervals_and_a_bar():
    lines = render("toy bf16", {"gemm": metadata(), "moe": metadata(source="mine", picture={})}).splitlines()
    assert lines[0] == "toy bf16, from toy 1.0, mine"
    assert all(len(line) <= 120 for line in lines)
    (shapes,) = (line for line in lines if line.startswith("gemm"))
    assert shapes.split()[1:] == ["shapes", "2.0%", "3.0%", "10.0%", "m", "1", "to", "2:", "20.0%"]
    assert any("27 rows used, 3 merged, 2 outliers; 90% intervals hold 88% of unseen" in line for line in lines)
    bars = [line for line in lines if "●" in line and "bars:" not in line]
    assert len(bars) == 1
    # Half of the rows lie above their measured times, so the median is where predicted and measured are the same.
    bar = bars[0].strip().removeprefix("-22% ").removesuffix(" +28%")
    assert len(bar) == 51
    assert bar.index("●") == 25
    assert bar.count("█") in range(8, 14)


def test_operators_without_a_picture_have_no_bar():
    text = render("toy bf16", {"gemm": metadata(picture={}, calibration=None)})
    assert "●" not in text
    assert "intervals" not in text


@pytest.mark.parametrize(
    ("counts", "level", "expected"),
    [([0, 4, 4, 0], 0.5, 0.0), ([0, 0, 0, 8], 0.5, 0.15), ([2, 0, 0, 2], 0.25, -0.15), ([1, 0, 0, 0], 1.0, -0.1)],
)
def test_quantiles_are_linear_inside_cells(counts: list[int], level: float, expected: float):
    assert quantiles(counts, EDGES, [level]) == [pytest.approx(expected)]


def test_a_page_has_a_picture_of_every_operator_and_loads_nothing(tmp_path: Path):
    path = tmp_path / "page.html"
    write_page(path, "<&>", draw("a<b & 'c'", {"gemm": metadata(), "m<o>e": metadata([[0, 0, 0, 0], [0, 0, 9, 0]])}))
    page = path.read_text()
    assert page.count("<svg") == 2
    assert "http" not in page
    assert "a&lt;b &amp; &#x27;c&#x27;" in page
    for picture in page.split("<svg")[1:]:
        xml.etree.ElementTree.fromstring("<svg" + picture.split("</svg>")[0] + "</svg>")
    # A cell for every count that is not 0, the darker the more of its column.
    assert page.count("<rect") == 2 + 4 + 1
    assert "fill-opacity='0.71'" in page
    assert "<title>4 of 8 rows</title>" in page


def test_elements_are_escaped_and_round_their_numbers():
    assert (
        element("text", "<b>", x=1.23456, text_anchor="a'b") == "<text x='1.23' text-anchor='a&#x27;b'>&lt;b&gt;</text>"
    )
    assert element("g", [element("b", class_="k")]) == "<g><b class='k'></b></g>"
    assert figure(3, 4, ["<b/>"]) == "<svg width='3' height='4'>\n<b/>\n</svg>"


def test_pages_that_cannot_be_written_are_refused(tmp_path: Path):
    for name, why in (("page.png", "is no HTML file"), ("nowhere/page.html", "does not exist")):
        with pytest.raises(ConfigError, match=why) as caught:
            check_html("plot", tmp_path / name)
        assert caught.value.field == "plot"


def test_show_draws_what_it_prints(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("estimators.estimator.describe", lambda device, dtype, zoo: {"gemm": metadata()})
    page = tmp_path / "page.html"
    outcome = cli("estimators", "show", "--device", "H100_SXM", "--dtype", "bf16", "--plot", page)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("h100_sxm bf16, from toy 1.0")
    assert page.read_text().count("<svg") == 1
    cli("estimators", "show", "--plot", tmp_path / "page.png").assert_refused("plot", "is no HTML file")
