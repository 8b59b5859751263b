"""The command: `python sweeps/run.py [corpus=emodb] [sweep.trials=20] ...`, from any folder `emodarts-sweep ...`.

`--help` lists everything.
"""

import gc
import os
import signal
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
if __name__ == "__main__":  # `sweeps` by its name from any folder, and nothing in this folder by accident
    sys.path[0] = str(FOLDER.parent)
    gc.disable()  # while modules are imported, as `main` has it for what comes before the sweep

import hydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.errors import CompactHydraException  # noqa: E402
from omegaconf import DictConfig  # noqa: E402
from rich.console import Console  # noqa: E402

from emodarts.console import on_end_signals, output  # noqa: E402
from emodarts.corpora.arguments import with_grammar_files  # noqa: E402
from emodarts.errors import EmodartsError  # noqa: E402
from emodarts.garbage_collection import with_garbage_collection, without_garbage_collection  # noqa: E402
from sweeps.hydra_config import from_hydra, known_settings, register_schema, with_chosen_groups  # noqa: E402
from sweeps.hydra_errors import format_hydra_error  # noqa: E402
from sweeps.settings_help import help_page  # noqa: E402


@without_garbage_collection()
def main() -> None:
    """Read the command line, run the sweep, exit with its code."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it would print otherwise
    register_schema()
    sys.argv[1:] = with_grammar_files(sys.argv[1:])
    try:
        if {"--help", "-h"} & set(sys.argv[1:]):
            print(help_page(FOLDER / "conf", [text for text in sys.argv[1:] if not text.startswith("-")]))
        else:
            run()
    except CompactHydraException as error:
        _print_error(format_hydra_error(error, known_settings()))
        sys.exit(1)


@hydra.main(version_base="1.3", config_path=str(FOLDER / "conf"), config_name="config")
def run(config: DictConfig) -> None:
    """Run the sweep of a composed configuration."""
    console = output()
    on_end_signals(signal.default_int_handler)  # a scheduler's SIGTERM, a lost terminal's SIGHUP: taken as Ctrl-C
    try:
        settings = from_hydra(with_chosen_groups(config))
        from sweeps.sweep import run_sweep  # after the settings: a mistyped setting is refused at once

        with with_garbage_collection():
            code = run_sweep(settings, console, HydraConfig.get().overrides.task)
    except EmodartsError as error:
        _print_error(str(error))
        code = 1
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; what is finished is kept. The same command goes on.")
        code = 130
    sys.stdout.flush()
    sys.exit(code)


def _print_error(message: str) -> None:
    Console(stderr=True).print(f"error: {message}", style="red", highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
