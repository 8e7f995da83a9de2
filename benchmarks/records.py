"""Results of the benchmarks on disk, with the machine, the versions and the commit that they were measured with."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("jaxvelo", "jax", "jaxlib", "numpy", "scipy", "anndata", "faiss-cpu", "scikit-learn")


def write(group: str, numbers: Any, table: str) -> None:
    """Write the numbers and the table of a group of benchmarks; those of its former run are replaced."""
    record = {"group": group, **surroundings(), "numbers": numbers, "table": table}
    replace(RESULTS / f"{group}.json", json.dumps(record, indent=1) + "\n")


def read(group: str) -> dict[str, Any] | None:
    """Read the record of a group; None if there is none."""
    return known(RESULTS / f"{group}.json") or None


def known(file: Path | None) -> dict[str, Any]:
    """Read what was written to a file before, such as that of ``--json``; nothing if there is none."""
    return json.loads(file.read_text()) if file is not None and file.exists() else {}


def keep(file: Path | None, numbers: Any) -> None:
    """Write numbers to the file of ``--json``, if there is one."""
    if file is not None:
        replace(file, json.dumps(numbers, indent=1))


def surroundings() -> dict[str, Any]:
    """What numbers depend on besides the code, and which code that is."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "jaxvelo")),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": platform.platform(),
            "load": os.getloadavg()[1],
        },
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def line(record: dict[str, Any]) -> str:
    """Say in one line when and where a record was made."""
    machine, versions = record["machine"], record["versions"]
    return (
        f"{record['date'][:10]}, commit {record['commit'][:10]}{' with changes' if record['changed'] else ''}, "
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory'] / 2**30:.0f} GiB, load "
        f"{machine['load']:.1f}, Python {versions['python']}, JAX {versions['jax']}"
    )


def replace(file: Path, text: str) -> None:
    """Write a file in one step."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(file)


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
