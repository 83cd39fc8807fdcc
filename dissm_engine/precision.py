"""Whether a device has instructions for bfloat16."""

from __future__ import annotations

import torch


def native_bfloat16(device: str = "cpu") -> bool:
    """Whether the device multiplies bfloat16 by itself (avx512_bf16, AMX, a recent GPU); elsewhere float32 is faster.

    Args:
        device: As torch names it.
    """
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
