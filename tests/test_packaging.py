"""The packaging: three folders at the top of the repository are one package, in a checkout and in a wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import concurry
import concurry.runtime
import concurry.transports
from concurry.version import __version__

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"concurry": "concurry", "concurry.runtime": "runtime", "concurry.transports": "transports"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_in_folders() -> dict[str, str]:
    """Dotted name → folder, of every folder of the three floors that holds Python files."""
    found = {}
    for package, top in FLOORS.items():
        for folder, _, files in os.walk(ROOT / top):  # os.walk does not follow the two links
            if any(name.endswith(".py") for name in files):
                below = Path(folder).relative_to(ROOT / top).parts
                found[".".join((package, *below))] = "/".join((top, *below))
    return found


def modules_in_folders() -> set[str]:
    """The wheel's path of every module."""
    return {
        f"{package.replace('.', '/')}/{path.name}"
        for package, folder in packages_in_folders().items()
        for path in (ROOT / folder).glob("*.py")
    }


def test_pyproject_lists_every_package_and_no_other(project: dict[str, Any]) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages_in_folders())
    assert project["tool"]["setuptools"]["package-dir"] == packages_in_folders()


def test_every_package_is_a_regular_one() -> None:
    assert not [folder for folder in packages_in_folders().values() if not (ROOT / folder / "__init__.py").is_file()]


@pytest.mark.parametrize("floor", ["runtime", "transports"])
def test_the_links_are_relative_and_lead_to_the_floors(floor: str) -> None:
    link = ROOT / "concurry" / floor
    assert link.is_symlink()
    assert os.readlink(link) == f"../{floor}"
    assert link.resolve() == ROOT / floor


def test_a_checkout_is_imported_from_its_folders() -> None:
    assert Path(concurry.__path__[0]).resolve() == ROOT / "concurry"
    assert Path(concurry.runtime.__path__[0]).resolve() == ROOT / "runtime"
    assert Path(concurry.transports.__path__[0]).resolve() == ROOT / "transports"


@pytest.mark.parametrize("floor", ["runtime", "transports"])
def test_a_floor_refuses_its_bare_name(floor: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {floor}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"'{floor}' is a part of concurry: import concurry.{floor}" in done.stderr


def test_the_extras_do_not_ask_the_index_for_our_own_name(project: dict[str, Any]) -> None:
    """An extra may include another one of ours; what is required by name must never be a stranger's package."""
    extras = project["project"]["optional-dependencies"]
    own = [item for items in extras.values() for item in items if re.match(r"concurry\b", item)]
    named = {name for item in own for name in item[len("concurry[") : -1].split(",")}
    assert all(item.startswith("concurry[") and item.endswith("]") for item in own)
    assert named <= extras.keys()
    assert not [item for item in project["project"]["dependencies"] if item.startswith("concurry")]


def test_the_version_stands_in_one_place(project: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", __version__)
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "concurry.version.__version__"}
    assert "version" not in project["project"]


def test_the_license_is_the_whole_one() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert text.rstrip().endswith("limitations under the License.")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy without links, as a file system that knows none would hold the checkout."""
    source = tmp_path_factory.mktemp("source")
    for top in FLOORS.values():
        shutil.copytree(ROOT / top, source / top, ignore=_links_and_caches)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    dist = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check"]
    if int(version("setuptools").split(".")[0]) >= 77:
        command.append("--no-build-isolation")
    done = subprocess.run([*command, "-w", dist, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as file:
        return file  # closed; its directory has been read


def _links_and_caches(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or Path(folder, name).is_symlink()}


@pytest.mark.slow
def test_the_wheel_holds_every_module_once_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert len(names) == len(set(names))
    assert set(names) == modules_in_folders() | {"concurry/py.typed"}


@pytest.mark.slow
def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    folder = f"concurry-{__version__}.dist-info"
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert wheel.filename is not None
    with zipfile.ZipFile(wheel.filename) as file:
        metadata = Parser().parsestr(file.read(f"{folder}/METADATA").decode())
    assert metadata["Name"] == "concurry"
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra") or []) >= {"ray", "notebook", "demo", "test", "dev"}
