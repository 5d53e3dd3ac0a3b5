"""A summary as text that fits a terminal."""

from collections.abc import Mapping
from typing import Any

from fastsim.intervals import half_width

_LATENCIES = (
    ("TTFT", "ttft_s", "time to first token"),
    ("TPOT", "tpot_s", "time per output token after the first"),
    ("TBT", "tbt_s", "time between tokens"),
    ("E2E", "e2e_s", "arrival to last token"),
    ("scheduling delay", "scheduling_delay_s", "arrival to first iteration"),
)
_COLUMNS = ("mean", "p50", "p90", "p99")


def render(summary: Mapping[str, Any]) -> str:
    """The summary of one simulation as text, several lines."""
    config, simulation, metrics = summary["config"], summary["simulation"], summary["metrics"]
    requests = simulation["requests"]
    lines = [
        f"{config['model']} on {_replicas(config)}, {config['scheduler']['name']}, "
        f"{requests:,} request{'s' if requests > 1 else ''} in {_time(simulation['makespan_s'])}",
        "",
        f"{'':18}" + "".join(f"{column:>12}" for column in _COLUMNS),
    ]
    for name, key, meaning in _LATENCIES:
        cells = "".join(f"{_time(metrics[key][column]):>12}" for column in _COLUMNS)
        lines += [f"{name:18}{cells}   {meaning}", *_intervals(summary, key)]
    lines += [
        *_classes(summary),
        "",
        *_client(config),
        f"throughput        {metrics['throughput_requests_per_s']:.2f} requests/s, "
        f"{metrics['throughput_output_tokens_per_s']:,.0f} output tokens/s, "
        f"{metrics['throughput_tokens_per_s']:,.0f} tokens/s in all{_interval_of_rates(summary)}",
        f"batch             {metrics['batch_size_mean']:.1f} requests {_where(config)}on average, "
        f"{simulation['iterations']:,} iterations, busy {metrics['utilization']:.0%} of the time",
        *_pipeline(metrics),
        f"KV cache          {metrics['kv_use_mean']:.1%} used on average, {metrics['kv_use_max']:.1%} at most, "
        f"of {summary['replicas'][0]['kv_blocks']:,} blocks per replica; {metrics['preemptions']:,} preemptions",
        *_prefix_cache(summary),
        f"hardware          MFU {metrics['mfu']:.1%} idle time included, {metrics['gpu_hours']:.2f} GPU hours, "
        f"${metrics['cost_usd_per_million_output_tokens']:.2f} per million output tokens at assumed list price",
        *_meaning_of_intervals(summary),
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
    return [] if found is None else [f"{'':18}" + "".join(f"{_within(found[column]):>12}" for column in _COLUMNS)]


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
