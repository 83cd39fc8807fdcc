"""Which arithmetic this machine is good at."""

from __future__ import annotations

import torch


def native_bfloat16(device: str = "cpu") -> bool:
    """The device multiplies bfloat16 itself (avx512_bf16, AMX, a recent GPU); elsewhere float32 is faster."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    capability = torch.backends.cpu.get_cpu_capability()
    return bool(capability.startswith("AVX512") and torch.ops.mkldnn._is_mkldnn_bf16_supported())
