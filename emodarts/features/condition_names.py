"""Names of the conditions under which recordings are heard, without what it takes to make them."""

from collections.abc import Sequence

from emodarts.errors import EmodartsError

# What the setting `robustness` names -> conditions; noise<dB>: signal-to-noise ratio of the active speech.
CONDITIONS = {"noise": ("noise20", "noise10", "noise0"), "telephone": ("telephone",)}


def conditions_of(names: Sequence[str]) -> tuple[str, ...]:
    """The conditions of `robustness=[noise,telephone]`. Raises EmodartsError for an unknown name."""
    unknown = next((name for name in names if name not in CONDITIONS), None)
    if unknown is not None:
        raise EmodartsError(f"robustness=[{','.join(names)}]: {unknown} is unknown; known are {', '.join(CONDITIONS)}")
    return tuple(dict.fromkeys(condition for name in names for condition in CONDITIONS[name]))
