"""A summary as text that fits a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastsim.confidence import half_width as half_width_of
from fastsim.intervals import half_width

_LATENCIES = (
    ("TTFT", "ttft_s", "time to first token"),
    ("TPOT", "tpot_s", "time per output token after the first"),
    ("TBT", "tbt_s", "time between tokens"),
    ("E2E", "e2e_s", "arrival to last token"),
    ("scheduling delay", "scheduling_delay_s", "arrival to first iteration"),
)
_COLUMNS = ("mean", "p50", "p90", "p99")
_OBJECTIVES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "worst_tbt_s": "worst TBT", "e2e_s": "E2E"}
#: Heights of bars.
BARS = "▁▂▃▄▅▆▇█"


def render(summary: Mapping[str, Any], with_bars: bool = True) -> str:
    """The summary of one simulation as text, several lines.

    Args:
        summary: of a `SimulationResult`.
        with_bars: draw the distribution of each latency, in characters that not every terminal has.
    """
    config, simulation, metrics = summary["config"], summary["simulation"], summary["metrics"]
    requests = simulation["requests"]
    lines = [
        f"{config['model']} on {_replicas(config)}, {config['scheduler']['name']}, "
        f"{requests:,} request{'s' if requests > 1 else ''} in {_time(simulation['makespan_s'])}",
        "",
        f"{'':18}" + "".join(f"{column:>10}" for column in _COLUMNS) + ("  from least to most" if with_bars else ""),
    ]
    for name, key, meaning in _LATENCIES:
        cells = "".join(f"{_time(metrics[key][column]):>10}" for column in _COLUMNS)
        bars = f"  {draw_bars(summary['distributions'][key]['counts']):16}" if with_bars else ""
        lines += [f"{name:18}{cells}{bars}   {meaning}", *_intervals(summary, key), *_confidence(summary, key)]
    lines += [
        *_classes(summary),
        "",
        *_client(config),
        *_window(summary),
        *_slo(summary),
        f"throughput        {metrics['throughput_requests_per_s']:.2f} requests/s, "
        f"{metrics['throughput_output_tokens_per_s']:,.0f} output tokens/s, "
        f"{metrics['throughput_tokens_per_s']:,.0f} tokens/s in all{_interval_of_rates(summary)}",
        f"batch             {metrics['batch_size_mean']:.1f} requests {_where(config)}on average, "
        f"{simulation['iterations']:,} iterations, busy {metrics['utilization']:.0%} of the time",
        *_pipeline(metrics),
        f"KV cache          {metrics['kv_use_mean']:.1%} used on average, {metrics['kv_use_max']:.1%} at most, "
        f"of {summary['replicas'][0]['kv_blocks']:,} blocks per replica; {metrics['preemptions']:,} preemptions",
        *_prefix_cache(summary),
        *_hardware(summary),
        *_meaning_of_intervals(summary),
        *_meaning_of_confidence(summary),
        "",
        f"simulated in {_time(simulation['wall_s'])}: {simulation['requests_per_s']:,.0f} requests/s",
    ]
    return "\n".join(lines)


def _classes(summary: Mapping[str, Any]) -> list[str]:
    """A line for each request class, where there are several."""
    lines = [""] if "classes" in summary else []
    for number, described in summary.get("classes", {}).items():
        ttft, e2e = (
            f"{name} p50 {_time(described[key]['p50'])}, p99 {_time(described[key]['p99'])}"
            for name, key in (("TTFT", "ttft_s"), ("E2E", "e2e_s"))
        )
        preemptions = f"{described['preemptions']:,} preemptions"
        lines.append(f"{f'class {number}':18}{described['requests']:,} requests; {ttft}; {e2e}; {preemptions}")
    return lines


def _intervals(summary: Mapping[str, Any], key: str) -> list[str]:
    """A line with the intervals of a latency, where there are any."""
    found = summary.get("intervals", {}).get("metrics", {}).get(key)
    return [] if found is None else [f"{'':18}" + "".join(f"{_within(found[column]):>10}" for column in _COLUMNS)]


def draw_bars(counts: Sequence[int]) -> str:
    """A distribution as bars, one character for each bin; a blank where there is nothing."""
    most = max(counts, default=0)
    return "".join(" " if count == 0 else BARS[min(count * len(BARS) // most, len(BARS) - 1)] for count in counts)


def _confidence(summary: Mapping[str, Any], key: str) -> list[str]:
    """A line with the confidence intervals of a latency, where there are any."""
    confidence = summary.get("confidence", {})
    found = confidence.get("metrics", {}).get(key)
    if found is None:
        return []
    runs = f"{confidence['repeats']} seeds" if confidence["method"] == "seeds" else f"{confidence['batches']} batches"
    half = {column: half_width_of(found[column]) for column in _COLUMNS}
    cells = ("-" if half[column] is None else f"± {half[column]:.1%}" for column in _COLUMNS)
    return [f"{f'  over {runs}':18}" + "".join(f"{cell:>10}" for cell in cells)]


def _meaning_of_confidence(summary: Mapping[str, Any]) -> list[str]:
    """What the confidence intervals are, where there are any, and of which not much is to be thought."""
    found = summary.get("confidence")
    if found is None:
        return []
    if found["method"] == "seeds":
        return [f"confidence        {found['level']:.0%}, about the mean over {found['repeats']} runs of other seeds"]
    lines = [
        f"confidence        {found['level']:.0%}, for what is random in this run, from {found['batches']} parts of it"
    ]
    if found["correlated"]:
        lines.append(f"{'':18}too narrow, since parts resemble those before them: {', '.join(found['correlated'])}")
    return lines


def _window(summary: Mapping[str, Any]) -> list[str]:
    """A line about the window in which requests are measured, if there is one."""
    window = summary.get("window")
    if window is None:
        return []
    rates = f"{window['arrivals_per_s']:.2f} arrivals/s" if window["arrivals_per_s"] is not None else "at one time"
    return [
        f"measured          {window['requests']:,} requests, which arrive from {_time(window['start_s'])} to "
        f"{_time(window['end_s'])} ({rates});",
        f"{'':18}throughput, batch and use are of the whole run",
    ]


def _slo(summary: Mapping[str, Any]) -> list[str]:
    """Lines about objectives, if there are any: all requests, then each of several classes."""
    slo = summary.get("slo")
    if slo is None:
        return []
    classes = slo["classes"]
    alone = next(iter(classes.values()))["objectives"] if len(classes) == 1 else {}
    lines = [f"{'objectives':18}{_attained(slo)}", *_limits(alone)]
    if len(classes) > 1:
        for number, described in classes.items():
            name = described.get("name", f"class {number}")
            lines += [f"{f'  {name}':18}{_attained(described)}", *_limits(described["objectives"])]
    if (gaps := slo.get("tbt_p99_s")) is not None:
        verdict = "met" if gaps["met"] else "missed"
        lines.append(f"{'':18}TBT p99 {_time(gaps['value_s'])}, at most {_time(gaps['limit_s'])}: {verdict}")
    return lines


def _attained(described: Mapping[str, Any]) -> str:
    goodput = described["goodput_requests_per_s"]
    rate = "" if goodput is None else f", goodput {goodput:.2f} requests/s"
    return f"met by {described['attainment']:.1%} of {described['requests']:,} requests{rate}"


def _limits(objectives: Mapping[str, Any]) -> list[str]:
    """A line about what is promised, and how often each was kept, if anything is."""
    parts = [
        f"{_OBJECTIVES[name]} <= {_time(objective['limit_s'])} by {objective['attainment']:.1%}"
        for name, objective in objectives.items()
    ]
    return [f"{'':18}{', '.join(parts)}"] if parts else []


def _hardware(summary: Mapping[str, Any]) -> list[str]:
    """Lines about the GPUs: their use, and what they cost."""
    metrics, hardware = summary["metrics"], summary["hardware"]
    price = "assumed list price" if hardware["price_source"] == "assumption" else "the price given"
    power = "the highest rated power" if hardware["power_source"] != "configuration" else "the power given"
    mbu = "" if hardware["mbu"] is None else f", MBU {hardware['mbu']:.1%} at least"
    mfu = "-" if metrics["mfu"] is None else f"{metrics['mfu']:.1%}"
    lines = [
        f"hardware          MFU {mfu}{mbu}, idle time included, {metrics['gpu_hours']:.2f} GPU hours",
        f"per 1 M tokens    ${metrics['cost_usd_per_million_output_tokens']:.2f} of output, "
        f"${hardware['cost_usd_per_million_tokens']:.3f} of all at {price}; "
        f"{hardware['energy_kwh_per_million_output_tokens']:.3f} kWh of output at {power}",
    ]
    return lines


def _interval_of_rates(summary: Mapping[str, Any]) -> str:
    """That of the requests per second, which is also that of the tokens."""
    found = summary.get("intervals", {}).get("metrics", {}).get("throughput_requests_per_s")
    return "" if found is None else f" ({_within(found)})"


def _within(interval: list[float] | None) -> str:
    return "-" if interval is None else f"± {half_width(interval):.1%}"


def _meaning_of_intervals(summary: Mapping[str, Any]) -> list[str]:
    """What the intervals are, where there are any."""
    found = summary.get("intervals")
    if found is None:
        return []
    return [
        f"intervals         {found['coverage']:.0%}, for errors of predicted operator times alone, from "
        f"{found['members']} other tables that are as likely"
    ]


def _prefix_cache(summary: Mapping[str, Any]) -> list[str]:
    """A line about the prefix cache, where there is one."""
    cache = summary["prefix_cache"]
    if not cache["enabled"]:
        return []
    return [
        f"prefix cache      {cache['hit_rate']:.1%} of the prompt tokens found in it, "
        f"{cache['cached_tokens']:,} of {cache['prompt_tokens']:,}"
    ]


def _client(config: Mapping[str, Any]) -> list[str]:
    """A line about the clients, unless they send at the times of the workload."""
    client = config["client"]
    if client["name"] == "open":
        return []
    thinking = f" that think {_time(client['think_s'])}" if client["think_s"] > 0 else ""
    warmup = client["warmup_requests"]
    left_out = f"; latencies are without the first {warmup:,} requests" if warmup > 0 else ""
    return [f"clients           {client['concurrency']:,}{thinking}, each with one request at a time{left_out}"]


def _pipeline(metrics: Mapping[str, Any]) -> list[str]:
    """A line about the stages, where there are several."""
    if len(metrics["stage_utilization"]) == 1:
        return []
    stages = ", ".join(f"{part:.0%}" for part in metrics["stage_utilization"])
    return [
        f"pipeline          stages busy {stages} of the time; "
        f"bubbles {metrics['bubble_fraction']:.1%} of the time in which a batch is in flight"
    ]


def _where(config: Mapping[str, Any]) -> str:
    """With stages the mean is over all micro-batches together, but for Vidur, which counts those of one."""
    return "" if config["pipeline_parallel"] == 1 or config["parity"] else "in flight "


def _replicas(config: Mapping[str, Any]) -> str:
    gpus = config["tensor_parallel"] * config["pipeline_parallel"] * config["data_parallel"]
    count = config["replicas"]
    return f"{count} replica{'s' if count > 1 else ''} of {gpus} {config['device']}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 600:
        return f"{seconds:.2f} s"
    if seconds < 36_000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
