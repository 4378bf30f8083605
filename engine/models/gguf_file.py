"""A GGUF file (ggml's docs/gguf.md): configuration, tokenizer, and tensors turned back into numbers one by one.

The `gguf` package reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.errors import WeightsError, shown
from engine.model.config import config_of

_FIELDS = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
_IDS = {f"{name[:3]}_token_id": f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "padding")}
_MOST_ITEMS = 2_000_000  # of an array; vocabularies have a few hundred thousand
_HEAD, _EMBEDDING = "output.weight", "token_embd.weight"
# The two official Q4_K_M files hold the tied embedding twice, as `token_embd` and, in a better format, as `output`.
# They differ by 4 % (0.5B: Q5_0, Q8_0) and 7 % (1.5B: Q4_K, Q6_K); two matrices that are not tied differ by over 100 %.
_TIED_BELOW, _TIED_ROWS = 0.25, 4096


class GgufFile:
    """The model in a GGUF file.

    Attributes:
        config: Its configuration, as transformers has it.
    """

    def __init__(self, title: str, path: Path) -> None:
        """Reads the header; a WeightsError if the file is damaged, or of a model that this engine does not decode.

        With the 300,000 tokens and merges of a Qwen model that takes `gguf` some 15 seconds.
        """
        import gguf  # late: a converted model needs none of it

        self._title, self._path = title, path
        try:
            self._reader: Any = _reader(path)
            self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
            self.config = config_of(title, self._configuration())
            names = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
            self._names = gguf.get_tensor_name_map(names[self.config.model_type], self.config.num_hidden_layers)
        except WeightsError:
            raise
        except Exception as error:  # `gguf` raises whatever it stumbles over
            reason = error.strerror if isinstance(error, OSError) else None
            raise WeightsError(f"{title}: {path} is not a whole GGUF file ({shown(reason or str(error))})") from None

    def _field(self, key: str, default: Any = None) -> Any:
        field = self._reader.fields.get(key)
        return default if field is None else field.contents()

    def _configuration(self) -> dict[str, Any]:
        kind = str(self._field("general.architecture"))
        if "rope_freqs.weight" in self._tensors or self._field(f"{kind}.rope.scaling.type", "none") != "none":
            raise WeightsError(
                f"{self._title} scales its rotary embedding, which is not read from GGUF files: give its folder of "
                "safetensors"
            )
        values = {name: self._field(f"{kind}.{key}") for name, key in _FIELDS.items()}
        values |= {name: self._field(key) for name, key in _IDS.items()}
        tokens = self._reader.fields.get("tokenizer.ggml.tokens")
        vocabulary = len(tokens.data) if tokens else 0
        return {"model_type": kind, "vocab_size": vocabulary, "tie_word_embeddings": self._tied(), **values}

    def _tied(self) -> bool:
        head, embedding = (self._tensors.get(name) for name in (_HEAD, _EMBEDDING))
        if head is None or embedding is None:
            return True
        if head.shape.tolist() != embedding.shape.tolist() or len(head.shape) != 2:
            return False
        output, tokens = (_numbers(tensor, _TIED_ROWS) for tensor in (head, embedding))
        return bool((tokens - output).norm() / output.norm() < _TIED_BELOW)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of one of transformers' tensors; None if the file lacks it."""
        found = self._tensors.get(self._stored(name))
        return found and tuple(reversed(found.shape.tolist()))

    def read(self, name: str, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        tensor = _numbers(self._tensors[self._stored(name)])
        if self.config.model_type == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            # llama.cpp puts the two halves that are rotated together side by side.
            config: Any = self.config
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            tensor = tensor.view(heads, -1, 2, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
        return tensor.to(dtype)

    def tokenizer(self) -> Any:
        """The tokenizer, once; a WeightsError if the file has none that transformers reads."""
        import gguf
        from transformers import AutoTokenizer

        parsed: Any = gguf
        known, self._reader = self._reader, None  # hundreds of megabytes for a real vocabulary
        reader, parsed.GGUFReader = parsed.GGUFReader, lambda *_: known  # else the file is parsed twice more
        try:
            name = self._path.name
            return AutoTokenizer.from_pretrained(self._path.parent, gguf_file=name, trust_remote_code=False)
        except OSError:
            raise
        except Exception as error:  # the libraries raise whatever they stumble over
            raise WeightsError(f"{self._title}: its tokenizer cannot be read ({shown(str(error))})") from error
        finally:
            parsed.GGUFReader = reader

    def _stored(self, name: str) -> str:
        """The file's name for one of transformers' tensors; for an embedding that is there twice the better one's."""
        tied = self.config.tie_word_embeddings and name in ("lm_head.weight", "model.embed_tokens.weight")
        if tied:
            return _HEAD if _HEAD in self._tensors else _EMBEDDING
        return self._names.get_name(name, try_suffixes=(".weight", ".bias")) or name


def _reader(path: Path) -> Any:
    """Gguf's reader with a limit for arrays. It makes an object per item, so a damaged length would take all memory."""
    import gguf

    class Reader(gguf.GGUFReader):
        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            is_array = raw_type == gguf.GGUFValueType.ARRAY
            if is_array and (length := self._get(orig_offs + 4, np.uint64)[0]) > _MOST_ITEMS:
                raise ValueError(f"an array of it has {length:,} items; at most {_MOST_ITEMS:,} are read")
            return super()._get_field_parts(orig_offs, raw_type)

    return Reader(path)


def _numbers(tensor: Any, rows: int | None = None) -> Tensor:
    """A tensor, or its first rows, in float32."""
    from gguf import dequantize

    try:
        numbers = dequantize(tensor.data[:rows], tensor.tensor_type)  # in F32 a view of the file, not to be written
    except NotImplementedError:
        kind = tensor.tensor_type.name
        raise WeightsError(f"{tensor.name} is in {kind}, which the `gguf` package does not read: give Q4_K_M") from None
    return torch.from_numpy(np.require(numbers, np.float32, ["C", "W"]))
