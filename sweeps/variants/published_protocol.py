"""The published protocol beside a clean sweep: its own folds and labels, one configuration, nothing chosen on dev."""

from dataclasses import replace
from typing import Any

from emodarts.corpora.readers import describe
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.records import PUBLISHED_STUDY
from sweeps.settings import Settings

_PROTOCOL = "emodarts-no-dev"


def published_settings(settings: Settings) -> Settings:
    """The settings of the sweep `<name>-published`: those of the clean one, on the published protocol and its labels.

    Raises EmodartsError for a corpus without such a protocol.
    """
    corpus, rules = settings.corpus, describe(settings.corpus.name).rules
    if _PROTOCOL not in rules:
        raise EmodartsError(
            f"published_protocol=true: {corpus.name} has no published protocol of emoDARTS; iemocap, msp_improv and "
            "msp_podcast have one"
        )
    required: dict[str, Any] = dict(rules[_PROTOCOL].requires)
    labelled = replace(corpus, protocol=f"{corpus.name}/{_PROTOCOL}", **required)
    sweep = replace(settings.sweep, name=f"{settings.sweep_name}-{PUBLISHED_STUDY}")
    return replace(settings, corpus=labelled, sweep=sweep, extra_tests=[], robustness=[], published_protocol=False)


def runnable_without_dev(systems: dict[str, FoldSettings]) -> tuple[list[str], dict[str, str]]:
    """The systems that can run without a dev part, and why the others cannot. Raises EmodartsError if none can."""
    from emodarts.experiment.published_protocol import check_runnable_without_dev  # torch, which takes seconds

    reasons: dict[str, str] = {}
    for name, settings in systems.items():
        try:
            check_runnable_without_dev(settings)
        except EmodartsError as error:
            reasons[name] = str(error)
    if len(reasons) == len(systems):
        raise EmodartsError("; ".join(dict.fromkeys(reasons.values())))
    return [name for name in systems if name not in reasons], reasons
