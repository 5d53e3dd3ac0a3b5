"""The rules of the trace-event format that viewers rely on, written from its definition."""

from collections import defaultdict
from itertools import pairwise
from typing import Any

_METADATA = {
    "process_name": "name",
    "process_labels": "labels",
    "process_sort_index": "sort_index",
    "thread_name": "name",
    "thread_sort_index": "sort_index",
}
#: Times are decimal microseconds of whole nanoseconds, read as binary.
_ROUNDING = 1e-4


def check_trace(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Check every event, and what must hold between them; returns them by phase."""
    by_phase = defaultdict(list)
    for event in events:
        by_phase[event["ph"]].append(event)
        assert isinstance(event["pid"], int)
        assert event["pid"] > 0
        assert isinstance(event["name"], str)
        if event["ph"] != "M":
            assert event["ts"] >= 0
    assert set(by_phase) <= set("MXCbestf")
    names = _check_metadata(by_phase["M"])
    _check_slices(by_phase["X"], names)
    _check_counters(by_phase["C"])
    _check_asynchronous([event for event in events if event["ph"] in "be"])
    _check_flows([event for event in events if event["ph"] in "stf"], by_phase["X"])
    for event in events:
        assert ("process_name", event["pid"], None) in names
    return by_phase


def _check_metadata(events: list[dict[str, Any]]) -> set[tuple[str, int, int | None]]:
    names = set()
    for event in events:
        assert list(event["args"]) == [_METADATA[event["name"]]]
        key = (event["name"], event["pid"], event.get("tid"))
        assert key not in names
        assert ("tid" in event) == event["name"].startswith("thread")
        names.add(key)
    return names


def _check_slices(events: list[dict[str, Any]], names: set[tuple[str, int, int | None]]) -> None:
    """Slices of a thread nest or follow each other: here they follow."""
    threads = defaultdict(list)
    for event in events:
        assert event["dur"] >= 0
        assert ("thread_name", event["pid"], event["tid"]) in names
        threads[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for slices in threads.values():
        slices.sort()
        for (_, end), (begin, _) in pairwise(slices):
            assert begin >= end - _ROUNDING


def _check_counters(events: list[dict[str, Any]]) -> None:
    seen = set()
    for event in events:
        assert event["args"]
        assert all(value >= 0 for value in event["args"].values())
        key = (event["pid"], event["name"], event["ts"])
        assert key not in seen
        seen.add(key)


def _check_asynchronous(events: list[dict[str, Any]]) -> None:
    """Nestable events of one category and id are brackets, in order of time."""
    open_names, latest = defaultdict(list), {}
    for event in events:
        key = (event["cat"], event["id"], event["pid"])
        assert event["ts"] >= latest.get(key, 0.0)
        latest[key] = event["ts"]
        if event["ph"] == "b":
            open_names[key].append(event["name"])
        else:
            assert open_names[key].pop() == event["name"]
    assert not any(open_names.values())


def _check_flows(events: list[dict[str, Any]], slices: list[dict[str, Any]]) -> None:
    """A flow starts once, goes on, and ends once; every point lies within a slice of its thread."""
    flows = defaultdict(list)
    spans = defaultdict(list)
    for event in slices:
        spans[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for event in events:
        flows[event["cat"], event["name"], event["id"]].append(event)
        inside = spans[event["pid"], event["tid"]]
        assert any(begin - _ROUNDING <= event["ts"] <= end + _ROUNDING for begin, end in inside)
    for points in flows.values():
        phases = "".join(point["ph"] for point in points)
        assert phases[0] + phases[-1] == "sf"
        assert set(phases[1:-1]) <= {"t"}
        assert points[-1]["bp"] == "e"
        times = [point["ts"] for point in points]
        assert times == sorted(times)
