"""The forward pass written out here is that of transformers, for every family it says it knows."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from engine.errors import WeightsError
from engine.model.config import config_of
from engine.model.language_model import LanguageModel

SIZE = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "max_position_embeddings": 600,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS = {
    "qwen2": Qwen2Config(**SIZE),
    "qwen3": Qwen3Config(**SIZE, head_dim=32),
    "llama": LlamaConfig(**SIZE),
    "llama with biases and scaled positions": LlamaConfig(**SIZE, attention_bias=True, rope_parameters=LLAMA3),
    "mistral": MistralConfig(**SIZE, sliding_window=None),
}


def build(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, value in model.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(value, 1.0, 0.3)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_hidden_states_and_logits_are_those_of_transformers(name):
    model = build(CONFIGS[name])
    ids = torch.randint(64, (1, 300), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model.get_decoder()(input_ids=ids).last_hidden_state[0]
        logits = model(input_ids=ids).logits[0]
    ours = LanguageModel(model, name, vocabulary=60)
    cache = ours.new_cache(1, 300)
    hidden = torch.cat(
        [ours.feed(cache, [0], [ids[0, a:b].tolist()])[0] for a, b in ((0, 290), (290, 291), (291, 300))]
    )
    torch.testing.assert_close(hidden, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.logits(hidden), logits[:, :60], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Qwen2Config(**SIZE, hidden_act="gelu"), "gelu"),
        (LlamaConfig(**SIZE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}), "dynamic"),
        (MistralConfig(**SIZE, sliding_window=16), "sliding"),
    ],
)
def test_what_the_pass_does_not_reproduce_is_refused_with_the_reason(config, reason):
    with pytest.raises(WeightsError, match=reason):
        config_of("other", config.to_dict())
