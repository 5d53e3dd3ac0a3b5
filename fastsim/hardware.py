"""What a run used of its GPUs: memory, its bandwidth, energy and money.

Bytes moved are MODELLED, the least that the work needs: in each iteration every weight that it uses is read once, of
experts as many as its mean number of tokens activates under routers that favour none; a decode reads the keys and
values of its context once, and each token's are written once. What chunks of a prompt read of those before them,
activations and what kernels read twice are not counted, so that the use of bandwidth is a lower bound.

Power and price are the configuration's, else the data sheet's highest power and an assumed list price.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from estimators import DeviceSpec, ModelSpec
    from fastsim.config import SimulationConfig
    from fastsim.totals import Served

    Tokens = npt.NDArray[np.integer[Any]]


def describe_hardware(
    config: "SimulationConfig",
    model: "ModelSpec",
    device: "DeviceSpec",
    replicas: np.ndarray,
    served: "Served",
) -> dict[str, Any]:
    """Use of the GPUs over a whole run, the time in which they idle included.

    Args:
        config: what was simulated.
        model: that served.
        device: that served it.
        replicas: REPLICA records after the run.
        served: sums over its requests.
    """
    gpus = config.replicas * config.data_parallel * config.tensor_parallel * config.pipeline_parallel
    moved = bytes_moved(config, model, replicas, served.contexts)
    gpu_s, output = gpus * served.makespan_s, served.output_tokens
    both = output + served.prompt_tokens
    watts, price = power_watts(config, device), price_per_hour(config, device)
    busy_s = float(replicas["busy_s"].sum()) * config.tensor_parallel
    energy_kwh, cost_usd = gpu_s * watts / 3.6e6, gpu_s / 3600 * price
    return {
        "gpus": gpus,
        "mbu": sum(moved.values()) / (gpu_s * device.memory_bandwidth) if gpu_s > 0 else None,
        "bytes_moved": moved,
        "power_watts": watts,
        "power_source": "data sheet, highest" if config.power_watts is None else "configuration",
        "energy_kwh": energy_kwh,
        "energy_busy_kwh": busy_s * watts / 3.6e6,
        "energy_kwh_per_million_output_tokens": energy_kwh / output * 1e6,
        "energy_kwh_per_million_tokens": energy_kwh / both * 1e6,
        "price_per_hour": price,
        "price_source": "assumption" if config.price_per_hour is None else "configuration",
        "cost_usd_per_million_tokens": cost_usd / both * 1e6,
        "memory": _memory(config, model, device, replicas),
    }


def power_watts(config: "SimulationConfig", device: "DeviceSpec") -> float:
    """Power of a GPU [W]."""
    return device.power_watts if config.power_watts is None else config.power_watts


def price_per_hour(config: "SimulationConfig", device: "DeviceSpec") -> float:
    """Price of a GPU [US dollars per hour]."""
    return device.price_per_hour if config.price_per_hour is None else config.price_per_hour


def bytes_moved(
    config: "SimulationConfig",
    model: "ModelSpec",
    replicas: np.ndarray,
    contexts: tuple[float, float],
) -> dict[str, float]:
    """Bytes that all GPUs together read and wrote at the least.

    Args:
        config: what was simulated.
        model: that served.
        replicas: REPLICA records after the run.
        contexts: of all decodes, as `contexts_of` gives them [tokens].
    """
    tp, pp, dtype = config.tensor_parallel, config.pipeline_parallel, config.dtype
    kv_dtype = model.kv_cache_dtype(config.kv_dtype, dtype)
    processed = int(replicas["prefill_tokens"].sum() + replicas["decode_tokens"].sum())
    iterations = int(replicas["iteration"].sum())
    # Engines that share experts run together, so that these see the tokens of all.
    tokens = config.data_parallel * processed / max(iterations, 1)
    weights = sum(_weights_read(config, model, stage, tokens) for stage in range(pp))
    read = written = 0.0
    whole, windowed = contexts
    for stage in range(pp):
        layers = model.pipeline_stage(pp, stage)
        per_layer = model.kv_bytes_per_token(tp, kv_dtype, pp, stage) / layers.layers
        read += per_layer * ((layers.layers - layers.window_layers) * whole + layers.window_layers * windowed)
        written += per_layer * layers.layers * processed
    return {"weights": weights * tp * iterations, "kv_read": read * tp, "kv_written": written * tp}


def _weights_read(config: "SimulationConfig", model: "ModelSpec", stage: int, tokens: float) -> float:
    """Bytes of weights that one GPU of a stage reads in an iteration over a mean number of tokens."""
    from estimators.dtypes import DTYPE_BYTES
    from estimators.weights import stage_weights

    tp, part = config.tensor_parallel, model.pipeline_stage(config.pipeline_parallel, stage)
    vocabulary = model.vocabulary_per_gpu(tp)
    held = stage_weights(model, part, tp, vocabulary, tp * config.data_parallel)
    if part.first and not (part.last and model.tied_embeddings):
        held["other"] -= vocabulary * model.hidden_size  # of the table a row for each token
    if model.experts is not None:
        active = float(model.experts.expected_experts(np.array(tokens))) / model.experts.num_experts
        held["experts"] *= active  # type: ignore[assignment]
    return float(sum(held[name] * DTYPE_BYTES[model.part_dtype(name, config.dtype)] for name in held))


def contexts_of(prompt_tokens: "Tokens", output_tokens: "Tokens", window: int | None) -> tuple[float, float]:
    """Sum of the contexts of all decodes [tokens], and the same of what a window lets them see.

    A decode reads the prompt and the output tokens before its own, itself included: the first output token comes of the
    prompt. Exact but for requests that were preempted, whose recomputed tokens count as decodes.
    """
    # In floats: sums of products may pass 63 bits.
    products = np.multiply(output_tokens, prompt_tokens, dtype=np.float64).sum()
    squares = np.multiply(output_tokens, output_tokens, dtype=np.float64).sum()
    whole = float(products - prompt_tokens.sum() + (squares - output_tokens.sum()) / 2)
    if window is None:
        return whole, whole
    prompt, output = prompt_tokens.astype(np.float64), output_tokens.astype(np.float64)
    first, last = prompt + 1, prompt + output - 1  # contexts, one for each decode
    inside = np.clip(np.minimum(last, window) - first + 1, 0, None)
    beyond = output - 1 - inside
    windowed = inside * (2 * first + inside - 1) / 2 + beyond * window
    return whole, float(windowed.sum())


def _memory(
    config: "SimulationConfig", model: "ModelSpec", device: "DeviceSpec", replicas: np.ndarray
) -> list[dict[str, float]] | None:
    """Of one GPU of each stage what its memory holds [bytes]; None under Vidur's rules, which plan it otherwise."""
    if config.parity is not None:
        return None
    from fastsim.memory import divide_memory

    blocks, active_s = float(replicas["num_blocks"].mean()), float(replicas["active_s"].sum())
    used = float(replicas["block_seconds"].sum()) / active_s if active_s > 0 else 0.0
    return [
        {
            "device_bytes": device.memory_bytes,
            "weight_bytes": stage.weight_bytes,
            "reserve_bytes": stage.reserve_bytes,
            "kv_bytes": blocks * stage.block_bytes,
            "kv_used_mean_bytes": used * stage.block_bytes,
            "kv_used_max_bytes": float(replicas["peak_blocks"].max()) * stage.block_bytes,
        }
        for stage in divide_memory(config, model, device).stages
    ]
