"""The audit as one pure function of a corpus as read, its labels, its folds, and the measures of its recordings."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import pyarrow as pa

from emodarts.audit import findings
from emodarts.audit.comparison import compare
from emodarts.audit.cues import cue_figures
from emodarts.audit.folds import overlaps, protocol_audit
from emodarts.audit.model import Audit, Finding
from emodarts.audit.recordings import recordings
from emodarts.audit.tallies import reasons, spreads, tallies, texts
from emodarts.audit.view import View, view
from emodarts.corpora.labels import Labels
from emodarts.corpora.protocols.folds import Fold
from emodarts.corpora.readers import describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus
from emodarts.errors import EmodartsError


def audit(
    corpus: Corpus,
    labels: Labels | EmodartsError,
    folds: Sequence[Fold] | EmodartsError,
    measures: pa.Table,
    settings: CorpusSettings,
) -> Audit:
    """Look at everything that can be wrong. Equal inputs give equal audits.

    `labels` and `folds` may be the error that making them raised: it stands in the audit then. `measures` (schema
    MEASURES) may lack utterances, and have rows of others; `corpus.dropped` is taken as it is.
    """
    known = labels if isinstance(labels, Labels) else None
    seen = view(corpus.utterances, known, measures, settings)
    made = () if isinstance(folds, EmodartsError) else folds
    protocol = protocol_audit(seen, folds, settings)
    counts = tallies(seen)
    dropped = reasons(zip(*(corpus.dropped[name].to_pylist() for name in ("path", "reason")), strict=True))
    unknown = reasons((row.path, row.reason) for row in known.unknown) if known else ()
    found = recordings(seen, corpus.utterances, made)
    spoken = texts(seen)
    cues = cue_figures(seen, folds)
    published = compare(corpus.name, corpus.utterances, _unusable(seen))
    total = len(seen.ids)
    counted = Counter(seen.classes)
    sizes = {name: counted[name] for name in (known.classes if known else ())}
    verdicts: list[Finding] = [
        *findings.of_published(published),
        *findings.of_drops(dropped, unknown, total, published is not None and published.as_published),
        *findings.of_protocol(protocol),
        *findings.of_duplicates(found.duplicates),
        *findings.of_overlaps(overlaps(corpus.utterances, made)),
        *findings.of_cues(cues),
        *findings.of_texts(spoken, protocol),
        *findings.of_speakers(counts, list(_crossing(seen))),
        *findings.of_recordings(found, total, sizes),
    ]
    return Audit(
        corpus=corpus.name,
        title=describe(settings.name).title,
        root=str(corpus.root),
        settings=asdict(settings),
        utterances=total,
        labelled=len(known.by_utterance) if known else 0,
        classes=known.classes if known else (),
        findings=findings.ordered(verdicts),
        tallies=counts,
        durations=spreads(seen, known.classes if known else ()),
        dropped=dropped,
        left_out_words=known.left_out if known else {},
        unknown_words=unknown,
        unlabelled=len(known.unlabelled) if known else 0,
        recordings=found,
        texts=spoken,
        protocol=protocol,
        published=published,
        cues=cues,
    )


def _unusable(seen: View) -> set[str] | None:
    """Ids of recordings that are silent or were not decoded; None where nothing was measured."""
    if not seen.measured.any():
        return None
    bad = seen.silent() | ~seen.measured
    return {utterance for utterance, is_bad in zip(seen.ids, bad.tolist(), strict=True) if is_bad}


def _crossing(seen: View) -> Iterator[str]:
    """Speakers of several genders, or in several official splits."""
    for column, what in (("gender", "genders"), ("split", "splits")):
        values: dict[str, set[str]] = defaultdict(set)
        for speaker, value in zip(seen.columns["speaker"], seen.columns[column], strict=True):
            if speaker is not None and value is not None:
                values[speaker].add(value)
        several = sorted(speaker for speaker, found in values.items() if len(found) > 1)
        if several:
            first = ", ".join(sorted(values[several[0]]))
            yield f"{len(several):,} speakers have several {what}, for example {several[0]}: {first}"
