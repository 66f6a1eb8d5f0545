"""The device that a process computes on, and the precision that suits it."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "float16"]


def best_device() -> torch.device:
    """The GPU that this process was given, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_precision(device: torch.device) -> Precision:
    """bfloat16 where the device has arithmetic of its own for it, else float32."""
    if device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        has_it = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return "bfloat16" if has_it else "float32"
