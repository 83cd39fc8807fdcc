"""On what was measured: processor, cores, memory, load, file system, versions."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

MIB, GIB = 1 << 20, 1 << 30
_PACKAGES = ("dissm-node", "torch", "pynetdicom", "pydicom", "SQLAlchemy")
_IN_MEMORY = {"tmpfs", "ramfs", "overlay"}
"""Not told apart further: on tmpfs fsync costs nothing, and below an overlay lies another file system."""


def describe_machine() -> dict[str, str | int | float]:
    """Processor, cores this process may use, memory, and the load of the last minute before the measurement."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def describe_file_system(folder: Path) -> str:
    """What holds a folder: kind, device and mount options, and a word of warning where fsync means little."""
    place = folder.absolute()
    mounts = [part for part in psutil.disk_partitions(all=True) if place.is_relative_to(part.mountpoint)]
    mount = max(mounts, key=lambda part: len(part.mountpoint))
    said = f"{mount.fstype} on {mount.device} ({mount.opts})"
    return f"{said}; fsync may cost nothing here" if mount.fstype in _IN_MEMORY else said


def peak_memory_bytes() -> int:
    """Peak resident memory of this process since its program was started.

    Not `getrusage`: its ru_maxrss lives through exec, so that a child begins with the peak of its parent.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise OSError("the system does not say how much memory a process used at most (VmHWM)")
    return int(found.group(1)) * 1024


def program_version(program: str) -> str | None:
    """The version that a program of DCMTK or Orthanc tells about itself; None where it is not installed."""
    path = shutil.which(program)
    if path is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"v?(\d+\.\d+(?:\.\d+)?)", said.stdout + said.stderr)
    return found.group(1) if found else "of unknown version"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
