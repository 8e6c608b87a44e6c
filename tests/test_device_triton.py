"""The Triton kernels without a GPU: their results in Triton's interpreter, and their machine code.

The interpreter runs kernels in NumPy, so it shows that they compute the right thing; the code that
the compiler makes for a GPU shows that it compiles, and fuses no multiplication with an addition.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
triton = pytest.importorskip("triton")

QUICK: dict[str, str] = dict.fromkeys(("n_tokens", "width", "blocks"), "i32")
QUICK |= dict.fromkeys(("key_low", "key_high"), "i64")
QUICK |= dict.fromkeys(("low", "high", "surely"), "*i64")
QUICK |= dict.fromkeys(("centroid", "sigma", "widths"), "*fp64") | {"doubtful": "*i8"}
QUICK |= dict.fromkeys(("FRACTION_BITS", "MIN_EXPONENT", "THROUGH_FLOAT32", "BLOCK"), "constexpr")
DISTANCES = {"by_dimension": "*fp32", "result": "*fp32", "m": "i32", "a": "i32"}

INTERPRETED = """
import warnings
import torch
from deadtokens.device import fused, triton_kernels as kernels
from deadtokens.device.checking import same
from test_device import on_device, on_host

warnings.simplefilter("error")
loops = fused.Loops(kernels.distance_matrix, kernels.quick)
assert fused.checked(loops, torch.device("cpu")) == loops
for name in {names}:
    worker = on_device(name)
    worker._loops = loops
    assert same(worker.run(3, 3), on_host(name).run(3, 3)), name
"""
NAMES = ["few equal rows", "exact sums", "float32", "float8_e4m3fn", "one dimension", "one token"]


def compiled(name: str, signature: dict[str, str], constants: dict[str, Any]) -> str:
    """PTX for a Hopper GPU, which none has to be there for; machine code is made of it too."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from deadtokens.device import triton_kernels

    kernel = getattr(triton_kernels, name)
    ordered = {argument: signature.get(argument, "constexpr") for argument in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=ordered, constexprs=constants)
    target = GPUTarget("cuda", 90, 32)
    made = triton.compile(source, target=target, options={"enable_fp_fusion": False})
    assert made.asm["cubin"]
    return str(made.asm["ptx"])


def test_kernels_give_the_same_bits_in_the_interpreter() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parent)}
    code = INTERPRETED.format(names=NAMES)
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize("ordinals", ["*i16", "*i32"])
@pytest.mark.parametrize("through_float32", [True, False])
def test_the_draw_compiles_without_fused_operations(ordinals: str, through_float32: bool) -> None:
    constants = {"FRACTION_BITS": 7, "MIN_EXPONENT": -126, "BLOCK": 256}
    constants["THROUGH_FLOAT32"] = through_float32
    code = compiled("_quick_row", QUICK | {"ordinals": ordinals}, constants)
    assert re.search(r"\bmul\.\S*f64", code)
    assert not re.search(r"\bfma\.\S*f64", code)


def test_one_token_of_one_dimension_compiles() -> None:
    """Triton makes constants of arguments that are 1."""
    constants = {"FRACTION_BITS": 7, "MIN_EXPONENT": -126, "BLOCK": 256, "THROUGH_FLOAT32": True}
    ones = dict.fromkeys(("n_tokens", "width", "blocks"), 1)
    signature = {name: kind for name, kind in QUICK.items() if name not in ones}
    assert compiled("_quick_row", signature | {"ordinals": "*i16"}, constants | ones)


def test_distances_compile() -> None:
    assert "max.f32" in compiled("_distance_tile", DISTANCES, {"BLOCK": 64})
