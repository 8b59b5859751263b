"""Run reference units of this checkout: `python tests/reference/run_units.py [NAMES...] --out digests.json`.

The checkout whose file this is goes first on the path, whatever else is installed.
"""

import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:1] = [str(ROOT)]
os.environ["OMP_NUM_THREADS"] = "1"

from tests.reference import probe, units  # noqa: E402
from tests.reference.digest import dump  # noqa: E402


def main() -> None:
    """Run the units that the command names, and write their digests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="units of units.toml; none: all of them")
    parser.add_argument("--out", type=Path, help="the file for the digests; none: standard output")
    parser.add_argument("--list", action="store_true", help="name the units, and run nothing")
    parser.add_argument("--reverse", action="store_true", help="the last unit first: the order must not matter")
    arguments = parser.parse_args()
    known = units.unit_names()
    if arguments.list:
        print("\n".join(known))
        return
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        parser.error(f"there is no unit {', '.join(unknown)}; units.toml names {', '.join(known)}")
    _check_origin()
    names = arguments.names or known
    digests = _run(names[::-1] if arguments.reverse else names)
    digests["units"] = {name: digests["units"][name] for name in names}
    text = dump(digests) + "\n"
    if arguments.out is None:
        print(text, end="")
    else:
        arguments.out.write_text(text)


def _check_origin() -> None:
    """Stop where the packages that are run are those of another checkout."""
    for name in units.product.PACKAGES:
        file = Path(sys.modules[name].__file__ or "").resolve()
        if ROOT not in file.parents:
            sys.exit(f"{name} was imported from {file}, not from {ROOT}: that is another checkout")


def _run(names: list[str]) -> dict[str, object]:
    """All units, with a line of the time that each took on standard error."""
    with units.product.scratch_folder() as folder:
        runner = units.UnitRunner(Path(folder))
        results = {}
        for name in names:
            begin = time.perf_counter()
            results[name] = runner.run(name)
            print(f"{name}: {time.perf_counter() - begin:.2f} s", file=sys.stderr, flush=True)
    return {"packages": probe.versions(), "rounding": probe.rounding(), "units": results}


if __name__ == "__main__":
    main()
