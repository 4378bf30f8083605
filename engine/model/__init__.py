"""One language model: forward pass, KV cache, 4-bit products, and what is read off its logits."""
