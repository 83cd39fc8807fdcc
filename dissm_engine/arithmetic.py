"""What the bits of a delineation depend on beside the volume and the model: device, precision, threads, library."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import torch

_LIBRARIES = ("torch", "numpy", "scipy", "scikit-image", "fast-simplification")


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The arithmetic that a delineation was computed with.

    Two delineations of one volume by one bundle and one installation are equal bit for bit where this is equal. Sums
    are split among the threads, and kernels are chosen by the instruction set, so that each of these may change single
    voxels.

    Attributes:
        device: `cpu`, or the GPU's kind and model, such as `cuda NVIDIA H200`.
        precision: What the refinement network multiplies in, `float32` or `bfloat16`; all else is float32 or float64.
        threads: How many threads torch uses for one operation on the CPU.
        instruction_set: The vector instructions that torch uses on this CPU, such as `AVX2` or `AVX512`.
        libraries: Name and version of every library that computes a part of it, such as `torch 2.7.1+cpu`.
    """

    device: str
    precision: str
    threads: int
    instruction_set: str
    libraries: tuple[str, ...]

    @staticmethod
    def current(device: str = "cpu", half: bool = False) -> Arithmetic:
        """The arithmetic that torch would use now.

        Args:
            device: Where the refinement network runs, as torch names it.
            half: Whether it runs in bfloat16; which of the two is faster is measured, and may differ between machines.
        """
        return Arithmetic(
            device=f"{device.split(':', maxsplit=1)[0]} {torch.cuda.get_device_name(device)}"
            if "cuda" in device
            else device,
            precision="bfloat16" if half else "float32",
            threads=torch.get_num_threads(),
            instruction_set=torch.backends.cpu.get_cpu_capability(),
            libraries=tuple(f"{name} {version(name)}" for name in _LIBRARIES),
        )

    def text(self) -> str:
        """The canonical form: equal for equal values, and on one line.

        Examples:
            >>> Arithmetic("cpu", "bfloat16", 2, "AVX512", ("torch 2.7.1+cpu",)).text()
            'device=cpu;precision=bfloat16;threads=2;instruction_set=AVX512;torch 2.7.1+cpu'
        """
        return (
            f"device={self.device};precision={self.precision};threads={self.threads};"
            f"instruction_set={self.instruction_set};{';'.join(self.libraries)}"
        )
