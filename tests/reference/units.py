"""The named units: their overrides by `units.toml`, run one after the other in this process."""

import json
import tomllib
from pathlib import Path
from typing import Any

from tests.reference import data, product
from tests.reference.digest import digest

HERE = Path(__file__).resolve().parent
UNITS, DIGESTS = HERE / "units.toml", HERE / "digests.json"


def unit_names() -> list[str]:
    """The names of all units, in the order of the file."""
    return list(_read()["units"])


def recorded() -> dict[str, Any]:
    """The content of `digests.json`: packages, rounding, and the digest of each unit."""
    return json.loads(DIGESTS.read_text())


class UnitRunner:
    """Runs units in a folder of its own, each of them once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.content = _read()
        self.digests: dict[str, Any] = {}

    def run(self, name: str) -> Any:
        """The digest of a unit; what it needs is run before. Raises KeyError for an unknown unit, RuntimeError."""
        if name not in self.digests:
            for needed in self.content["units"][name].get("needs", []):
                self.run(needed)
            if not (self.folder / "corpora").is_dir():
                data.write_all(self.folder)
            product.run_command(self.overrides(name), self.folder)
            self.digests[name] = digest(product.read_tables(self._results(name)))
        return self.digests[name]

    def overrides(self, name: str) -> list[str]:
        """What would be typed behind the command, with the folders put in."""
        unit = self.content["units"][name]
        groups = unit.get("groups", self.content["default_groups"])
        lines = [line for group in groups for line in self.content["groups"][group]] + unit["overrides"]
        places = {"$corpora": self.folder / "corpora", "$encoder": self.folder / "encoder.pt"}
        places |= {f"$results({needed})": self._results(needed) for needed in unit.get("needs", [])}
        places |= {"$results": self._results(name), "$folder": self.folder}
        for sign, place in places.items():
            lines = [line.replace(sign, str(place)) for line in lines]
        return lines

    def _results(self, name: str) -> Path:
        return self.folder / "results" / name


def _read() -> dict[str, Any]:
    return tomllib.loads(UNITS.read_text())
