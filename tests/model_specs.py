"""Models whose iterations differ: experts, latent attention, windows, norms behind."""

from estimators.models import load_model

DEEPSEEK_V3 = load_model("deepseek-ai/DeepSeek-V3")
GPT_OSS = load_model("openai/gpt-oss-120b")
GEMMA_3 = load_model("google/gemma-3-27b-it")
MIXTRAL = load_model("mistralai/Mixtral-8x7B-v0.1")
