"""Explanations of latencies, as words with bars for a terminal, and as a picture."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from fastsim.export.attribution import METRICS, PARTS, Explanation
from fastsim.svg import element, figure

_BAR = 24
_GROUPS = {"mean": "average", "slowest": "slowest 1 %"}
_WORDS = {
    "front_end": "front end",
    "queueing": "queueing",
    "prefill_alone": "prefill alone",
    "decode_alone": "decode alone",
    "interference": "interference",
    "preemption": "preemption",
}
#: What shortens a part.
_REMEDIES = {
    "front_end": "a faster front end (engine.ingress_s, ingress_s_per_token, egress_s) shortens it",
    "queueing": "more replicas, a lower rate, or room for more requests (KV blocks, max_num_seqs) shorten it",
    "prefill_alone": "faster GPUs, more of them for each layer, or prompts found in the prefix cache shorten it",
    "decode_alone": "faster memory, more GPUs for each layer, or smaller weights shorten it",
    "interference": "smaller batches (max_num_seqs, max_num_batched_tokens) or more replicas shorten it",
    "preemption": "more KV blocks, or fewer requests at a time, shorten it",
}
_MEANING = (
    "Front end, queueing and preemption are as simulated, and the parts add up to the metric. Alone is modelled: the",
    "same request simulated on an idle replica of this configuration, with what it found in the prefix cache, but at",
    "most what is left. Interference is the rest: batches longer, or later, because of others, and recomputed prompts.",
)
_COLOURS = {
    "front_end": "#8c6bb1",
    "queueing": "#d9541e",
    "prefill_alone": "#1f4e9c",
    "decode_alone": "#2f8fb5",
    "interference": "#e3a72f",
    "preemption": "#a11f3c",
}
_WIDTH, _LEFT, _TALL, _STEP = 820, 110, 26, 40
STYLE = (
    "".join(f".{part} {{ fill: {colour} }}\n" for part, colour in _COLOURS.items())
    + "p { max-width: 60em }\n.value { font-weight: bold }\n"
    "@media (prefers-color-scheme: dark) { body { background: #16181c; color: #ddd } text { fill: #bbb } }\n"
)


def as_data(found: Sequence[Explanation], notes: Sequence[str]) -> dict[str, Any]:
    """The explanations as one JSON-able object."""
    metrics = {}
    for one in found:
        groups = {
            name: {**group, "shares": {part: _share(group, part) for part in PARTS}}
            for name, group in one.groups.items()
        }
        metrics[f"{one.metric}_s"] = groups
    return {"metrics": metrics, "notes": list(notes)}


def _share(group: Mapping[str, Any], part: str) -> float:
    return float(group["parts_s"][part] / group["value_s"]) if group["value_s"] > 0 else 0.0


def render(title: str, found: Sequence[Explanation]) -> str:
    """The explanations as text."""
    lines = [title]
    for one in found:
        lines += ["", *_table(one), "", *(line for sentence in _sentences(one) for line in wrapped(sentence))]
    return "\n".join([*lines, "", *wrapped(" ".join(_MEANING))])


def wrapped(sentence: str) -> list[str]:
    """A sentence in lines that fit a terminal."""
    return textwrap.wrap(sentence, 116)


def _table(one: Explanation) -> list[str]:
    """A line for each part that there is, with a bar for each group, and their sum."""
    heading = f"{one.metric.upper():16}"
    for name, group in one.groups.items():
        words = f"{_GROUPS[name]} ({group['requests']:,} requests)"
        heading += f"    {words:41}"
    lines = [heading.rstrip()]
    shown = {name: percentages(group) for name, group in one.groups.items()}
    for part, word in _WORDS.items():
        if all(group["parts_s"][part] <= 0 for group in one.groups.values()):
            continue
        line = f"{word:16}"
        for name, group in one.groups.items():
            bar = "█" * round(max(0.0, _share(group, part)) * _BAR)
            line += f"{_time(group['parts_s'][part]):>10}{shown[name][part]:7.1f} % {bar:{_BAR}} "
        lines.append(line.rstrip())
    total = "".join(f"{_time(group['value_s']):>10}{100:7.1f} % {'':{_BAR}} " for group in one.groups.values())
    return [*lines, f"{'together':16}{total}".rstrip()]


def percentages(group: Mapping[str, Any]) -> dict[str, float]:
    """Shares in tenths of a percent that add up to 100: the parts with the largest remainders are rounded up."""
    exact = {part: max(0.0, 1000 * _share(group, part)) for part in PARTS}
    tenths = {part: int(value) for part, value in exact.items()}
    by_remainder = sorted(PARTS, key=lambda part: tenths[part] - exact[part])
    for part in by_remainder[: max(0, 1000 - sum(tenths.values()))]:
        tenths[part] += 1
    return {part: value / 10 for part, value in tenths.items()}


def _sentences(one: Explanation) -> list[str]:
    """What is most of it, what is different about the slowest, and what would help."""
    mean, slowest = one.groups["mean"], one.groups["slowest"]
    most = max(PARTS, key=lambda part: mean["parts_s"][part])
    name = METRICS[one.metric]
    lines = [f"Of the average {name}, {_share(mean, most):.0%} is {_WORDS[most]} ({PARTS[most]}): {_REMEDIES[most]}."]
    longer_s = slowest["value_s"] - mean["value_s"]
    more_s = {part: slowest["parts_s"][part] - mean["parts_s"][part] for part in PARTS}
    cause = max(PARTS, key=lambda part: more_s[part])
    if longer_s > 0:
        words = (
            f"The slowest 1 % take {_time(longer_s)} longer, most of it {_WORDS[cause]}: {_time(more_s[cause])} more"
        )
        lines.append(f"{words}." if cause == most else f"{words} ({PARTS[cause]}): {_REMEDIES[cause]}.")
    return lines


def draw(title: str, found: Sequence[Explanation]) -> list[str]:
    """Headings and pictures: parts of a page."""
    parts = [element("h1", title)]
    for one in found:
        parts += [element("h2", f"{one.metric.upper()}, {METRICS[one.metric]}"), _picture(one)]
        parts += [element("p", sentence) for sentence in _sentences(one)]
        parts.append(element("pre", "\n".join(_table(one))))
    return [*parts, element("p", " ".join(_MEANING))]


def _picture(one: Explanation) -> str:
    """A bar for each group, as long as its value, of the parts side by side; below them what the colours mean."""
    longest = max(group["value_s"] for group in one.groups.values())
    scale = (_WIDTH - _LEFT - 90) / longest if longest > 0 else 0.0
    marks = []
    for row, (name, group) in enumerate(one.groups.items()):
        top, left = row * _STEP + 8, float(_LEFT)
        marks.append(element("text", _GROUPS[name], x=_LEFT - 8, y=top + 17, text_anchor="end"))
        for part, word in _WORDS.items():
            long = max(0.0, group["parts_s"][part]) * scale
            told = f"{word}: {_time(group['parts_s'][part])}, {_share(group, part):.1%}"
            if long > 0:
                place = {"x": left, "y": top, "width": long, "height": _TALL, "class_": part}
                marks.append(element("rect", [element("title", told)], **place))
            left += long
        marks.append(element("text", _time(group["value_s"]), x=left + 6, y=top + 17, class_="value"))
    used = [part for part in _WORDS if any(group["parts_s"][part] > 0 for group in one.groups.values())]
    bottom = len(one.groups) * _STEP + 14
    for column, part in enumerate(used):
        x = _LEFT + column * 115
        marks.append(element("rect", x=x, y=bottom, width=11, height=11, class_=part))
        marks.append(element("text", _WORDS[part], x=x + 16, y=bottom + 10))
    return figure(_WIDTH, bottom + 24, marks)


def _time(seconds: float) -> str:
    """Three digits or so, of a unit that fits."""
    if seconds < 1e-3:
        return f"{max(0.0, seconds) * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 600 else f"{seconds / 60:.1f} min"
