"""The device that a process computes on: the precision that suits it, and how busy it is."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import Any, Literal

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


def memory_peak_bytes(device: torch.device) -> int | None:
    """The most that this process has had allocated on a GPU; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def utilisation(device: torch.device) -> float | None:
    """0..1; None where nobody says it: without the package nvidia-ml-py, or of a part of a GPU."""
    nvml = _nvml()
    if device.type != "cuda" or nvml is None:
        return None
    try:
        return torch.cuda.utilization(device) / 100
    except (RuntimeError, nvml.NVMLError):
        return None


@functools.cache
def _nvml() -> Any:
    """What torch asks for the utilisation of a GPU, if it is installed."""
    is_there = importlib.util.find_spec("pynvml") is not None
    return importlib.import_module("pynvml") if is_there else None
