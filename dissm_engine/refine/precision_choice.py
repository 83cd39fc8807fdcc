"""In which precision the refinement network is faster here: measured, because a processor's flags do not tell."""

from __future__ import annotations

import time
from functools import lru_cache

import torch
from torch import Tensor

from dissm_engine.precision import native_bfloat16
from dissm_engine.refine.network import INPUT_CHANNELS, RefinementArchitecture, RefinementNetwork

MIN_GAIN = 0.15
"""bfloat16 is taken only where it saves more than this share of float32's time: two runs must not differ by chance."""
_CELLS_A_SIDE = 3
_BATCH = 2
"""More than one: torch takes a slower convolution for a single small patch in float32, and no such one for a grid."""
_REPETITIONS = 2


def is_faster_in_bfloat16(architecture: RefinementArchitecture, device: str = "cpu") -> bool:
    """Whether bfloat16 clearly saves time; measured at the first call of a process and kept, under a second.

    Args:
        architecture: Of the refinement network.
        device: As torch names it; without instructions for bfloat16 nothing is measured.
    """
    return native_bfloat16(device) and _measured_faster(architecture, device, torch.get_num_threads())


@lru_cache
def _measured_faster(architecture: RefinementArchitecture, device: str, threads: int) -> bool:
    """`threads` only tells one measurement from another: torch has one number of threads for the process."""
    full, half = measured_seconds(architecture, device)
    return is_clear_gain(full, half)


def is_clear_gain(float32_seconds: float, bfloat16_seconds: float) -> bool:
    """Whether bfloat16 saves more than `MIN_GAIN` of the time."""
    return bfloat16_seconds < (1 - MIN_GAIN) * float32_seconds


@torch.inference_mode()
def measured_seconds(architecture: RefinementArchitecture, device: str = "cpu") -> tuple[float, float]:
    """Seconds of a small pass in float32 and in bfloat16: the best of some, in turns, after one that warms up.

    On the CPU it is processor time, which other programs disturb less.
    """
    # Speed does not depend on the weights, and drawing them must not disturb who draws random numbers elsewhere.
    with torch.random.fork_rng(devices=[]):
        network = RefinementNetwork(architecture).to(device).eval()
    side = _CELLS_A_SIDE * network.granularity
    patch = torch.zeros((_BATCH, INPUT_CHANNELS, side, side, side), device=device)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(1 + _REPETITIONS):
        for half, measured in seconds.items():
            measured.append(_seconds(network, patch, device, half))
    return min(seconds[False][1:]), min(seconds[True][1:])


def _seconds(network: RefinementNetwork, patch: Tensor, device: str, half: bool) -> float:
    on_gpu = device.startswith("cuda")
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize(device)
    started = clock()
    with torch.autocast(device.partition(":")[0], dtype=torch.bfloat16, enabled=half):
        network(patch)
    if on_gpu:
        torch.cuda.synchronize(device)
    return clock() - started
