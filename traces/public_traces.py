"""The public traces that can be fetched by name; see `traces.catalog`."""

from dataclasses import dataclass
from typing import Final

_RAW: Final = "https://raw.githubusercontent.com"
_AZURE: Final = f"{_RAW}/Azure/AzurePublicDataset/b469a113cedca53ddc3bdea71a143dc4b7d8700c/data"
_AZURE_2024: Final = "https://azurepublicdatasettraces.blob.core.windows.net/azurellminfererencetrace"
_MOONCAKE: Final = f"{_RAW}/kvcache-ai/Mooncake/3b5a594133958449a1feaf1c9e0fc1b553e34a28/FAST25-release"
_VIDUR: Final = f"{_RAW}/microsoft/vidur/7d47513363ec447a741ac5e47241580b47724fbf/data/processed_traces"
_SARATHI: Final = f"{_RAW}/microsoft/sarathi-serve/72339db5b120614033b317880ad3a05a5e4c9415/data/processed_traces"
_BURSTGPT: Final = "https://github.com/HPMLL/BurstGPT/releases/download/v2.0"
_BAILIAN: Final = (
    "https://media.githubusercontent.com/media/alibaba-edu/qwen-bailian-usagetraces-anon/"
    "0b4273a1d8a83935b9d9356e78f95c31f2ac64cf"
)
_SHAREGPT: Final = "https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered/resolve/main"
_SERVEGEN: Final = "https://codeload.github.com/alibaba/ServeGen/tar.gz/f891d1189eb32b3868dfc443800c4150548c282a"


@dataclass(frozen=True)
class PublicTrace:
    """A trace that can be fetched.

    Attributes:
        what: what it holds.
        url: its public address.
        license: its licence.
        sha256: of its bytes, or None where it is not known before the first fetch.
        file: its name in the cache.
    """

    what: str
    url: str
    license: str
    sha256: str | None = None
    file: str = ""

    @property
    def file_name(self) -> str:
        """The name of its file, by default the last part of its address."""
        return self.file or self.url.rpartition("/")[2]


_CC_BY: Final = "CC-BY-4.0"
CATALOG: Final[dict[str, PublicTrace]] = {
    "azure-2023-conv": PublicTrace(
        "Azure LLM inference trace 2023, conversation: an hour, 19,366 requests",
        f"{_AZURE}/AzureLLMInferenceTrace_conv.csv",
        _CC_BY,
        "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
    ),
    "azure-2023-code": PublicTrace(
        "Azure LLM inference trace 2023, code completion: an hour, 8,819 requests",
        f"{_AZURE}/AzureLLMInferenceTrace_code.csv",
        _CC_BY,
        "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
    ),
    "azure-2024-conv": PublicTrace(
        "Azure LLM inference trace 2024, conversation: a week",
        f"{_AZURE_2024}/AzureLLMInferenceTrace_conv_1week.csv",
        _CC_BY,
    ),
    "azure-2024-code": PublicTrace(
        "Azure LLM inference trace 2024, code completion: a week",
        f"{_AZURE_2024}/AzureLLMInferenceTrace_code_1week.csv",
        _CC_BY,
    ),
    "mooncake-conversation": PublicTrace(
        "Mooncake, conversation: an hour, 12,031 requests with block ids",
        f"{_MOONCAKE}/traces/conversation_trace.jsonl",
        "Apache-2.0",
        "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        "mooncake_conversation_trace.jsonl",
    ),
    "mooncake-synthetic": PublicTrace(
        "Mooncake, synthetic: 3,993 requests with block ids",
        f"{_MOONCAKE}/traces/synthetic_trace.jsonl",
        "Apache-2.0",
        "bd070915a98fc0ed264d7cfef2ce746002eb3076a695ec31ba2674c0111ec131",
        "mooncake_synthetic_trace.jsonl",
    ),
    "mooncake-toolagent": PublicTrace(
        "Mooncake, tools and agents: requests with block ids",
        f"{_MOONCAKE}/traces/toolagent_trace.jsonl",
        "Apache-2.0",
        file="mooncake_toolagent_trace.jsonl",
    ),
    "burstgpt-1": PublicTrace(
        "BurstGPT, the first two months, failures included",
        f"{_BURSTGPT}/BurstGPT_1.csv",
        _CC_BY,
        "4bb3783693d0a435686fbfc885615d2349bd067239079fa4b749f2e679e12122",
    ),
    "burstgpt-2": PublicTrace(
        "BurstGPT, the second two months, failures included",
        f"{_BURSTGPT}/BurstGPT_2.csv",
        _CC_BY,
        "44bf5942b03fca42c01a226a545ad3a750ec62688faecd67b6831c56a8928bf7",
    ),
    "burstgpt-3": PublicTrace(
        "BurstGPT, later months, with sessions, failures included",
        f"{_BURSTGPT}/BurstGPT_3.csv",
        _CC_BY,
        "2299986a07388aa303ec2c41d1131e756db650a39ed6ef9dfe7cc3d7f9a43b8f",
    ),
    "vidur-arxiv": PublicTrace(
        "lengths of Arxiv-Summarization-4K as Vidur ships them: 28,257 requests without arrivals",
        f"{_VIDUR}/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
        "MIT",
        "9d3580538d915ca75e4aaaa54590b42dbb17abc6d74c8913310cf07c232adcdc",
    ),
    "vidur-splitwise-conv": PublicTrace(
        "azure-2023-conv with Vidur's columns",
        f"{_VIDUR}/splitwise_conv.csv",
        _CC_BY,
        "439e4138b7e384f316de614c071f7162be05b8af0cef866f82faacd1b0472249",
    ),
    "vidur-splitwise-code": PublicTrace(
        "azure-2023-code with Vidur's columns",
        f"{_VIDUR}/splitwise_code.csv",
        _CC_BY,
        "f266b907d109d471c61283ab69771c17ad79a18b33ff6e96aa546346f52767a6",
    ),
    "sarathi-sharegpt": PublicTrace(
        "lengths of ShareGPT turns as Sarathi-Serve ships them: 30,731 requests without arrivals",
        f"{_SARATHI}/sharegpt_8k_filtered_stats_llama2_tokenizer.csv",
        "Apache-2.0",
        "6d6c296302a853e2669a674a96f269283e60c57e60363bd450588a1066919f9f",
    ),
    "sharegpt": PublicTrace(
        "ShareGPT conversations as texts, the file that serving benchmarks use",
        f"{_SHAREGPT}/ShareGPT_V3_unfiltered_cleaned_split.json",
        "see the data set's page",
        "35f0e213ce091ed9b9af2a1f0755e9d39f9ccec34ab281cd4ca60d70f6479ba4",
    ),
    "qwen-coder": PublicTrace(
        "Qwen-Bailian, coding: requests with block ids",
        f"{_BAILIAN}/qwen_coder_blksz_16.jsonl",
        "Apache-2.0",
        "3d74974cebb7bccb69b1ca6ea210a44d9a3033443c0271ed015327284dea1aff",
    ),
    "qwen-thinking": PublicTrace(
        "Qwen-Bailian, reasoning: requests with block ids",
        f"{_BAILIAN}/qwen_thinking_blksz_16.jsonl",
        "Apache-2.0",
        "41ac36d9d1b54d084eeb6b05e9d142ba9d02f8bf79cfc9fff418d8ab7cdee906",
    ),
    "servegen": PublicTrace(
        "ServeGen, the clients of all its models; traces.ServeGenPool.read takes the folder of one",
        _SERVEGEN,
        "Apache-2.0",
        file="servegen.tar.gz",
    ),
}
