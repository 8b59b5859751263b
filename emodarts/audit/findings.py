"""The verdicts of an audit: each fact with its severity, and in one sentence what it means and what to do."""

import re
from collections.abc import Iterator, Mapping, Sequence

from emodarts.audit.comparison import PublishedComparison
from emodarts.audit.cues import ALL, WITHOUT_DC
from emodarts.audit.folds import Overlap
from emodarts.audit.model import (
    SEVERITIES,
    CountTable,
    Cues,
    Finding,
    FoldAudit,
    Oddity,
    ProtocolAudit,
    Reason,
    Recordings,
    SameAudio,
    Texts,
)

# How much of the way from chance to perfect the cues may go before it is called a leak.
LEAK_SHARE = 0.25
_MANY_DROPPED = 0.01  # of all files
UNEVEN = 0.25  # difference between the shares of two classes from which a property goes with the class


def sort_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The worst first, otherwise as they came."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def protocol_findings(protocol: ProtocolAudit) -> Iterator[Finding]:
    """Disjointness, protocol_caveat, missing classes, unknown speakers; or that there are no folds."""
    if protocol.error is not None:
        yield Finding(
            "warning",
            f"protocol {protocol.name}",
            protocol.error,
            "Without folds nothing can be trained or tested: mend what the message names, or take another --protocol.",
        )
        return
    shared = [(fold, roles, speakers) for fold in protocol.folds for roles, speakers in fold.shared_speakers.items()]
    leaks = [(fold, roles, speakers) for fold, roles, speakers in shared if roles != "train and dev"]
    for fold, roles, speakers in leaks[:3]:
        yield Finding(
            "leak",
            f"speakers, fold {fold.index}",
            f"{len(speakers):,} speakers stand in {roles}: {_first_of(speakers)}",
            "Test figures of this fold are too good: take a protocol that keeps speakers apart.",
        )
    if protocol.protocol_caveat:
        yield Finding(
            "warning",
            f"protocol {protocol.name}",
            protocol.protocol_caveat,
            "Choices made on dev (epoch, settings) are weaker than under a speaker-disjoint dev part; its name says so "
            "in every result row.",
        )
    if not leaks:
        unknown = any(part.unknown_speakers for fold in protocol.folds for part in fold.parts if part.role == "train")
        yield Finding(
            "ok",
            "speakers",
            f"no {'known ' * unknown}test speaker stands in train or dev, in each of {_folds(len(protocol.folds))} of "
            f"{protocol.name}{', but some speakers in train are unknown' * unknown}",
            "Test figures are speaker-independent.",
        )
    near = max(fold.unknown_near for fold in protocol.folds)
    if near:
        yield Finding(
            "warning",
            "unknown speakers near test",
            f"{near:,} train utterances of unknown speakers come from recordings that dev or test have parts of",
            "Some may be by dev or test speakers, as the published split has them: to be sure, take speaker<k>.",
        )
    yield from _missing_folds(protocol)
    yield from _missing_classes(protocol.folds)
    left_out = [reason for fold in protocol.folds for reason in fold.left_out]
    if left_out:
        most = max(left_out, key=lambda reason: reason.count)
        yield Finding(
            "note",
            "left out of folds",
            f"{sum(r.count for r in left_out):,} places over {_folds(len(protocol.folds))}, mostly: {most.reason}",
            "These utterances have a label but no role in a fold: figures do not speak of them.",
        )


def _missing_folds(protocol: ProtocolAudit) -> Iterator[Finding]:
    """A protocol of one fold a speaker has fewer folds where a copy, or the class set, lacks speakers."""
    named = re.match(r".*/(?:speaker|session)(\d+)", protocol.name)
    if named and int(named[1]) != len(protocol.folds):
        yield Finding(
            "warning",
            f"protocol {protocol.name}",
            f"{_folds(len(protocol.folds))} instead of {named[1]}: speakers are missing, or have none of the classes",
            "Figures cannot be compared with those of the whole protocol: complete the copy, or say so.",
        )


def _missing_classes(folds: Sequence[FoldAudit]) -> Iterator[Finding]:
    missing = [
        f"fold {fold.index} {part.role}: {', '.join(name for name, count in part.classes.items() if count == 0)}"
        for fold in folds
        for part in fold.parts
        if part.role != "train"
        and part.utterances > part.unlabelled
        and any(count == 0 for count in part.classes.values())
    ]
    if missing:
        yield Finding(
            "warning",
            "absent classes",
            f"{len(missing)} parts lack a class ({_first_of(missing, 3)})",
            "UAR there is a mean over fewer classes, marked in the result rows; pool the folds before comparing.",
        )


def copies_finding(other: str, count: int) -> Finding:
    """Equal recordings in another corpus of a sweep."""
    return Finding(
        "leak",
        f"copies in {other}",
        f"{count:,} recordings of this corpus are recordings of {other} too",
        "Where one of them trains, its copy is no test: leave one of the corpora out, or take the copies out of one.",
    )


def duplicate_findings(duplicates: Sequence[SameAudio]) -> Iterator[Finding]:
    """Equal recordings: across test and the other roles, across train and dev, under several labels, and within."""
    leaking = [same for same in duplicates if same.leaks]
    for same in leaking[:10]:
        where = ", ".join(f"fold {fold}: {' and '.join(roles)}" for fold, roles in same.folds[:3])
        yield Finding(
            "leak",
            "equal recordings across roles",
            f"{_first_of(same.utterances)} are the same audio ({where})",
            "A network is tested on what it was trained or chosen on: remove one of them, or keep them in one role.",
        )
    if len(leaking) > 10:
        yield Finding(
            "leak",
            "equal recordings across roles",
            f"{len(leaking) - 10:,} more groups; the JSON file lists all",
            "See above.",
        )
    dev = [same for same in duplicates if same.folds and not same.leaks]
    if dev:
        yield Finding(
            "warning",
            "equal recordings in train and dev",
            f"{_groups(dev)}, the first: {_first_of(dev[0].utterances)}",
            "Dev figures, and what is chosen by them, are too good: remove one of each.",
        )
    labels = [same for same in duplicates if len(set(same.classes) - {"no class"}) > 1]
    if labels:
        yield Finding(
            "warning",
            "one recording, several labels",
            f"{_groups(labels)}, the first: {_first_of(labels[0].utterances)} as {', '.join(labels[0].classes)}",
            "At most one of the labels is right: look at them, and remove the wrong ones.",
        )
    within = [same for same in duplicates if not same.folds]
    if within:
        listed = "; ".join(" = ".join(same.utterances[:4]) for same in within[:3])
        yield Finding(
            "note",
            "equal recordings",
            f"{_groups(within)} of utterances with the same audio: {listed}",
            "No fold has them in two roles, so nothing leaks, but they count twice: remove one of each.",
        )


def overlap_findings(overlaps: Sequence[Overlap]) -> Iterator[Finding]:
    """Parts of one file that overlap, across test and the other roles, and across train and dev."""
    for severity, pairs in (
        ("leak", [overlap for overlap in overlaps if "test" in overlap.roles]),
        ("warning", [overlap for overlap in overlaps if "test" not in overlap.roles]),
    ):
        if pairs:
            first = pairs[0]
            yield Finding(
                severity,
                "overlapping parts of one file",
                f"{len(pairs):,} pair{'s' * (len(pairs) > 1)} across roles, first {' and '.join(first.utterances)} "
                f"(fold {first.fold}: {' and '.join(first.roles)})",
                "The same sound stands in two roles: correct start and end, or keep the file in one role by a split.",
            )


def text_findings(texts: Texts, protocol: ProtocolAudit) -> Iterator[Finding]:
    """Texts that stand in train and test."""
    if texts.texts == 0:
        yield Finding("note", "texts", "the corpus names no texts", "Whether train and test share texts is unknown.")
        return
    parts = [(fold.index, part) for fold in protocol.folds for part in fold.parts if part.role not in ("train", "dev")]
    total, shared = sum(p.utterances for _, p in parts), sum(p.with_shared_text for _, p in parts)
    if not parts:
        return
    if not shared:
        yield Finding("ok", "texts", "no text of a test part stands in train", "Test figures are text-independent.")
        return
    folds = sorted({index for index, part in parts if part.shared_texts})
    yield Finding(
        "warning" if shared > total / 2 else "note",
        "texts",
        f"{shared:,} of {total:,} test utterances ({shared / total:.0%}) say a text that also stands in train, in "
        f"{len(folds)} of {_folds(len(protocol.folds))}; the corpus has {texts.texts:,} different texts",
        "A network may know the sentence by heart: figures hold for known texts, so say so, or hold texts out by a CSV "
        "split.",
    )


def cue_findings(cues: Cues) -> Iterator[Finding]:
    """How far the class can be told without hearing speech."""
    if cues.reason is not None:
        yield Finding("note", "non-emotional cues", cues.reason, "How much they give away is not known.")
        return
    together = max((cues.figure(ALL), *(figure.uar for figure in cues.figures)))
    alone = [f for f in cues.figures if f.name not in (ALL, WITHOUT_DC)]
    best = max(alone, key=lambda figure: figure.uar)
    fact = f"UAR {_uar(cues.figure(ALL))} for all together (chance {_uar(cues.chance)})"
    fact += f", {best.name} alone {_uar(best.uar)}"
    if together <= cues.chance + cues.margin:
        yield Finding("ok", "non-emotional cues", fact, "They say little about the class of an unheard speaker.")
        return
    above_chance = sorted((f for f in alone if f.uar > cues.chance + cues.margin or f is best), key=lambda f: -f.uar)
    remedies = [_REMEDIES[figure.name] for figure in above_chance]
    severe = together - cues.chance > LEAK_SHARE * (1 - cues.chance)
    yield Finding(
        "leak" if severe else "warning",
        "non-emotional cues",
        f"{fact}, all without DC {_uar(cues.figure(WITHOUT_DC))}",
        "The class can be told in part from how files were made or cut, without speech: print this figure beside every "
        f"result, and {'; '.join(remedies)}.",
    )


_REMEDIES = {
    "duration": "mind that a network sees the length too (pool over time, crop to one length), though tempo is speech",
    "zeros at the ends": "cut the zeros (features.trim_db does)",
    "DC offset": "subtract the DC offset (extraction here does)",
    "noise floor": "normalise gain (features.gain_normalisation) or add noise in training (features.noise_snr_db)",
}


def recording_findings(recordings: Recordings, utterances: int, sizes: Mapping[str, int]) -> Iterator[Finding]:
    """Recordings that are silent, clipped, shifted, padded or of another format, and those that were not decoded.

    `sizes`: the utterances of each class.
    """
    if recordings.not_measured is not None:
        missing = recordings.not_measured
        yield Finding(
            "warning",
            "recordings",
            f"{missing.count:,} of {utterances:,} were not decoded ({_for_example(missing.examples)})",
            "They are in counts here but in no features: see what was dropped, and mend or remove the files.",
        )
    for oddity in recordings.oddities:
        severity, advice = _ODDITIES[oddity.name]
        if _goes_with_class(oddity, sizes):
            severity, advice = "warning", f"It goes with the class, so it gives the class away. {advice}"
        yield Finding(severity, oddity.name, _oddity(oddity, utterances, sizes), advice)
    if len(recordings.sample_rates) > 1:
        yield Finding(
            "note",
            "sample rates",
            _mix(recordings.sample_rates, "Hz"),
            "All are resampled, but bandwidth stays: check that the rare ones are not of one class or split.",
        )
    if len(recordings.channels) > 1:
        yield Finding(
            "note",
            "channels",
            _mix(recordings.channels, "channel(s)"),
            "Channels are averaged; check that the rare ones are recordings like the others.",
        )


_ODDITIES = {
    "silent": ("warning", "Every sample is the same: features drop them; remove them for clean counts."),
    "very quiet": ("note", "Peaks lie 60 dB below full scale: listen to some, they may be empty."),
    "clipped": ("note", "At least .1 % of samples stand at full scale: loudness is cut, more so in loud classes."),
    "DC offset": ("note", "The mean sample is above .001 of full scale: remove it, as this project's features do."),
    "zeros at an end": (
        "note",
        "At least .1 s of exact zeros: the files were cut or padded; features.trim_db cuts them.",
    ),
    "short": ("note", "Shorter than .25 s: hardly an utterance; features.minimum_ms drops the shortest."),
    "long": ("note", "Longer than 60 s: probably no single utterance; they make batches large."),
}


def speaker_findings(counts: Sequence[CountTable], inconsistent: Sequence[str]) -> Iterator[Finding]:
    """Unknown speakers, and what does not go together with one speaker (`inconsistent`, as sentences)."""
    speakers = next((table for table in counts if table.by == "speaker"), None)
    if speakers is None:
        yield Finding(
            "warning", "speakers", "no speaker is known", "Speaker-independent tests are impossible: name speakers."
        )
        return
    unknown = sum(row.utterances for row in speakers.rows if row.value == "unknown")
    if unknown:
        yield Finding(
            "note", "unknown speakers", f"{unknown:,} utterances", "They only ever train, grouped by their recording."
        )
    for sentence in inconsistent:
        yield Finding("note", "speakers", sentence, "Speaker numbers may be wrong, or the split is not by speaker.")


def drop_findings(
    dropped: Sequence[Reason], unknown: Sequence[Reason], utterances: int, complete: bool
) -> Iterator[Finding]:
    """What did not become a row, and labels that the corpus's words do not explain.

    `complete`: the counts are as published, so that nothing that belongs to the corpus is among the drops.
    """
    count = sum(reason.count for reason in dropped)
    if count:
        many = count > _MANY_DROPPED * (count + utterances) and not complete
        yield Finding(
            "warning" if many else "note",
            "dropped",
            f"{count:,} files or rows; {_reason(dropped[0])}",
            "They are in no figure: check that each reason is one that you expect.",
        )
    if unknown:
        count = sum(reason.count for reason in unknown)
        yield Finding(
            "warning",
            "unknown words",
            f"{count:,} utterances; {_reason(unknown[0])}",
            "They have no class: correct the label, or ask for it with corpus.class_set.",
        )


def published_findings(published: PublishedComparison | None) -> Iterator[Finding]:
    """The copy against the published counts."""
    if published is None:
        return
    if published.as_published:
        yield Finding("ok", "published counts", published.sentence(), "The copy is whole and read as others read it.")
    else:
        yield Finding(
            "warning",
            "published counts",
            published.sentence(),
            "The copy is incomplete, of another release, or changed: mend it, or state the difference with results.",
        )


def _goes_with_class(oddity: Oddity, sizes: Mapping[str, int]) -> bool:
    shares = [oddity.classes.get(name, 0) / size for name, size in sizes.items() if size]
    return len(shares) > 1 and max(shares) - min(shares) > UNEVEN


def _oddity(oddity: Oddity, utterances: int, sizes: Mapping[str, int]) -> str:
    by_class = [f"{name} {oddity.classes.get(name, 0):,} of {size:,}" for name, size in sizes.items()]
    return f"{oddity.count:,} of {utterances:,} ({'; '.join([*by_class, _for_example(oddity.examples)])})"


def _mix(counts: Mapping[int, int], unit: str) -> str:
    return ", ".join(f"{count:,} at {value} {unit}" for value, count in list(counts.items())[:5])


def _first_of(items: Sequence[str], count: int = 4) -> str:
    more = f" and {len(items) - count:,} more" if len(items) > count else ""
    return ", ".join(items[:count]) + more


def _groups(items: Sequence[SameAudio]) -> str:
    return "1 group" if len(items) == 1 else f"{len(items):,} groups"


def _folds(count: int) -> str:
    return "1 fold" if count == 1 else f"{count} folds"


def _reason(reason: Reason) -> str:
    return f"{reason.count:,} of them: {reason.reason} ({_for_example(reason.examples)})"


def _for_example(items: Sequence[str]) -> str:
    return f"for example {', '.join(items[:2])}"


def _uar(value: float) -> str:
    return f"{value:.2f}".lstrip("0") if value < 1 else f"{value:.2f}"
