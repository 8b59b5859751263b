"""The audit as one pure function of a corpus as read, its labels, its folds, and the measures of its recordings."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import pyarrow as pa

from emodarts.audit.comparison import compare_counts
from emodarts.audit.counts import count_tables, count_texts, group_reasons, summarise_durations
from emodarts.audit.cues import measure_cues
from emodarts.audit.data import AuditData
from emodarts.audit.findings import (
    cue_findings,
    drop_findings,
    duplicate_findings,
    overlap_findings,
    protocol_findings,
    published_findings,
    recording_findings,
    sort_findings,
    speaker_findings,
    text_findings,
)
from emodarts.audit.folds import audit_protocol, find_overlaps
from emodarts.audit.model import Audit
from emodarts.audit.recordings import summarise_recordings
from emodarts.audit.traps import trap_findings
from emodarts.corpora.labels import Labels
from emodarts.corpora.protocols.folds import Fold
from emodarts.corpora.readers import describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus
from emodarts.errors import EmodartsError


def audit_corpus(
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
    description = describe(settings.name)
    known = labels if isinstance(labels, Labels) else None
    classes = known.classes if known else ()
    data = AuditData.of(corpus.utterances, known, measures, settings)
    known_folds = () if isinstance(folds, EmodartsError) else folds
    protocol = audit_protocol(data, folds, settings)
    counts = count_tables(data)
    dropped = group_reasons(zip(*(corpus.dropped[name].to_pylist() for name in ("path", "reason")), strict=True))
    unknown = group_reasons((row.path, row.reason) for row in known.unknown) if known else ()
    recordings = summarise_recordings(data, corpus.utterances, known_folds)
    texts = count_texts(data)
    cues = measure_cues(data, folds)
    published = compare_counts(settings.name, corpus.utterances, _unusable(data))
    total, sizes = len(data.ids), Counter(data.classes)
    findings = [
        *published_findings(published),
        *trap_findings(description.traps, data, recordings, cues),
        *drop_findings(dropped, unknown, total, published is not None and published.as_published),
        *protocol_findings(protocol),
        *duplicate_findings(recordings.duplicates),
        *overlap_findings(find_overlaps(corpus.utterances, known_folds)),
        *cue_findings(cues),
        *text_findings(texts, protocol),
        *speaker_findings(counts, list(_inconsistent_speakers(data))),
        *recording_findings(recordings, total, {name: sizes[name] for name in classes}),
    ]
    return Audit(
        corpus=corpus.name,
        title=description.title,
        root=str(corpus.root),
        settings=asdict(settings),
        utterances=total,
        labelled=len(known.by_utterance) if known else 0,
        classes=classes,
        findings=sort_findings(findings),
        counts=counts,
        durations=summarise_durations(data, classes),
        dropped=dropped,
        left_out_words=known.left_out if known else {},
        unknown_words=unknown,
        unlabelled=len(known.unlabelled) if known else 0,
        recordings=recordings,
        texts=texts,
        protocol=protocol,
        published=published,
        cues=cues,
        language=description.language,
        licence=description.licence,
    )


def _unusable(data: AuditData) -> set[str] | None:
    """Ids of recordings that are silent or were not decoded; None where nothing was measured."""
    if not data.measured.any():
        return None
    bad = data.silent() | ~data.measured
    return {utterance for utterance, is_bad in zip(data.ids, bad.tolist(), strict=True) if is_bad}


def _inconsistent_speakers(data: AuditData) -> Iterator[str]:
    """Speakers of several genders, or in several official splits, as sentences."""
    for column, what in (("gender", "genders"), ("split", "splits")):
        values: dict[str, set[str]] = defaultdict(set)
        for speaker, value in zip(data.columns["speaker"], data.columns[column], strict=True):
            if speaker is not None and value is not None:
                values[speaker].add(value)
        several = sorted(speaker for speaker, different in values.items() if len(different) > 1)
        if several:
            first = ", ".join(sorted(values[several[0]]))
            yield f"{len(several):,} speakers have several {what}, for example {several[0]}: {first}"
