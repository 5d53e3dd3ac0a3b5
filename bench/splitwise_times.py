"""Times of an iteration of Llama-2-70B for bench/splitwise.py: on the GPU, by two sources, and on the CPU."""

from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
from common import FloatArray, read_columns

from estimators import IterationTables
from estimators.monotone import smooth_rows
from estimators.sources.vidur import read_vidur
from fastsim.errors import ConfigError

MODEL, LAYERS, HIDDEN = "meta-llama/Llama-2-70b-hf", 80, 8192
LONGEST_BATCH, MOST_REQUESTS, LONGEST_REQUEST = 32768, 64, 16384
#: What Vidur sums per layer; its ``add`` once, as its norms do not add.
LAYER = (
    *("input_layernorm", "attn_pre_proj", "attn_rope", "attn_post_proj", "post_attention_layernorm"),
    *("mlp_up_proj", "mlp_act", "mlp_down_proj", "add"),
)
#: Per iteration; the sampler of 2024 holds the LM head.
CPU_PARTS = ("SCHEDULE", "SAMPLER_E2E", "PREPARE_INPUTS_E2E", "PROCESS_MODEL_OUTPUTS", "POST_PREPARE_INPUTS_BARRIER")
CPU_PARTS += ("RAY_COMM_TIME",)
_SHAPE = {"n_embd": HIDDEN, "n_expanded_embd": 28672, "n_head": 64, "n_kv_head": 8}
_ATTENTION_SHAPE = {"n_embd": HIDDEN, "n_q_head": 64, "n_kv_head": 8}


class GpuTimes(Protocol):
    """Seconds that the GPUs take for the layers of one iteration."""

    def prompt_s(self, requests: int, prompt: int) -> float:
        """Of a batch of equal prompts."""

    def token_s(self, requests: int, context: int) -> float:
        """Of a batch of decodes with a mean context, tokens."""


class Zoo:
    """By the estimators of the package, trained on newer kernels than those of 2024."""

    def __init__(self, device: str, tp: int) -> None:
        """Build the tables."""
        sizes = {"max_tokens": LONGEST_BATCH, "max_sequences": MOST_REQUESTS, "max_model_len": LONGEST_REQUEST}
        self.tables = IterationTables.build(MODEL, device, tp, **sizes)

    def prompt_s(self, requests: int, prompt: int) -> float:
        """See ``GpuTimes``."""
        return float(self.tables.token_s[requests * prompt]) + self.prompt_attention_s(requests, prompt)

    def token_s(self, requests: int, context: int) -> float:
        """See ``GpuTimes``."""
        return float(self.tables.token_s[requests]) + self.token_attention_s(requests, context)

    def prompt_attention_s(self, requests: int, prompt: int) -> float:
        """Attention of a batch of prompts."""
        return requests * float(self.tables.prefill_time_s(0, prompt))

    def token_attention_s(self, requests: int, context: int) -> float:
        """Attention of a batch of decodes."""
        return float(self.tables.decode_time_s(requests, requests * context))


class Vidur:
    """By Vidur's profiles: its layers and all-reduces as measured, linear between, and attention where it is there.

    Its attention is that of A100s two of which share the model; for others that of the zoo is taken.
    """

    def __init__(self, directory: Path, device: str, tp: int, zoo: Zoo) -> None:
        """Read the files; ``directory`` holds compute/, network/ and history/."""
        gpu = device.removesuffix("_sxm")
        self.layer = _layer(directory / "compute" / gpu / "meta-llama", tp)
        self.all_reduce = _all_reduce(directory, f"{gpu}_dgx", tp)
        old = directory / "history" / "a100_attention_old.csv.gz"
        self.attention = VidurAttention(old) if (gpu, tp) == ("a100", 2) else zoo

    def prompt_s(self, requests: int, prompt: int) -> float:
        """See ``GpuTimes``."""
        return self._others_s(requests * prompt) + self.attention.prompt_attention_s(requests, prompt)

    def token_s(self, requests: int, context: int) -> float:
        """See ``GpuTimes``."""
        return self._others_s(requests) + self.attention.token_attention_s(requests, context)

    def _others_s(self, tokens: int) -> float:
        return LAYERS * (1e-3 * along(*self.layer, tokens) + 2 * along(*self.all_reduce, tokens * HIDDEN))


class VidurAttention:
    """Attention of all layers, measured for single prompts to 4,096 tokens and for decodes of as long contexts.

    A batch of prompts takes as long as they take one after another; longer ones grow with the square of their length.
    """

    def __init__(self, path: Path) -> None:
        """Read the file."""
        parts = [f"time_stats.{part}.median" for part in ("attn_prefill", "attn_decode", "attn_input_reshape")]
        parts.append("time_stats.attn_output_reshape.median")
        keys = ["batch_size", "prefill_chunk_size", "kv_cache_size", *_ATTENTION_SHAPE]
        frame = _of_shape(read_columns(path, [*keys, "num_tensor_parallel_workers", *parts]), _ATTENTION_SHAPE, 2, path)
        frame = frame.with_columns(ms=pl.sum_horizontal(parts))
        chunks = frame.filter(pl.col("prefill_chunk_size") > 0, pl.col("kv_cache_size") == 0)
        self.chunks = _curve(chunks, "prefill_chunk_size", "ms")
        decodes = frame.filter(pl.col("prefill_chunk_size") == 0)
        self.decodes = {
            int(size): _curve(part, "kv_cache_size", "ms")
            for (size,), part in decodes.group_by("batch_size", maintain_order=True)
        }

    def prompt_attention_s(self, requests: int, prompt: int) -> float:
        """Attention of a batch of prompts."""
        longest = float(self.chunks[0][-1])
        more = max(1.0, prompt / longest) ** 2
        return 1e-3 * LAYERS * requests * more * along(*self.chunks, min(prompt, longest))

    def token_attention_s(self, requests: int, context: int) -> float:
        """Attention of a batch of decodes; the batches that occur were all measured."""
        return 1e-3 * LAYERS * along(*self.decodes[requests], context)


class CpuTimes:
    """What the CPU takes per iteration, measured by Vidur's authors in an engine of that time on A100s."""

    def __init__(self, path: Path) -> None:
        """Read the file."""
        parts = [f"{part}_MEDIAN" for part in CPU_PARTS]
        names = [*parts, "batch_size", "tensor_parallel_degree"]
        frame = read_columns(path, names, texts=["model_name"]).filter(pl.col("model_name") == MODEL)
        frame = frame.with_columns(ms=pl.sum_horizontal(parts))
        self.by_tp = {
            int(tp): _curve(part, "batch_size", "ms") for (tp,), part in frame.group_by("tensor_parallel_degree")
        }
        if not self.by_tp:
            raise ConfigError("profiles", str(path), f"has no rows of {MODEL}", "give those that Vidur published")

    def seconds(self, tp: int, requests: int) -> float:
        """Of one iteration; as of the most GPUs that were measured where ``tp`` was not."""
        sizes, ms = self.by_tp[tp if tp in self.by_tp else max(self.by_tp)]
        return 1e-3 * along(sizes, ms, max(requests, sizes[0]))


def along(at: FloatArray, values: FloatArray, where: float) -> float:
    """Linear between points, and beyond the last on the line through it and that at half of it."""
    if where <= at[-1]:
        return float(np.interp(where, at, values))
    half = float(np.interp(at[-1] / 2, at, values))
    return float(values[-1] + (values[-1] - half) / (at[-1] / 2) * (where - at[-1]))


def _layer(models: Path, tp: int) -> tuple[FloatArray, FloatArray]:
    """Milliseconds of one layer by tokens; Llama-3-70B was measured for more of them where it is there."""
    parts = [f"time_stats.{part}.median" for part in LAYER]
    columns = [*parts, *_SHAPE, "num_tokens", "num_tensor_parallel_workers"]
    path = models / "Llama-2-70b-hf" / "mlp.csv.gz"
    frame = _of_shape(read_columns(path, columns), _SHAPE, tp, path)
    longer = models / "Meta-Llama-3-70B" / "mlp.csv.gz"
    if longer.is_file():
        beyond = pl.col("num_tokens") > frame["num_tokens"].max()
        frame = pl.concat([frame, _of_shape(read_columns(longer, columns), _SHAPE, tp, longer).filter(beyond)])
    return _curve(frame.with_columns(ms=pl.sum_horizontal(parts)), "num_tokens", "ms")


def _all_reduce(directory: Path, node: str, tp: int) -> tuple[FloatArray, FloatArray]:
    """Seconds of an all-reduce between GPUs of one node, by 16-bit numbers.

    Neighbouring sizes were measured up to five times apart, as one GPU waits for the other or not. So they are smoothed
    as the package's tables are: more work takes no less time.
    """
    frame = read_vidur(directory, "all_reduce", node).frame.filter(gpus=tp)
    if not frame.height:
        wrong = f"has no all-reduce of {tp} GPUs of one node of {node}"
        raise ConfigError("profiles", str(directory), wrong, "give Vidur's profiles")
    return frame["elements"].to_numpy().astype(np.float64), smooth_rows(frame["seconds"].to_numpy()[None, :])[0]


def _of_shape(frame: pl.DataFrame, shape: dict[str, int], tp: int, path: Path) -> pl.DataFrame:
    """The rows of the model; repeated points stay."""
    kept = frame.filter(pl.col("num_tensor_parallel_workers") == tp, *(pl.col(k) == v for k, v in shape.items()))
    if not kept.height:
        wrong = f"has no rows of a model like {MODEL} on {tp} GPUs"
        raise ConfigError("profiles", str(path), wrong, "give Vidur's profiles")
    return kept


def _curve(frame: pl.DataFrame, along_column: str, value: str) -> tuple[FloatArray, FloatArray]:
    """Median of a value by a column, ascending."""
    curve = frame.group_by(along_column).agg(pl.col(value).median()).sort(along_column)
    return curve[along_column].to_numpy(), curve[value].to_numpy()
