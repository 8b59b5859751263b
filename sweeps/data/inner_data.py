"""Inner splits of a sweep's folds (`sweep.inner`): made, and refused, before anything runs."""

from dataclasses import replace

from emodarts.corpora.protocols.inner_splits import make_inner_folds
from emodarts.corpora.readers import describe
from emodarts.errors import EmodartsError
from sweeps.data.sweep_data import SweepData
from sweeps.settings import Settings


def with_inner_folds(settings: Settings, data: SweepData) -> SweepData:
    """The data with the inner folds of each fold, which are none where `sweep.inner` is 0.

    Raises EmodartsError for a corpus with utterances that must not train: of those in a dev part nobody knows here.
    """
    splits = settings.sweep.inner
    if not splits:
        return data
    if any(trained.settings.exclude for trained in data.trained):
        raise EmodartsError(
            f"sweep.inner={splits} has each fold's dev speakers train in other splits, and corpus.exclude leaves its "
            "utterances in dev parts: leave one of the settings out"
        )
    recordings: dict[str, str | None] = {}
    for trained in data.trained:
        columns = (trained.corpus.utterances[name].to_pylist() for name in ("utterance", "recording"))
        recordings |= dict(zip(*columns, strict=True))
    # As the protocols of this project that divide such a corpus by speakers.
    parted = [
        trained.corpus.name
        for trained in data.trained
        if any(rule.parts_recordings for rule in describe(trained.corpus.name).rules.values())
    ]
    inner = {
        number: make_inner_folds(fold, splits, settings.sweep.seed, recordings, parted)
        for number, fold in data.folds.items()
    }
    return replace(data, inner_folds=inner)
