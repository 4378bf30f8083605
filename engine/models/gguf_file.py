"""A GGUF file: its header, read with a limit on every length, and its tensors, turned back into numbers one by one.

A file may be a stranger's: what its header says is compared with the file's size and with itself before any library
maps the file, so that nothing is allocated, and nothing looked up, that is not there. The format: ggml's docs/gguf.md,
versions 2 and 3.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from engine.errors import WeightsError, shown
from engine.model.config import config_of

FORMATS = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0"),
)
"""Formats of tensors that the `gguf` package turns back into numbers, by ggml's names."""

_MOST_BYTES = 200_000_000  # of a header; those of 150,000 tokens and merges have six million
_MOST_FIELDS, _MOST_TENSORS, _MOST_ITEMS, _MOST_SIDES, _LARGEST_SIDE = 10_000, 100_000, 10_000_000, 4, 2**40
_LONGEST_NAME, _LONGEST_VALUE = 1_000, 4_000_000  # bytes; a chat template is a value
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
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
_IDS = {f"{name}_token_id": f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos")}
_IDS["pad_token_id"] = "tokenizer.ggml.padding_token_id"
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_HEAD, _EMBEDDING = "output.weight", "token_embd.weight"
# The two official Q4_K_M files hold the tied embedding twice, as `token_embd` and, in a better format, as `output`.
# They differ by 4 % (0.5B: Q5_0, Q8_0) and 7 % (1.5B: Q4_K, Q6_K); two matrices that are not tied differ by over 100 %.
_TIED_BELOW, _TIED_ROWS = 0.25, 4096


@dataclass(frozen=True)
class GgufTensor:
    """Shape, rows first, as torch has it; the format's name; stored bytes; and where they begin behind the header."""

    shape: tuple[int, ...]
    format: str
    bytes: int
    offset: int


@dataclass
class GgufHeader:
    """What a header says.

    Attributes:
        fields: Numbers, truth values and short texts by key.
        lengths: Lengths of the arrays by key.
        tensors: All tensors by name.
        data: Where the tensors' bytes begin.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, GgufTensor] = field(default_factory=dict)
    data: int = 0

    @classmethod
    def read(cls, path: Path) -> GgufHeader:
        """Reads a file's header; a WeightsError says what is wrong with it."""
        try:
            with path.open("rb") as file:
                return _Reader(file, path.stat().st_size).header()
        except OSError as error:
            raise WeightsError(f"{path} cannot be read ({error.strerror or error})") from None
        except _Damaged as fault:
            raise WeightsError(f"{path} is not a whole GGUF file: {fault}") from None


class GgufFile:
    """The model in a GGUF file.

    Attributes:
        config: Its configuration, as transformers has it.
    """

    def __init__(self, title: str, path: Path) -> None:
        """Reads the header; a WeightsError if the file is damaged, or of a model that this engine does not decode."""
        self._path, self._header = path, GgufHeader.read(path)
        self.config = config_of(title, self._configuration(title))
        self._permuted = self.config.model_type == "llama"

    def _configuration(self, title: str) -> dict[str, Any]:
        """What a `config.json` would say."""
        fields, tensors = self._header.fields, self._header.tensors
        kind = str(fields.get("general.architecture"))
        if "rope_freqs.weight" in tensors or fields.get(f"{kind}.rope.scaling.type", "none") != "none":
            raise WeightsError(
                f"{title} scales its rotary embedding, which is not read from GGUF files: give its folder of "
                "safetensors"
            )
        if unknown := sorted({each.format for each in tensors.values()} - set(FORMATS)):
            raise WeightsError(f"{title} has tensors in {', '.join(unknown)}; known are {', '.join(FORMATS)}")
        values = {name: fields.get(f"{kind}.{key}") for name, key in _FIELDS.items()}
        values |= {name: fields.get(key) for name, key in _IDS.items()}
        vocabulary = self._header.lengths.get("tokenizer.ggml.tokens", 0)
        return {"model_type": kind, "vocab_size": vocabulary, "tie_word_embeddings": self._tied(), **values}

    def _tied(self) -> bool:
        tensors = self._header.tensors
        if _HEAD not in tensors or _EMBEDDING not in tensors:
            return True
        if tensors[_HEAD].shape != tensors[_EMBEDDING].shape or len(tensors[_HEAD].shape) != 2:
            return False
        head, embedding = (self._numbers(name, _TIED_ROWS) for name in (_HEAD, _EMBEDDING))
        return bool((embedding - head).norm() / head.norm() < _TIED_BELOW)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of one of transformers' tensors; None if the file lacks it."""
        found = self._header.tensors.get(self._stored(name))
        return found and found.shape

    def read(self, name: str, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """One of transformers' tensors."""
        tensor = self._numbers(self._stored(name))
        if self._permuted and name.endswith(("q_proj.weight", "k_proj.weight")):
            # llama.cpp puts the two halves that are rotated together side by side.
            config: Any = self.config
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            tensor = tensor.view(heads, -1, 2, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
        return tensor.to(dtype)

    def _stored(self, name: str) -> str:
        """The file's name for one of transformers' tensors; of an embedding that is there twice the better one."""
        module, _, kind = name.rpartition(".")
        if module in ("lm_head", "model.embed_tokens") and self.config.tie_word_embeddings:
            return _HEAD if _HEAD in self._header.tensors else _EMBEDDING
        layer = _LAYER.fullmatch(module)
        prefix, module = (f"blk.{layer[1]}.", layer[2]) if layer else ("", module)
        return f"{prefix}{_NAMES.get(module, module)}.{kind}"

    def _numbers(self, name: str, rows: int | None = None) -> Tensor:
        """A tensor, or its first rows, in float32."""
        from gguf import GGMLQuantizationType, dequantize  # late: a converted model needs none of it

        about = self._header.tensors[name]
        each = about.bytes // about.shape[0]  # bytes of a row, or of a vector's number
        count = min(rows or about.shape[0], about.shape[0])
        stored = np.fromfile(self._path, np.uint8, each * count, offset=self._header.data + about.offset)
        if len(about.shape) > 1:
            stored = stored.reshape(count, each)
        numbers = dequantize(stored, GGMLQuantizationType[about.format])
        return torch.from_numpy(np.ascontiguousarray(numbers)).view(count, *about.shape[1:])


class _Damaged(Exception):
    """What is wrong with a header, in words."""


class _Reader:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._left = file, size, min(size, _MOST_BYTES)

    def header(self) -> GgufHeader:
        if self._take(4) != b"GGUF":
            raise _Damaged("it does not begin with GGUF")
        if (version := self._number("I")) not in (2, 3):
            raise _Damaged(f"it is of version {version}, and 2 and 3 are known (or its bytes are of the other order)")
        tensors = self._count("tensors", _MOST_TENSORS)
        fields = self._count("fields", _MOST_FIELDS)
        header = GgufHeader()
        for _ in range(fields):
            key = self._text(_LONGEST_NAME)
            self._field(header, key, self._number("I"))
        places = sorted(self._tensor(header) for _ in range(tensors))
        for (_, end), (start, _) in pairwise(places):
            if start < end:
                raise _Damaged(f"two of its tensors overlap at byte {start:,} of its data")
        alignment = header.fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise _Damaged(f"its alignment is {shown(alignment)}")
        header.data = math.ceil(self._file.tell() / alignment) * alignment
        if (end := header.data + (places[-1][1] if places else 0)) > self._size:
            raise _Damaged(f"its tensors end at byte {end:,}, and it has {self._size:,}")
        return header

    def _field(self, header: GgufHeader, key: str, kind: int) -> None:
        if kind in _SCALARS:
            header.fields[key] = self._number(_SCALARS[kind])
        elif kind == _STRING:
            header.fields[key] = self._text(_LONGEST_VALUE)
        elif kind == _ARRAY:
            inner = self._number("I")
            header.lengths[key] = count = self._count(f"values of {shown(key)}", _MOST_ITEMS)
            if inner in _SCALARS:
                self._skip(count * struct.calcsize("<" + _SCALARS[inner]))
            elif inner == _STRING:
                for _ in range(count):
                    self._skip(self._number("Q"))
            else:
                raise _Damaged(f"{shown(key)} is an array of type {inner}")
        else:
            raise _Damaged(f"{shown(key)} is of type {kind}")

    def _tensor(self, header: GgufHeader) -> tuple[int, int]:
        """Adds a tensor; returns where it begins and ends, in bytes from where the data begin."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType  # late: a converted model needs none of it

        name = self._text(_LONGEST_NAME)
        sides = self._number("I")
        if not 1 <= sides <= _MOST_SIDES or name in header.tensors:
            raise _Damaged(f"{shown(name)} has {sides} sides, or is there twice")
        shape = [self._number("Q") for _ in range(sides)]
        kind, offset = self._number("I"), self._number("Q")
        if not all(1 <= side <= _LARGEST_SIDE for side in shape) or offset > self._size:
            raise _Damaged(f"{shown(name)} has the shape {shown(shape)} at byte {offset:,}")
        try:
            format = GGMLQuantizationType(kind)
            block, stored = GGML_QUANT_SIZES[format]
        except (ValueError, KeyError):
            raise _Damaged(f"{shown(name)} is of the unknown format {kind}") from None
        if shape[0] % block:
            raise _Damaged(f"{shown(name)} has rows of {shape[0]:,}, and {format.name} has blocks of {block}")
        size = math.prod(shape) // block * stored
        header.tensors[name] = GgufTensor(tuple(reversed(shape)), format.name, size, offset)
        return offset, offset + size

    def _count(self, what: str, most: int) -> int:
        count = self._number("Q")
        if count > most:
            raise _Damaged(f"it says that it has {count:,} {what}; at most {most:,} are read")
        return count

    def _text(self, longest: int) -> str:
        if (length := self._number("Q")) > longest:
            raise _Damaged(f"a text of it has {length:,} bytes; at most {longest:,} are read")
        return self._take(length).decode("utf-8", "replace")

    def _number(self, code: str) -> Any:
        return struct.unpack("<" + code, self._take(struct.calcsize("<" + code)))[0]

    def _take(self, count: int) -> bytes:
        self._spend(count)
        content = self._file.read(count)
        if len(content) < count:
            raise _Damaged("it ends within its header")
        return content

    def _skip(self, count: int) -> None:
        self._spend(count)
        self._file.seek(count, 1)

    def _spend(self, count: int) -> None:
        if count > self._left:
            raise _Damaged("it ends within its header, or its header has no end")
        self._left -= count
