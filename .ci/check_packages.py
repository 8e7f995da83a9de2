"""Build the sdist, and from it the wheel, and see that both hold what they must: ``python .ci/check_packages.py``.

That the wheel installs and runs is seen where the README's run command installs it.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
METADATA = ("License-Expression: BSD-3-Clause", "Author: The jaxvelo developers")


def main() -> None:
    """Build and compare; the exit status is not zero where files are missing or too many."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    tracked = set(listed.stdout.splitlines())
    package = {name for name in tracked if name.startswith("jaxvelo/")}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, stdout=subprocess.DEVNULL)
        (wheel,), (sdist,) = Path(folder).glob("*.whl"), Path(folder).glob("*.tar.gz")
        with zipfile.ZipFile(wheel) as archive:
            in_wheel = set(archive.namelist())
            metadata = archive.read(next(name for name in in_wheel if name.endswith("/METADATA"))).decode()
        with tarfile.open(sdist) as archive:
            in_sdist = {name.partition("/")[2] for name in archive.getnames()}
        sizes = f"{wheel.name} {wheel.stat().st_size / 1e6:.1f} MB, {sdist.name} {sdist.stat().st_size / 1e6:.1f} MB"
    code = {name for name in in_wheel if ".dist-info/" not in name}
    wrong = {
        "not in the wheel": package - code,
        "in the wheel, but not in git": code - package,
        "not in the sdist, though tests may read it": tracked - in_sdist,
        "in the sdist, but not in git": in_sdist - tracked - {"PKG-INFO"},
        "not in the wheel's metadata": {line for line in METADATA if line not in metadata},
        "not in the wheel's folder of licences": {"LICENSE"} - {Path(n).name for n in in_wheel if "/licenses/" in n},
        "not among the typed files": {"jaxvelo/py.typed", "jaxvelo/__init__.pyi", "jaxvelo/pl/__init__.pyi"} - code,
    }
    for what, names in wrong.items():
        if names:
            print(f"{what}: {', '.join(sorted(names))}", file=sys.stderr)
    if any(wrong.values()):
        sys.exit(1)
    print(f"{sizes}: all {len(package)} files of the package, {len(tracked)} of the project")


if __name__ == "__main__":
    main()
