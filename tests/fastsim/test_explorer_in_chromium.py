"""The page about a search as a browser shows it. Needs Debian's package chromium, and is skipped without it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from chromium import PATH, Chromium
from search_files import ABOUT, TRIED, search_frames, write_search

from fastsim.report.explorer.page import draw_explorer, write_explorer
from fastsim.report.explorer.searches import Search

pytestmark = pytest.mark.skipif(not PATH.exists(), reason=f"needs a browser, {PATH} (apt-get install chromium)")

FIRST = "document.querySelector('figure.scatter')"
ALL_DOTS = f"[...{FIRST}.querySelectorAll('.dot')].map(dot => dot.dataset.id).sort()"
COUNT = "document.getElementById('count').textContent"
TOLD = "document.getElementById('told').innerText"
PROBED = "document.querySelector('#probed b').textContent"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("search")
    write_explorer(str(write_search(directory / "s")), directory / "page.html")
    return directory / "page.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(autouse=True)
def _nothing_goes_wrong(browser: Chromium) -> Iterator[None]:
    browser.requested.clear()
    yield
    assert browser.errors == []
    loaded = [address for address in browser.requested if address != "data:,"]
    assert len({address.partition("#")[0] for address in loaded}) == 1
    assert loaded[0].startswith("file:")


def operating(workload: str = "chat", **limits: float) -> dict[str, dict[str, Any]]:
    """By id the highest rate tried at which a configuration holds and meets limits on columns, as the frames say."""
    frame, probes = search_frames()
    probes = probes.rename({name: name.replace("_s.", "_") + "_s" for name in probes.columns if "_s." in name})
    joined = probes.filter(holds=True, workload=workload).join(
        frame.select("config_id", "price_per_hour").unique(), "config_id"
    )
    joined = joined.with_columns(qps_per_dollar=pl.col("qps") * 3600 / pl.col("price_per_hour"))
    for column, most in limits.items():
        joined = joined.filter(pl.col(column) <= most)
    best = joined.sort("qps").group_by("config_id").last()
    return {row["config_id"]: row for row in best.iter_rows(named=True)}


def front(found: dict[str, dict[str, Any]]) -> list[str]:
    """Configurations that no other one beats in requests per dollar and TTFT."""

    def beaten(one: dict[str, Any]) -> bool:
        return any(
            other["qps_per_dollar"] >= one["qps_per_dollar"]
            and other["ttft_p90_s"] <= one["ttft_p90_s"]
            and other != one
            for other in found.values()
        )

    return sorted(key for key, one in found.items() if not beaten(one))


def slide(browser: Chromium, column: str, text: str) -> None:
    """Move a slider to the stop that says something."""
    slider = f"document.querySelector('[data-column={column}]')"
    browser.evaluate(
        f"(() => {{ const s = {slider}; for (let i = 0; i <= Number(s.max); i++) {{ s.value = i;"
        f" s.dispatchEvent(new Event('input')); if (s.previousSibling.textContent === '{text}') return; }}"
        f" throw Error('no stop {text}') }})()"
    )


def best(found: dict[str, dict[str, Any]]) -> str:
    return max(found, key=lambda key: found[key]["qps_per_dollar"])


def place(browser: Chromium, dot: str) -> list[float]:
    """Where the middle of a dot of the first chart is in the window, scrolled there."""
    element = f"{FIRST}.querySelector('.dot[data-id={dot}]')"
    browser.evaluate(f"{element}.scrollIntoView({{block: 'center'}})")
    box = f"const b = {element}.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]"
    return browser.evaluate(f"(() => {{ {box} }})()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_charts_are_drawn_and_fit(browser: Chromium, page: Path, width: int, scheme: str):
    browser.open(page, width, scheme=scheme)
    boxes = browser.evaluate(
        "[...document.querySelectorAll('figure')].map(figure => [figure.querySelectorAll("
        "'.dot, polyline.across, .held, .broke').length, figure.getBoundingClientRect().right])"
    )
    assert [marks for marks, _ in boxes] == [33, 33, 33, 33, 33, len(TRIED), len(TRIED)]
    assert all(right <= width for _, right in boxes)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    colours = "[...new Set([...document.querySelectorAll('.dot')].map(dot => getComputedStyle(dot).fill))]"
    assert len(browser.evaluate(colours)) == 2  # one for each device
    assert len(browser.screenshot()) > 20_000


def test_all_configurations_are_shown_at_their_capacities_at_first(browser: Chromium, page: Path):
    browser.open(page)
    found = operating()
    assert browser.evaluate(ALL_DOTS) == sorted(found)
    assert browser.evaluate(COUNT) == "33 of 33 configurations meet these limits, 0 of them below capacity."
    assert browser.evaluate(f"[...{FIRST}.querySelectorAll('.leads')].map(d => d.dataset.id).sort()") == front(found)
    cards = browser.evaluate("[...document.querySelectorAll('.card button')].map(button => button.dataset.id)")
    assert cards == sorted(found, key=lambda key: -found[key]["qps_per_dollar"])[:3]


def test_limits_lower_rates_and_leave_out_what_meets_them_nowhere(browser: Chromium, page: Path):
    browser.open(page)
    slide(browser, "ttft_p90_s", "≤ 800 ms")
    slide(browser, "tpot_p90_s", "≤ 10 ms")
    found = operating(ttft_p90_s=0.8, tpot_p90_s=0.01)
    full = operating()
    lower = [key for key, one in found.items() if one["qps"] < full[key]["qps"]]
    assert 0 < len(lower) <= len(found) < len(full)
    assert browser.evaluate(ALL_DOTS) == sorted(found)
    assert browser.evaluate(f"[...{FIRST}.querySelectorAll('.lower')].map(d => d.dataset.id).sort()") == sorted(lower)
    assert browser.evaluate(f"[...{FIRST}.querySelectorAll('.leads')].map(d => d.dataset.id).sort()") == front(found)
    assert browser.evaluate(f"{FIRST}.querySelectorAll('.ghost').length") == len(full) - len(found)
    assert browser.evaluate(COUNT).startswith(f"{len(found)} of 33 configurations meet these limits, {len(lower)} of")
    assert browser.evaluate("document.querySelector('.card button').dataset.id") == best(found)
    card = browser.evaluate("document.querySelector('.card').innerText")
    assert f"Meets these limits at {found[best(found)]['qps']:.4g} QPS, and not at" in card
    assert len(browser.screenshot()) > 20_000

    browser.click_on("document.getElementById('clear')")
    assert browser.evaluate(ALL_DOTS) == sorted(full)
    slide(browser, "ttft_p90_s", "≤ 200 ms")
    assert browser.evaluate(ALL_DOTS) == []
    assert "Nothing that was tried meets these limits" in browser.evaluate("document.getElementById('cards').innerText")


def test_a_slider_obeys_the_keyboard_and_says_its_limit(browser: Chromium, page: Path):
    browser.open(page)
    slider = "document.querySelector('[data-column=ttft_p90_s]')"
    browser.evaluate(f"{slider}.focus()")
    assert browser.evaluate(f"{slider}.getAttribute('aria-valuetext')") == "any"
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    said = browser.evaluate(f"{slider}.getAttribute('aria-valuetext')")
    assert said == "at most 12 s"
    assert browser.evaluate(ALL_DOTS) == sorted(operating(ttft_p90_s=12.0))


def test_values_of_an_axis_can_be_left_out(browser: Chromium, page: Path):
    browser.open(page)
    browser.click_on("[...document.querySelectorAll('fieldset label')].find(l => l.textContent.trim() === 'h100_sxm')")
    frame, _ = search_frames()
    kept = frame.filter(device="a100_sxm", workload="chat", status="ok")["config_id"].to_list()
    assert browser.evaluate(ALL_DOTS) == sorted(kept)


def test_the_pointer_tells_a_configuration_and_a_click_selects_it(browser: Chromium, page: Path):
    browser.open(page)
    found = operating()
    chosen = min(found, key=lambda key: found[key]["ttft_p90_s"])
    x, y = place(browser, chosen)
    browser.point(x, y)
    told = browser.evaluate(TOLD).split("\n")
    assert told[:3] == ["h100_sxm, tp 4, vllm_v1, max_num_seqs 256", "Requests per dollar", "7,980"]
    assert told[told.index("TTFT, p90") + 1] == f"{found[chosen]['ttft_p90_s'] * 1e3:.4g} ms"
    assert browser.evaluate("document.querySelectorAll('.cursor .ring, .cursor .over').length") == 5  # in every chart
    browser.click(x, y)
    assert browser.evaluate("document.querySelector('.card.own span').textContent") == "Selected"
    assert browser.evaluate(PROBED) == told[0]
    verdicts = browser.evaluate(
        "[...document.querySelectorAll('#probes-table td:nth-child(2)')].map(c => c.textContent)"
    )
    assert verdicts == ["holds" if holds else "does not hold" for _, holds in TRIED]
    browser.point(2, 2)
    assert browser.evaluate(TOLD) == ""


def test_the_keyboard_reaches_every_chart_and_selects(browser: Chromium, page: Path):
    browser.open(page)
    reached = []
    for _ in range(80):
        browser.press("Tab")
        if browser.evaluate("document.activeElement.classList.contains('plot')"):
            reached.append(browser.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert len({label.partition(".")[0] for label in reached}) == 5
    browser.evaluate(f"{FIRST}.querySelector('.plot').focus()")
    browser.press("Home")
    first = browser.evaluate(TOLD).split("\n")[0]
    browser.press("ArrowRight")
    second = browser.evaluate(TOLD).split("\n")[0]
    assert first != second
    browser.press("Enter")
    assert browser.evaluate(PROBED) == second
    assert browser.evaluate(TOLD).startswith(second)  # it stays where it was
    browser.press("ArrowLeft")
    assert browser.evaluate(TOLD).startswith(first)
    browser.press("Escape")
    assert browser.evaluate(TOLD) == ""


def test_another_workload_has_other_configurations_at_the_top(browser: Chromium, page: Path):
    browser.open(page)
    chat = browser.evaluate("document.querySelector('.card button').dataset.id")
    browser.evaluate(
        "(() => { const s = document.getElementById('case'); s.value = 1; s.dispatchEvent(new Event('change')) })()"
    )
    code = browser.evaluate("document.querySelector('.card button').dataset.id")
    assert (chat, code) == (best(operating("chat")), best(operating("code")))
    assert chat != code


def test_the_table_sorts_shows_all_and_keeps_the_focus(browser: Chromium, page: Path):
    browser.open(page)
    found = operating()
    ids = "[...document.querySelectorAll('#all tbody button')].map(button => button.dataset.id)"
    assert browser.evaluate(ids) == sorted(found, key=lambda key: -found[key]["qps_per_dollar"])[:25]
    browser.click_on("document.querySelector('#all > button')")
    assert len(browser.evaluate(ids)) == 33
    head = "[...document.querySelectorAll('#all thead button')].find(b => b.textContent.startsWith('TTFT, p90'))"
    browser.click_on(head)
    assert browser.evaluate(ids)[0] == min(found, key=lambda key: found[key]["ttft_p90_s"])
    browser.click_on(head)
    assert browser.evaluate(ids)[0] == max(found, key=lambda key: found[key]["ttft_p90_s"])
    browser.click_on("document.querySelectorAll('#all tbody button')[3]")
    assert browser.evaluate("document.activeElement.dataset.id") == browser.evaluate(ids)[3]
    assert browser.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_no_text_becomes_an_element(browser: Chromium, tmp_path: Path):
    evil = "</script><b class=evil>&'\""
    frame, probes = search_frames()
    frame = frame.with_columns((pl.col(name) + evil).alias(name) for name in ("workload", "scheduler", "binding"))
    probes = probes.with_columns(workload=pl.col("workload") + evil, binding=pl.lit(evil))
    frame = frame.rename({"max_num_seqs": evil})
    page = tmp_path / "evil.html"
    page.write_text(draw_explorer(Search(evil, ABOUT, frame, probes)), encoding="utf-8")
    browser.open(page)
    assert browser.evaluate("document.querySelectorAll('.evil').length") == 0
    assert browser.evaluate(f"{FIRST}.querySelectorAll('.dot').length") == 33
    assert evil in browser.evaluate("document.querySelector('#probes-table').textContent")


def test_one_configuration_without_a_price_or_probes_is_drawn(browser: Chromium, tmp_path: Path):
    frame = search_frames()[0].filter(config_id="id04", workload="chat").with_columns(price_per_hour=0.0)
    page = tmp_path / "one.html"
    page.write_text(draw_explorer(Search("one", {}, frame)), encoding="utf-8")
    browser.open(page)
    assert browser.evaluate(f"{FIRST}.querySelectorAll('.dot').length") == 1
    assert browser.evaluate(COUNT) == "1 of 1 configurations meet these limits, 0 of them below capacity."


def test_paper_is_white_and_shows_all(browser: Chromium, page: Path):
    browser.open(page, 794, scheme="dark", media="print")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.open(page)
    assert browser.pdf().startswith(b"%PDF-")
    assert browser.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")
