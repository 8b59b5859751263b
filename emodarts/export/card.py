"""The model card: what the model is made of, how it was measured, what it is not good for (Mitchell et al. 2019)."""

from collections import Counter
from dataclasses import dataclass

from emodarts import __version__
from emodarts.corpora.protocols.folds import Fold
from emodarts.corpora.settings import CorpusSettings
from emodarts.export.data import CorpusCredit
from emodarts.export.units import ExportedUnit, ReportedFigures
from emodarts.export.weights import DevAgreement
from emodarts.features.settings import enrolment_size, is_by_speaker
from emodarts.records import SHARED_STUDY
from emodarts.templates import render_template


@dataclass(frozen=True)
class TrainingPart:
    """What the networks were trained on: utterances, known speakers, and utterances a class."""

    utterances: int
    speakers: int
    classes: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, fold: Fold, utterances: tuple[str, ...]) -> "TrainingPart":
        """Some utterances of a fold."""
        counts = Counter(fold.labels[u] for u in utterances)
        speakers = {fold.speakers[u] for u in utterances} - {None}
        return cls(len(utterances), len(speakers), tuple((name, counts[name]) for name in fold.classes))


@dataclass(frozen=True)
class ModelCard:
    """All that the card says. `agreements` and `parts` have one entry a unit; of a refit there is no agreement.

    `corpus`: class set and policies, which hold for all `sources`. `seconds`: 5th, 50th and 95th percentile of the
    training utterances. `parity`: between torch and ONNX. `ensemble_figures`: of the mean of several units of one fold.
    """

    kind: str
    units: tuple[ExportedUnit, ...]
    parts: tuple[TrainingPart, ...]
    agreements: tuple[DevAgreement, ...]
    corpus: CorpusSettings
    sources: tuple[CorpusCredit, ...]
    seconds: tuple[float, float, float]
    parity: float
    ensemble_figures: tuple[ReportedFigures, ...] = ()

    @property
    def title(self) -> str:
        """What was trained on."""
        return " and ".join(source.title for source in self.sources)

    @property
    def rotates(self) -> bool:
        """Whether the members' test speakers are other members' training speakers."""
        return len(self.folds) > 1

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds of the members."""
        return tuple(sorted({unit.key.fold for unit in self.units}))

    def render(self) -> str:
        """The card as Markdown."""
        first = self.units[0]
        return render_template(
            "emodarts.export",
            "model_card.md.j2",
            {"figure": lambda value: "-" if value is None else f"{value:.3f}", "plain": _plain},
            card=self,
            first=first,
            key=first.key,
            is_shared=first.key.study == SHARED_STUDY,
            features=first.settings.features,
            by_speaker=is_by_speaker(first.settings.features.normalisation),
            enrolment=enrolment_size(first.settings.features.normalisation),
            version=__version__,
            members=list(zip(self.units, self.parts, strict=True)),
            agreements=list(zip(self.units, self.agreements, strict=False)),
            exact=all(agreement.difference == 0 for agreement in self.agreements),
        )


def _plain(text: str) -> str:
    """Text from a corpus, so that it is no Markdown and no HTML."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
