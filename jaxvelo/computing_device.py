"""Which device computes, and whether a better one lies idle."""

import importlib.util
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
"""What lets JAX compute on GPUs of NVIDIA."""


def described(devices: Iterable[Any]) -> str:
    """Name devices in words, as ``8 × cpu`` or ``NVIDIA H100 (gpu)``.

    Parameters
    ----------
    devices
        Devices of JAX.
    """
    kinds = Counter((device.platform, device.device_kind) for device in devices)
    words = []
    for (platform, kind), count in kinds.items():
        name = platform if kind in (platform, "") else f"{kind} ({platform})"
        words.append(name if count == 1 else f"{count} × {name}")
    return ", ".join(words)


def idle_gpu(platform: str, wanted: str | None) -> str | None:
    """What to do about a GPU of NVIDIA that is here and not used; ``None`` if there is none.

    Parameters
    ----------
    platform
        Where JAX computes, such as ``"cpu"``.
    wanted
        Platforms that JAX is told to look at, ``jax.config.jax_platforms``.
    """
    if platform != "cpu" or not _has_gpu():
        return None
    if wanted and not {"cuda", "gpu"} & set(wanted.split(",")):
        return f"Leave out `JAX_PLATFORMS={wanted}` (or the option `jax_platforms`) to use it"
    if not any(importlib.util.find_spec(plugin) for plugin in PLUGINS):
        return 'Install JAX for it as `pip install "jaxvelo[cuda]"` to use it'
    return "JAX has what it takes to use it, but does not: `python -c 'import jax; jax.devices(\"cuda\")'` tells why"


def _has_gpu() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # it is hidden on purpose
        return False
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and listed.stdout.startswith("GPU")
