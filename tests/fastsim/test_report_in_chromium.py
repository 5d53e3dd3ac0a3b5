"""The page about runs as a browser shows it. Needs Debian's package chromium, and is skipped without it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import PATH, Chromium
from report_files import CONFIG, write_run

from fastsim.report.page import write_report

pytestmark = pytest.mark.skipif(not PATH.exists(), reason=f"needs a browser, {PATH} (apt-get install chromium)")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    first = write_run(directory / "first")
    second = write_run(directory / "second", 2.0, config=CONFIG | {"replicas": 4})
    write_report([str(first), str(second)], directory / "page.html")
    return directory / "page.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(autouse=True)
def _nothing_goes_wrong(browser: Chromium, page: Path) -> Iterator[None]:
    yield
    assert browser.errors == []
    assert {address.partition("#")[0] for address in browser.requested} <= {page.absolute().as_uri(), "data:,"}


def background(browser: Chromium) -> list[int]:
    found = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    return [int(part) for part in found.removeprefix("rgb(").removesuffix(")").split(",")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_charts_are_drawn_and_fit(browser: Chromium, page: Path, width: int, scheme: str):
    browser.open(page, width, scheme=scheme)
    assert (sum(background(browser)) > 384) == (scheme == "light")
    boxes = browser.evaluate(
        "[...document.querySelectorAll('figure')].map(figure => [...figure.querySelectorAll("
        "'.plot .line, .bar')].map(mark => { const box = mark.getBoundingClientRect();"
        " return [box.left, box.right, box.width + box.height] }))"
    )
    assert len(boxes) == 12  # four distributions, six charts over time, objectives and operators
    for of_figure in boxes:
        assert len(of_figure) >= 2
        assert all(left >= 0 and right <= width and size > 5 for left, right, size in of_figure)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    colours = browser.evaluate(
        "[...new Set([...document.querySelectorAll('.plot .line')].map(line => getComputedStyle(line).stroke))]"
    )
    assert len(colours) == 2
    assert len(browser.screenshot()) > 10_000


def test_the_pointer_tells_exact_values(browser: Chromium, page: Path):
    browser.open(page)
    plot = "document.querySelector('figure.lines .plot')"
    browser.evaluate(f"{plot}.scrollIntoView({{block: 'center'}})")
    box = browser.evaluate(f"(() => {{ const b = {plot}.getBoundingClientRect(); return [b.x, b.y, b.width] }})()")
    # TTFT of the first run is 0.51 s at the median, on an axis to 3 s.
    scale = box[2] / 420
    x, y = 52 + 0.51 / 3 * (420 - 52 - 14), 10 + 0.5 * (236 - 10 - 26)
    browser.point(box[0] + x * scale, box[1] + y * scale)
    told = browser.evaluate("document.getElementById('told').innerText").split("\n")
    assert told == ["50% of the requests within", "first", "510 ms", "second", "1.02 s"]
    assert browser.evaluate("document.querySelectorAll('.cursor circle').length") == 2
    browser.point(2, 2)
    assert browser.evaluate("document.getElementById('told').innerText") == ""


def test_the_keyboard_reaches_every_chart_and_tells_values(browser: Chromium, page: Path):
    browser.open(page)
    charts = browser.evaluate("document.querySelectorAll('.plot').length")
    reached = set()
    for _ in range(charts + 10):
        browser.press("Tab")
        if browser.evaluate("document.activeElement.classList.contains('plot')"):
            reached.add(browser.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert len(reached) == charts == 10
    assert any(label.startswith("KV cache") for label in reached)

    over_time = "document.querySelectorAll('#over-time .plot')[2]"
    browser.evaluate(f"{over_time}.focus()")
    browser.press("End")
    last = browser.evaluate("document.getElementById('told').innerText").split("\n")
    assert last == ["98 s to 100 s", "first", "1.5 (1 to 2)", "second", "1.5 (1 to 2)"]
    browser.press("ArrowLeft")
    assert browser.evaluate("document.getElementById('told').innerText").startswith("96 s to 98 s")
    browser.press("Escape")
    assert browser.evaluate("document.getElementById('told').innerText") == ""


def test_paper_is_white_and_shows_all_fields(browser: Chromium, page: Path):
    browser.open(page, 794, scheme="dark", media="print")
    assert background(browser) == [255, 255, 255]
    browser.open(page)
    assert browser.pdf().startswith(b"%PDF-")
    assert browser.evaluate("document.querySelector('details').open")
