"""Parameters of the built-in models are the published ones."""

import pytest

from estimators.models import load_model, model_names

#: Exact, of the safetensors index of each model. Of those that see images (Gemma 3) and of those that draft tokens
#: (DeepSeek-V3) the rest is left out, so theirs stand below.
EXACT = {
    "codellama/CodeLlama-34b-Instruct-hf": 33_743_970_304,
    "deepseek-ai/DeepSeek-V2-Lite": 15_706_484_224,
    "google/gemma-2-27b": 27_227_128_320,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-2-9b": 9_241_705_984,
    "google/gemma-2b": 2_506_172_416,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-7b": 8_537_680_896,
    "internlm/internlm-20b": 20_088_714_240,
    "internlm/internlm2_5-7b-chat": 7_737_708_544,
    "internlm/internlm3-8b-instruct": 8_804_241_408,
    "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-3.1-405B": 405_853_388_800,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "microsoft/phi-2": 2_779_683_840,
    "microsoft/phi-4": 14_659_507_200,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "Qwen/Qwen-72B": 72_287_920_128,
    "Qwen/Qwen2.5-72B": 72_706_203_648,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-235B-A22B": 235_093_634_560,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
}
#: Billions of parameters as published, of which active, how far both are rounded, and where they stand.
PUBLISHED = {
    "deepseek-ai/DeepSeek-V2-Lite": (15.7, 2.4, 0.05, 0.06, "model card; active without the embedding table"),
    "deepseek-ai/DeepSeek-V3": (671, 37, 0.5, 0.6, "model card"),
    "google/gemma-3-12b-it": (11.77, 11.77, 0.01, 0.01, "Gemma 3 report, table 1: 1,012 M + 10,759 M, no vision"),
    "google/gemma-3-27b-it": (27.016, 27.016, 0.01, 0.01, "Gemma 3 report, table 1: 1,416 M + 25,600 M, no vision"),
    "google/gemma-3-4b-it": (3.88, 3.88, 0.01, 0.01, "Gemma 3 report, table 1: 675 M + 3,209 M, no vision"),
    "MiniMaxAI/MiniMax-M2": (230, 10, 2, 0.5, "model card; active without the embedding table"),
    "mistralai/Mixtral-8x22B-v0.1": (141, 39, 0.5, 0.5, "announcement (mistral.ai/news/mixtral-8x22b)"),
    "mistralai/Mixtral-8x7B-v0.1": (46.7, 12.9, 0.05, 0.05, "announcement (mistral.ai/news/mixtral-of-experts)"),
    "moonshotai/Kimi-K2-Instruct": (1030, 32.6, 5, 0.5, "safetensors; active of the report, which has 1.04 T in total"),
    "openai/gpt-oss-120b": (116.83, 5.13, 0.005, 0.005, "model card, table 1; active without the embedding table"),
    "openai/gpt-oss-20b": (20.91, 3.61, 0.005, 0.005, "model card, table 1; active without the embedding table"),
    "Qwen/Qwen3-0.6B": (0.6, 0.6, 0.05, 0.05, "model card"),
    "Qwen/Qwen3-1.7B": (1.7, 1.7, 0.05, 0.05, "model card"),
    "Qwen/Qwen3-235B-A22B": (235, 22, 0.5, 0.5, "model card"),
    "Qwen/Qwen3-30B-A3B": (30.5, 3.3, 0.05, 0.06, "model card"),
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": (480, 35, 0.5, 0.5, "model card"),
}
#: Models with the weights of another.
SAME = {
    "deepseek-ai/DeepSeek-R1": "deepseek-ai/DeepSeek-V3",
    "nvidia/DeepSeek-R1-0528-NVFP4": "deepseek-ai/DeepSeek-V3",
    "nvidia/Llama-3.1-70B-Instruct-FP8": "meta-llama/Llama-3.1-70B",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "meta-llama/Llama-3.1-8B",
    "nvidia/Llama-3.3-70B-Instruct-FP8": "meta-llama/Llama-3.1-70B",
    "Qwen/Qwen3-235B-A22B-FP8": "Qwen/Qwen3-235B-A22B",
    "Qwen/Qwen3-30B-A3B-FP8": "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-32B-FP8": "Qwen/Qwen3-32B",
}


def test_every_built_in_model_has_a_known_count():
    assert set(model_names()) == EXACT.keys() | PUBLISHED.keys() | SAME.keys()


@pytest.mark.parametrize(("name", "count"), EXACT.items())
def test_parameters_are_exact(name, count):
    assert load_model(name).num_parameters == count


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_parameters_are_those_published(name, published):
    total, active, total_rounding, active_rounding, source = published
    model = load_model(name)
    table = model.vocab_size * model.hidden_size if "without the embedding table" in source else 0
    assert model.num_parameters / 1e9 == pytest.approx(total, abs=total_rounding)
    assert (model.active_parameters - table) / 1e9 == pytest.approx(active, abs=active_rounding)


@pytest.mark.parametrize(("name", "original"), SAME.items())
def test_a_quantised_checkpoint_has_the_parameters_of_its_original(name, original):
    assert load_model(name).num_parameters == load_model(original).num_parameters


@pytest.mark.parametrize("name", sorted(EXACT))
def test_unquantised_weights_take_two_bytes_each(name):
    model = load_model(name)
    padding = (model.vocabulary_per_gpu(1) - model.vocab_size) * model.hidden_size
    assert model.weight_bytes() == 2 * (model.num_parameters + padding * (1 if model.tied_embeddings else 2))


@pytest.mark.parametrize(("name", "gib"), [("openai/gpt-oss-120b", 60.8), ("openai/gpt-oss-20b", 12.8)])
def test_weights_in_mxfp4_take_what_is_published(name, gib):
    # Size of the checkpoint: gpt-oss model card, table 1.
    assert load_model(name).weight_bytes() / (1 << 30) == pytest.approx(gib, abs=0.06)


def test_weights_in_fp8_take_a_byte_and_the_rest_two():
    model = load_model("DeepSeek-V3")
    matrices = model.linear_flops_per_token // 2 - 58 * 256 * 7168  # of a token, without routers
    matrices += 58 * (256 - 8) * 3 * 7168 * 2048
    assert model.weight_bytes() == 2 * model.num_parameters - matrices
    assert 671e9 < model.weight_bytes() < 674e9
