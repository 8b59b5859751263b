"""Errors of Hydra and OmegaConf about the command line, as one sentence like every other error."""

from collections.abc import Iterable
from difflib import get_close_matches

from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

# Hydra's advice that is of no use here, or leads to another error.
_ADVICE = ("To append to your config", "See https://", "3. To sweep over it")


def format_hydra_error(error: CompactHydraException, known: Iterable[str]) -> str:
    """One sentence for an error of Hydra; `known` are the names of all settings (`search.nodes`)."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        options = [option for option in error.options if not option.startswith("_")]
        return f"there is no {group}={name}:{_suggestion(name, options)} choose one of {', '.join(options)}"
    if isinstance(error.__cause__, OmegaConfBaseException):
        return format_omegaconf_error(error.__cause__, known)
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith(_ADVICE)]
    why = " ".join(line for line in lines if line)
    return f"the command line cannot be read: {why}" if isinstance(error, OverrideParseException) else why


def format_omegaconf_error(error: OmegaConfBaseException, known: Iterable[str]) -> str:
    """The same for a value that does not fit, or a setting that does not exist."""
    name = str(error.full_key)
    if isinstance(error, ConfigAttributeError | ConfigKeyError):
        return f"there is no setting {name}:{_suggestion(name, known)} `--help` lists all"
    why = str(error).splitlines()[0].rstrip(".")
    return f"{name}: {why}{'; a list is written [a,b]' if 'ListConfig' in why else ''}"


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.8)
    return f" did you mean {close[0]}?" if close else ""
