"""Section "Listen": recordings of the headline system's errors and doubts, to be heard and seen."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emodarts.errors import EmodartsError
from emodarts.report.elements import Collapsible, Element, Paragraph, RecordingCard, Section, SoundClip
from emodarts.report.predictions import PartPredictions, PredictedComparison, UtteranceFacts
from emodarts.report.recordings import OPEN_LICENCES, AudioFolder, check_clips, licence_of
from emodarts.seeds import derive_seed

if TYPE_CHECKING:
    from emodarts.report.attention import AttentionReader

_PER_CONFUSION = 2  # recordings drawn of each confusion
_MOST_DRAWN = 40


@dataclass(frozen=True)
class Selection:
    """Rows of a part to be heard: confident errors, hesitant hits, and some of each confusion drawn at random."""

    errors: tuple[int, ...]
    hits: tuple[int, ...]
    drawn: tuple[int, ...]


def select_recordings(test: PartPredictions, errors: int) -> Selection:
    """`errors` of the most confident errors, half as many of the most hesitant hits, and up to two of each confusion.

    Confident: the largest mean probability over seeds; hesitant: the smallest distance of the two largest ones. The
    draw depends on the ids alone, and leaves out what is there already.
    """
    order, top = np.argsort(test.utterances, kind="stable"), np.sort(test.mean, 1)
    predicted = test.mean.argmax(1)
    right = predicted == test.labels
    sure = order[np.argsort(-top[order, -1], kind="stable")]
    unsure = order[np.argsort((top[:, -1] - top[:, -2])[order], kind="stable")]
    confident = tuple(int(row) for row in sure if not right[row])[:errors]
    hesitant = tuple(int(row) for row in unsure if right[row])[: errors // 2]
    cells: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in order.tolist():
        if not right[row] and row not in confident:
            cells[int(test.labels[row]), int(predicted[row])].append(row)
    drawn = []
    for cell, rows in sorted(cells.items()):
        rng = np.random.default_rng(derive_seed(0, "listen", *cell))
        drawn += [rows[i] for i in sorted(rng.permutation(len(rows))[:_PER_CONFUSION].tolist())]
    return Selection(confident, hesitant, tuple(drawn[:_MOST_DRAWN]))


def listening_section(
    predicted: Sequence[PredictedComparison],
    facts: Mapping[str, Mapping[str, UtteranceFacts]],
    folders: Mapping[str, AudioFolder],
    errors: int,
    attention: "AttentionReader | None" = None,
) -> Section | None:
    """The recordings of each comparison whose corpus has a folder; None without one. Raises EmodartsError where no
    recording of a folder could be taken.
    """
    elements: list[Element] = []
    wanted: Counter[str] = Counter()
    looks = {id(p): attention for p in predicted if attention is not None and _is_of(attention, p)}
    if attention is not None and not looks:
        raise EmodartsError(
            f"--attention: it has networks of {attention.system} in sweep {attention.sweep}, and the page's first "
            "system is another one; export that"
        )
    for p in predicted if folders else ():
        test, known = p.systems[0].test, facts.get(p.systems[0].system.results.sweep, {})
        selection = select_recordings(test, errors)
        groups = (
            ("the most confident errors", selection.errors),
            ("right, and the most hesitant", selection.hits),
            ("drawn from each confusion", selection.drawn),
        )
        for title, rows in groups:
            cards: list[Element] = []
            for row in rows:
                about = known.get(test.utterances[row])
                folder = folders.get(about["corpus"]) if about else None
                if about is not None and folder is not None:
                    wanted[folder.corpus] += 1
                    clip = folder.clip(about, int(test.folds[row]), looks.get(id(p)))
                    cards += [_card(p, row, about, clip)] if clip is not None else []
            if cards:
                name = f"{p.systems[0].name}: {title} ({len(cards)}), {p.comparison.test_set}"
                elements.append(Collapsible(name, tuple(cards), is_open=title == groups[0][0]))
    check_clips(folders, wanted)
    sentences = [text for folder in folders.values() for text in folder.sentences()]
    head = [Paragraph(_licence_words(name), "warning") for name in sorted(folders) if wanted[name]]
    if looks:
        text = "Orange over the waveform: where in time the network looks (the weights of its attentive pooling)."
        head.append(Paragraph(text))
    return Section("Listen", (*head, *map(Paragraph, sentences), *elements)) if elements else None


def _is_of(attention: "AttentionReader", p: PredictedComparison) -> bool:
    results = p.systems[0].system.results
    return (results.sweep, results.system) == (attention.sweep, attention.system)


def _licence_words(corpus: str) -> str:
    licence = licence_of(corpus)
    if licence.startswith(OPEN_LICENCES):
        return f"Recordings of {corpus}, licence: {licence}. Whoever passes this page on passes them on under it."
    words = licence or "licence not known here"
    return f"Private: recordings of {corpus} ({words}) must not be passed on, and nor must this page."


def _card(p: PredictedComparison, row: int, about: UtteranceFacts, clip: SoundClip) -> RecordingCard:
    first, *others = p.systems
    classes, mean = p.comparison.classes, first.test.mean[row]
    answers = []
    for system in others:
        places = {utterance: i for i, utterance in enumerate(system.test.utterances)}
        place = places.get(first.test.utterances[row])
        if place is not None:
            of_other = system.test.mean[place]
            answers.append(f"{system.name}: {classes[int(of_other.argmax())]} {of_other.max():.2f}")
    of_seeds = first.test.probabilities[:, row].argmax(1)
    label, predicted = classes[int(first.test.labels[row])], classes[int(mean.argmax())]
    if len(of_seeds) > 1:
        agree = int((of_seeds == mean.argmax()).sum())
        answers.append(f"{agree} of {len(of_seeds)} seeds say {predicted}")
    details = [f"{name} {about[name]}" for name in ("gender", "session", "scenario", "text") if about[name]]
    return RecordingCard(
        about["utterance"],
        label,
        predicted,
        first.test.speakers[row],
        ", ".join(details),
        tuple(zip(classes, mean.tolist(), strict=True)),
        tuple(answers),
        clip,
    )
