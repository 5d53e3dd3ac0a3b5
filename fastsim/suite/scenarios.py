"""What the suite holds: every workload with every batch policy on every deployment, at rates that are part of it.

Whoever changes what a scenario is, rates included, raises `SUITE_VERSION`: results of one version can be compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError

SUITE_VERSION: Final = 1
#: Requests of each of the two runs of a scenario.
REQUESTS: Final = 5000
#: The workloads of the Vidur paper, by their names in `traces.named`; none of their requests is longer.
WORKLOADS: Final = ("chat-1m", "arxiv-4k", "bwb-4k")
MAX_MODEL_LEN: Final = 4096
#: Those of the Vidur paper and of engines since, all with the default values of their fields.
SCHEDULERS: Final = (
    "vllm_v1",
    "vllm_v0",
    "sarathi",
    "orca",
    "faster_transformer",
    "lightllm",
    "sglang",
    "trtllm",
)
#: What a request has to meet to be counted as goodput: assumed, for people who read along.
SLO: Final = {"ttft_s": 2.0, "tpot_s": 0.1}
#: The part of what vllm_v1 serves per second, of requests that are all there at the start, at which requests arrive.
LOAD: Final = 0.7


@dataclass(frozen=True)
class Deployment:
    """A model on a replica of some GPUs.

    Attributes:
        name: of the model, in names of scenarios.
        model: its built-in name.
        device: GPU.
        tensor_parallel: how many of them.
        qps: by workload, requests per second that arrive, whatever the batch policy: `LOAD` of what vllm_v1 serves,
            rounded to two digits when the version of the suite was made.
    """

    name: str
    model: str
    device: str
    tensor_parallel: int
    qps: Mapping[str, float]


def _deployment(name: str, model: str, device: str, gpus: int, *qps: float) -> Deployment:
    return Deployment(name, model, device, gpus, dict(zip(WORKLOADS, qps, strict=True)))


#: The paper's models on its devices, and newer ones on newer devices.
DEPLOYMENTS: Final = (
    _deployment("llama-2-7b", "meta-llama/Llama-2-7b-hf", "a100_sxm", 1, 6.0, 1.4, 0.47),
    _deployment("llama-2-7b", "meta-llama/Llama-2-7b-hf", "h100_sxm", 1, 13.0, 3.1, 0.92),
    _deployment("internlm-20b", "internlm/internlm-20b", "a100_sxm", 2, 4.0, 0.93, 0.32),
    _deployment("internlm-20b", "internlm/internlm-20b", "h100_sxm", 2, 8.4, 2.1, 0.64),
    _deployment("llama-2-70b", "meta-llama/Llama-2-70b-hf", "a100_sxm", 4, 4.3, 1.3, 0.97),
    _deployment("llama-2-70b", "meta-llama/Llama-2-70b-hf", "h100_sxm", 4, 11.0, 3.2, 2.3),
    _deployment("qwen2.5-72b", "Qwen/Qwen2.5-72B", "a100_sxm", 4, 4.2, 1.3, 0.83),
    _deployment("qwen2.5-72b", "Qwen/Qwen2.5-72B", "h100_sxm", 4, 10.0, 3.1, 1.9),
    _deployment("llama-3.1-8b", "meta-llama/Llama-3.1-8B", "l40s", 1, 6.7, 1.7, 0.62),
    _deployment("llama-3.1-70b-fp8", "nvidia/Llama-3.1-70B-Instruct-FP8", "h200_sxm", 2, 8.8, 2.9, 2.0),
    _deployment("qwen3-30b-a3b-fp8", "Qwen/Qwen3-30B-A3B-FP8", "h100_sxm", 1, 25.0, 7.5, 2.8),
    _deployment("gpt-oss-120b", "openai/gpt-oss-120b", "b200_sxm", 1, 25.0, 9.5, 4.1),
)


@dataclass(frozen=True)
class Scenario:
    """One scenario, which is run twice: requests arrive over time, and all at the start."""

    workload: str
    deployment: Deployment
    scheduler: str

    @property
    def name(self) -> str:
        """Such as ``chat-1m/llama-2-7b/a100_sxm/vllm_v1``."""
        return "/".join((self.workload, self.deployment.name, self.deployment.device, self.scheduler))

    @property
    def qps(self) -> float:
        """Requests per second that arrive."""
        return self.deployment.qps[self.workload]

    def config(self, seed: int) -> SimulationConfig:
        """What serves."""
        return SimulationConfig(
            model=self.deployment.model,
            device=self.deployment.device,
            tensor_parallel=self.deployment.tensor_parallel,
            dtype="auto",
            max_model_len=MAX_MODEL_LEN,
            scheduler=self.scheduler,
            block_size=1 if self.scheduler == "lightllm" else 16,
            seed=seed,
            slo=SLO,
        )


def all_scenarios() -> list[Scenario]:
    """The standard suite: those that are compared stand together."""
    return [
        Scenario(workload, deployment, scheduler)
        for workload in WORKLOADS
        for deployment in DEPLOYMENTS
        for scheduler in SCHEDULERS
    ]


def choose_scenarios(pattern: str) -> Sequence[Scenario]:
    """The scenarios whose names match a pattern of the shell's kind, in which ``*`` also stands for slashes.

    Raises:
        ConfigError: there are none.
    """
    chosen = [scenario for scenario in all_scenarios() if fnmatchcase(scenario.name, pattern)]
    if not chosen:
        raise ConfigError("scenario", pattern, "is no scenario's name", "see 'fastsim bench --list'")
    return chosen
