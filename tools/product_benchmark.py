"""One product with the weights in each form: what NF4 costs beside its candidates, on a GPU or this processor.

    python -m tools.product_benchmark --device cuda

Prints milliseconds by the tokens of a pass. Several copies of the matrix are read in turn, so that they come from
memory. int4 is torch's (affine, in groups of 32), int8 fbgemm's, which only x86 processors have.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from engine.bench.markdown import table
from engine.bench.measure import seconds_of
from engine.model import int8
from engine.provenance import hardware, revision

GROUP = 32
TOKENS = (1, 4, 8, 16, 64)
Product = Callable[[Tensor], Tensor]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", type=int, nargs=2, default=[37888, 3584], help="outputs, inputs")
    parser.add_argument("--copies", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=30)
    asked = parser.parse_args()
    outputs, inputs = asked.shape
    print(measured(torch.device(asked.device), outputs, inputs, asked.copies, asked.repeats))


def measured(device: torch.device, outputs: int, inputs: int, copies: int, repeats: int) -> str:
    """The table as Markdown."""
    rows = []
    for name, make in forms(device).items():
        weights = [0.05 * torch.randn(outputs, inputs, device=device, dtype=torch.bfloat16) for _ in range(copies)]
        products = [make(each) for each in weights]
        del weights
        rows.append([name, *(f"{_milliseconds(products, tokens, inputs, device, repeats):.3f}" for tokens in TOKENS)])
    said = f"{outputs} × {inputs}, {copies} of them in turn, medians of {repeats}; {hardware()}, revision {revision()}."
    return f"{table(['ms, tokens:', *map(str, TOKENS)], rows)}\n\n{said}"


def forms(device: torch.device) -> dict[str, Callable[[Tensor], Product]]:
    """What makes a product from a bf16 matrix [out, in], by the form's name."""
    made = {"bf16": _bf16, "NF4": _nf4, "int4": _int4}
    return {**made, "int8": _int8} if device.type == "cpu" and int8.has_fbgemm() else made


def _milliseconds(products: list[Product], tokens: int, inputs: int, device: torch.device, repeats: int) -> float:
    x = torch.randn(tokens, inputs, device=device, dtype=torch.bfloat16)
    with torch.inference_mode():
        times = [seconds_of(lambda: [each(x) for each in products], device) for _ in range(repeats + 2)]
    return 1e3 * median(times[2:]) / len(products)


def _bf16(weight: Tensor) -> Product:
    return lambda x: torch.nn.functional.linear(x, weight)


def _nf4(weight: Tensor) -> Product:
    """As the engine multiplies: on a processor by its own call of the kernel, on a GPU by bitsandbytes' module."""
    import bitsandbytes as bnb

    from engine.model import nf4

    outputs, inputs = weight.shape
    linear: Any = bnb.nn.Linear4bit(inputs, outputs, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    params4bit: Any = bnb.nn.Params4bit  # pyright does not see its __new__
    if weight.device.type != "cpu":
        linear.weight = params4bit(weight, requires_grad=False, quant_type="nf4", module=linear).to(weight.device)
        return linear
    codes, state = nf4.quantise(weight, "packed")
    return nf4.Nf4Linear(codes, state["absmax"], None)


def _int4(weight: Tensor) -> Product:
    """Torch's kernel for 4 bits, by which torchao multiplies: (code - 8) · scale + zero, per group."""
    groups = weight.float().view(len(weight), -1, GROUP)
    lowest, highest = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    scales = ((highest - lowest) / 15).clamp_min(1e-6)
    codes = ((groups - lowest) / scales).round().clamp(0, 15).view(weight.shape).to(torch.int32)
    both = torch.cat([scales, lowest + 8 * scales], dim=-1).transpose(0, 1).contiguous().bfloat16()  # [groups, out, 2]
    if weight.device.type == "cpu":
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        return lambda x: torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, GROUP, both)
    packed = torch.ops.aten._convert_weight_to_int4pack((codes[:, ::2] << 4 | codes[:, 1::2]).to(torch.uint8), 8)
    return lambda x: torch.ops.aten._weight_int4pack_mm(x, packed, GROUP, both)


def _int8(weight: Tensor) -> Product:
    codes, scales = int8.quantise(weight)
    product = int8.Int8Linear(codes, scales, None)
    return lambda x: product(x.float())


if __name__ == "__main__":
    main()
