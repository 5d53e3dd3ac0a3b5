"""What a reader of a report must know beside its numbers."""

from collections.abc import Sequence

from fastsim.report.runs import Run

_OF_FILES = {
    "requests": ("requests.parquet", "no distributions of its latencies"),
    "timeseries": ("timeseries.parquet", "nothing over time"),
}


def notes(runs: Sequence[Run]) -> list[str]:
    """Sentences: on overload, what runs cannot be compared by, notes of workloads, and what is missing."""
    found = []
    for run in runs:
        who = f"{run.name}: " if len(runs) > 1 else ""
        if run.summary.get("load", {}).get("growing"):
            found.append(
                f"{who}the load outran the system: more and more requests were waiting, so that latencies "
                "depend on how long the run is."
            )
        found += [f"{who}{note}." for note in run.summary["workload"].get("notes", [])]
        for file, (name, without) in _OF_FILES.items():
            if getattr(run, file) is None:
                found.append(f"{who}there is no {name}, so this page has {without}.")
        if "operators" not in run.summary:
            found.append(f"{who}the run did not record its operators, so this page does not say where its time went.")
        outside = run.summary.get("estimates", {}).get("outside_profiles", [])
        if outside:
            found.append(f"{who}beyond the measured range, and so extrapolated: {', '.join(map(str, outside))}.")
    if len({run.summary["hashes"].get("workload") for run in runs}) > 1:
        found.append("The runs had different workloads: their latencies do not differ by the systems alone.")
    return list(dict.fromkeys(found))
