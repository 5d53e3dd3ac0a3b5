"""What a workload is like: as text for a terminal, and as pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastsim.svg import element, figure

_BAR = 40
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_COLUMNS = ("mean", "min", "p10", "p50", "p90", "p99", "max")
_WIDTH, _HEIGHT, _MARGIN = 720, 200, 60
STYLE = "rect { fill: #1f4e9c }\n"


def render(name: str, described: Mapping[str, Any]) -> str:
    """The description of a workload as text, several lines."""
    lines = [f"{name}: {_headline(described)}", "", f"{'tokens':10}" + "".join(f"{column:>10}" for column in _COLUMNS)]
    for label, key in (("prompt", "prompt_tokens"), ("output", "output_tokens"), ("together", "total_tokens")):
        lines.append(f"{label:10}" + "".join(f"{described[key][column]:>10,.0f}" for column in _COLUMNS))
    ratio = described["prompt_to_output"]
    lines += [
        "",
        f"prompt : output   {ratio['of_sums']:.2f} of all tokens, {ratio['p50']:.2f} of the median request, "
        f"standard deviation {ratio['std']:.3g}",
        f"burstiness        {_burstiness(described)}",
        *_sharing(described),
        *_classes(described),
    ]
    for label, key in (("prompt", "prompt_tokens"), ("output", "output_tokens")):
        lines += ["", f"{label} tokens", *_bars(described["histograms"][key])]
    if over_time := described["histograms"]["requests_over_time"]:
        per_s = max(over_time["requests"]) / over_time["width_s"][0]
        lines += ["", f"requests over time, at most {per_s:.3g} a second", _sparkline(over_time["requests"])]
    return "\n".join(lines)


def _headline(described: Mapping[str, Any]) -> str:
    rate = "all at one time" if described["qps"] is None else f"{described['qps']:.4g} requests/s"
    return f"{described['requests']:,} requests in {described['duration_s']:,.0f} s, {rate}"


def _burstiness(described: Mapping[str, Any]) -> str:
    """Variation of intervals, and of counts."""
    if described["interarrival_cv"] is None:
        return "none to tell: the requests do not arrive one after the other"
    counts = ", ".join(
        f"{value:.1f} in {window} s" for window, value in described["index_of_dispersion"].items() if value is not None
    )
    dispersion = f"; index of dispersion {counts}" if counts else ""
    return f"CV of intervals {described['interarrival_cv']:.2f}{dispersion} (Poisson: 1)"


def _sharing(described: Mapping[str, Any]) -> list[str]:
    """Prefixes and conversations, where there are any."""
    lines = []
    if described["prefix_reuse"] is not None:
        found = f"{described['prefix_reuse']:.1%} of the prompt tokens were seen before"
        lines.append(f"prefix reuse      {found}, in blocks of {described['block_tokens']}")
    if described["sessions"]:
        turns = f"{described['turns_per_session']:.2f} turns each"
        lines.append(f"conversations     {described['sessions']:,}, {turns}")
    return lines


def _classes(described: Mapping[str, Any]) -> list[str]:
    """A line for each class, where there are several or they are promised something."""
    classes, objectives = described["classes"], described["objectives"]
    if len(classes) < 2 and not objectives:
        return []
    lines = []
    for number, count in classes.items():
        promised = objectives[int(number)] if int(number) < len(objectives) else {"name": ""}
        times = [f"{key[:-2].upper()} {value:g} s" for key, value in promised.items() if key != "name" and value]
        words = f"{promised['name']}: {', '.join(times) or 'nothing promised'}" if objectives else ""
        lines.append(f"{f'class {number}':18}{count:,} requests  {words}".rstrip())
    return lines


def _bars(histogram: Mapping[str, Sequence[int]]) -> list[str]:
    """A bar for each octave."""
    most, total = max(histogram["requests"]), sum(histogram["requests"])
    lines = []
    for low, count in zip(histogram["from"], histogram["requests"], strict=True):
        bar = "█" * round(_BAR * count / most) or ("▏" if count else "")
        lines.append(f"{low:>10,} to {2 * low - 1:<11,}{bar:{_BAR}} {count / total:6.1%}")
    return lines


def _sparkline(counts: Sequence[int]) -> str:
    most = max(counts)
    return "".join(_EIGHTHS[-(-count * (len(_EIGHTHS) - 1) // most)] for count in counts)


def draw(name: str, described: Mapping[str, Any]) -> list[str]:
    """Headings and pictures of a workload: parts of a page."""
    parts = [element("h2", f"{name}: {_headline(described)}"), element("pre", render(name, described))]
    for label, key in (("prompt", "prompt_tokens"), ("output", "output_tokens")):
        histogram = described["histograms"][key]
        labels = [f"{low:,}" for low in histogram["from"]]
        told = [f"{low:,} to {2 * low - 1:,} tokens" for low in histogram["from"]]
        parts += [element("h3", f"{label} tokens"), _columns(histogram["requests"], labels, told)]
    if over_time := described["histograms"]["requests_over_time"]:
        starts, width_s = over_time["from_s"], over_time["width_s"][0]
        labels = [f"{start:,.0f} s" if index % 10 == 0 else "" for index, start in enumerate(starts)]
        told = [f"{start:,.1f} to {start + width_s:,.1f} s" for start in starts]
        parts += [element("h3", "requests over time"), _columns(over_time["requests"], labels, told)]
    return parts


def _columns(counts: Sequence[int], labels: Sequence[str], told: Sequence[str]) -> str:
    """Columns as high as counts, each with a label below it and a text that shows where one points."""
    most, wide = max(counts), (_WIDTH - 2 * _MARGIN) / len(counts)
    bottom, high = _HEIGHT - 30, _HEIGHT - 40
    marks = [element("text", f"{most:,}", x=_MARGIN - 6, y=bottom - high + 4, text_anchor="end")]
    marks.append(element("line", x1=_MARGIN, x2=_WIDTH - _MARGIN, y1=bottom, y2=bottom))
    for index, (count, label, text) in enumerate(zip(counts, labels, told, strict=True)):
        left, tall = _MARGIN + index * wide, high * count / most
        if count:
            title = element("title", f"{text}: {count:,} requests")
            place = {"x": left + 0.5, "y": bottom - tall, "width": max(wide - 1, 0.5), "height": tall}
            marks.append(element("rect", [title], **place))
        if label:
            marks.append(element("text", label, x=left + wide / 2, y=_HEIGHT - 12, text_anchor="middle"))
    return figure(_WIDTH, _HEIGHT, marks)
