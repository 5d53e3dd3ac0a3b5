"""What a reader of a report must know beside its numbers."""

from collections.abc import Sequence

from fastsim.report.quantities import written
from fastsim.report.runs import Run

_OF_FILES = {
    "requests": ("requests.parquet", "no distributions of latencies are drawn"),
    "timeseries": ("timeseries.parquet", "nothing is drawn over time"),
}


def notes(runs: Sequence[Run]) -> list[str]:
    """Sentences: on overload, notes of workloads, what is missing, and what runs cannot be compared by."""
    whose: dict[str, list[str]] = {}
    for run in runs:
        for sentence in dict.fromkeys(_notes_of(run)):
            whose.setdefault(sentence, []).append(run.name)
    found = [
        sentence if len(names) == len(runs) else f"{', '.join(names)}: {sentence}" for sentence, names in whose.items()
    ]
    if len({run.summary["hashes"].get("workload") for run in runs}) > 1:
        found.append("The runs had different workloads: it is not the systems alone that make their numbers differ.")
    return found


def _notes_of(run: Run) -> list[str]:
    found = []
    if run.summary.get("load", {}).get("growing"):
        found.append(
            "More and more requests were waiting: the load is above what the system can serve, and latencies depend on "
            "how long the run is."
        )
    found += [f"{note}." for note in run.summary["workload"].get("notes", [])]
    found += [
        f"There is no {name}, so {without}."
        for file, (name, without) in _OF_FILES.items()
        if getattr(run, file) is None
    ]
    if window := run.summary.get("window"):
        found.append(
            f"Latencies and objectives are of the {window['requests']:,} requests that arrived from "
            f"{written(window['start_s'], 's')} to {written(window['end_s'], 's')}; all else is of the whole run."
        )
    if confidence := run.summary.get("confidence"):
        where = "over runs of other seeds" if confidence["method"] == "seeds" else "from parts of the run"
        found.append(f"± is a confidence of {confidence['level']:.0%} for what is random, {where}.")
        if confidence.get("correlated"):
            found.append(f"The run is too short for the ± of {', '.join(confidence['correlated'])}: they are wider.")
    if "operators" not in run.summary:
        found.append("The operators were not recorded, so it is not said where the time went.")
    outside = run.summary.get("estimates", {}).get("outside_profiles", [])
    if outside:
        found.append(f"Beyond the measured range, and so extrapolated: {', '.join(map(str, outside))}.")
    return found
