"""Builds the sdist and, from it, the wheel; looks at what is in it; installs it and uses it from an empty directory.

Guarantees: exit code 0 only where the wheel holds each module of the three floors once, and nothing else, and where a
fresh interpreter in an empty directory imports concurry from the installed copy. Everything happens in a temporary
copy: the checkout is only read.
Called by: `make wheel`, in the venv that has `build`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"concurry": "concurry", "runtime": "concurry/runtime", "transports": "concurry/transports"}
USE = """
import importlib, pkgutil
import concurry
assert concurry.__file__.startswith(sys.path[-1]), concurry.__file__
names = [m.name for m in pkgutil.walk_packages(concurry.__path__, "concurry.")]
for name in names:
    try:
        if name != "concurry.__main__":
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "ray":  # an extra, and not installed here
            raise
version = importlib.import_module("concurry.version").__version__
try:
    import runtime
except ModuleNotFoundError:
    print(f"imported concurry {version} and its {len(names)} modules from an empty directory")
else:
    sys.exit(f"the wheel installs a top-level package named runtime: {runtime.__file__}")
"""


def expected() -> set[str]:
    """The wheel's paths of all modules in the checkout."""
    found = {"concurry/py.typed"}
    for floor in FLOORS:
        for folder, _, files in os.walk(ROOT / floor):  # os.walk does not follow the two links
            below = Path(folder).relative_to(ROOT / floor).as_posix()
            found |= {Path(FLOORS[floor], below, file).as_posix() for file in files if file.endswith(".py")}
    return found


def copy(to: Path) -> None:
    """The files that take part in a build; leftovers such as build/ would get into the wheel."""
    for name in FLOORS:
        shutil.copytree(ROOT / name, to / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, to / name)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="concurry-wheel-") as work:
        source, dist, site, empty = (Path(work, name) for name in ("source", "dist", "site", "empty"))
        source.mkdir()
        empty.mkdir()
        copy(source)
        subprocess.run([sys.executable, "-m", "build", "--outdir", dist, source], check=True, stdout=subprocess.DEVNULL)
        (wheel,) = dist.glob("*.whl")
        names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
        print(f"{wheel.name}: {len(names)} files")
        for name in sorted(names):
            print("   ", name)
        if len(names) != len(set(names)) or set(names) != expected():
            missing, surplus = sorted(expected() - set(names)), sorted(set(names) - expected())
            sys.exit(f"concurry: the wheel is not what the folders hold: missing {missing}, surplus {surplus}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", site, wheel], check=True)
        program = f"import sys; sys.path.append({str(site)!r}){USE}"
        subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, cwd=empty)


if __name__ == "__main__":
    main()
