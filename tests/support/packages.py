"""The wheel of this checkout, as `pip install .` would make it."""

import shutil
import subprocess
import sys

from tests.support.files import REPOSITORY

PACKAGES = ("emodarts", "sweeps")
_BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


def build_wheel(folder):
    """Build it from a copy of the sources, in a folder; its path."""
    copy = folder / "source"
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    built = subprocess.run([sys.executable, "-c", _BUILD, str(folder)], cwd=copy, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel
