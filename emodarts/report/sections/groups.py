"""Section "Groups": who is served worse, by gender, session, scenario, text, corpus and duration, and by speaker."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emodarts import metrics
from emodarts.report.elements import Collapsible, Element, Paragraph, Section
from emodarts.report.figures import Figure
from emodarts.report.panels import draw_confusions
from emodarts.report.predictions import PartPredictions, PredictedComparison, SystemPredictions, UtteranceFacts
from emodarts.report.sections.systems import clip_to_range
from emodarts.report.tables import Cell, ReportTable, format_cell, head
from emodarts.results.statistics import GroupComparison, GroupFigures, compare_groups, holm, served_differently

ATTRIBUTES = ("gender", "session", "scenario", "text", "corpus", "duration")
MOST_GROUPS = 24
FEW_SPEAKERS, FEW_UTTERANCES = 8, 30
_MOST_SPEAKERS = 24  # confusion matrices
_COLUMNS = head(
    "by | group | n: count | speakers: count | UAR [95 %]: figure | from the others [95 %]: difference | "
    "a fair model stays below: figure | p (Holm): p | verdict | remark"
)
_NOTES = (
    "From the others: the group's UAR minus that of all others, over the classes that both have; intervals are over "
    "speakers. A fair model stays below: the largest difference of a group in 95 % of 999 simulated models that serve "
    "all alike, with as many speakers and utterances: the groups are dealt anew among the speakers (or, where speakers "
    "stand in several groups, among each speaker's utterances of a class). p counts the simulations that are as large, "
    "corrected for the attributes of this table.",
    "Within chance is no proof of fairness: with few speakers only large differences can be told.",
)


@dataclass(frozen=True)
class SystemGroups:
    """The comparisons of a system by attribute, and what cannot be told, a sentence each."""

    comparisons: dict[str, GroupComparison]
    sentences: tuple[str, ...]

    def verdicts(self) -> dict[str, tuple[float, list[str]]]:
        """Attribute -> its corrected p and a verdict a group."""
        p_values = holm([c.p for c in self.comparisons.values()])
        words = served_differently(list(self.comparisons.values()), p_values)
        return {name: (p, w) for name, p, w in zip(self.comparisons, p_values, words, strict=True)}


def groups_section(
    predicted: Sequence[PredictedComparison], facts: Mapping[str, Mapping[str, UtteranceFacts]]
) -> Section | None:
    """Groups of each comparison's systems; None without predictions. `facts`: sweep -> utterance -> its row."""
    elements: list[Element] = []
    for number, p in enumerate(predicted):
        first, *others = p.systems
        known = facts.get(first.system.results.sweep, {})
        elements += _of_system(first, known, f"groups-{number}", p)
        elements.append(_speakers_figure(first, p, number))
        tables = [_of_system(s, facts.get(s.system.results.sweep, {}), f"groups-{number}", p)[-1] for s in others]
        rest = tuple(table for table in tables if isinstance(table, ReportTable))
        if rest:
            elements.append(Collapsible(f"The other systems: {p.comparison.title}", rest))
    return Section("Groups", tuple(elements)) if elements else None


def compare_by_attributes(test: PartPredictions, facts: Mapping[str, UtteranceFacts], n_classes: int) -> SystemGroups:
    """UAR by each attribute of ATTRIBUTES that divides the utterances of a part."""
    comparisons, sentences = {}, []
    if not any(utterance in facts for utterance in test.utterances):
        text = (
            "Nothing is known of the utterances: the sweep was run before there was a table of them. Its command, "
            "given again, writes that table without computing anything anew."
        )
        return SystemGroups({}, (text,))
    for attribute in ATTRIBUTES:
        values = _values(test.utterances, facts, attribute)
        known = np.array([value is not None for value in values])
        names = Counter(value for value in values if value is not None)
        if not names:
            sentences.append(f"No {attribute} is known: the corpus does not say.")
        elif len(names) == 1:
            if attribute != "corpus":
                sentences.append(f"By {attribute}: all that is known is {next(iter(names))}.")
        elif len(names) > MOST_GROUPS:
            sentences.append(f"By {attribute}: {len(names)} of them, too many to compare.")
        else:
            part = np.flatnonzero(known)
            speakers, groups = np.array(test.speakers)[part], [str(values[row]) for row in part]
            labels, predicted = test.labels[part], test.probabilities[:, part].argmax(2)
            comparisons[attribute] = compare_groups(speakers, labels, predicted, groups, n_classes)
            if not known.all():
                sentences.append(
                    f"By {attribute}: it is unknown of {int((~known).sum())} utterances, which are left out."
                )
    return SystemGroups(comparisons, tuple(sentences))


def _of_system(
    system: SystemPredictions, facts: Mapping[str, UtteranceFacts], name: str, p: PredictedComparison
) -> list[Element]:
    groups = compare_by_attributes(system.test, facts, len(p.comparison.classes))
    verdicts, classes = groups.verdicts(), p.comparison.classes
    rows: list[tuple[Cell, ...]] = []
    worse = []
    for attribute, comparison in groups.comparisons.items():
        p_value, words = verdicts[attribute]
        for group, verdict in zip(comparison.groups, words, strict=True):
            about = (
                attribute,
                group.name,
                group.utterances,
                group.speakers,
                clip_to_range(group.uar),
                group.from_others,
            )
            rows.append((*about, comparison.threshold, p_value, verdict, _remark(group, classes)))
            if verdict == "served worse":
                gap = format_cell(-group.from_others.value, "figure")
                worse.append(f"{group.name} ({attribute}) by {gap}")
    answer = (
        f"{system.name} serves worse than chance explains: {', '.join(worse)}, in UAR."
        if worse
        else f"{system.name}: no group is served worse than it may be by chance under a fair model of this size."
    )
    if rows and (speakers := len(set(system.test.speakers))) < 2 * FEW_SPEAKERS:
        least = format_cell(min(comparison.threshold for comparison in groups.comparisons.values()), "figure")
        answer += f" {speakers} speakers tell large differences alone: of less than {least} nothing can be said."
    sentences = ([answer] if rows else []) + list(groups.sentences)
    title = f"Groups of {system.name}: {p.comparison.title}"
    texts: list[Element] = [Paragraph(text, "" if place else "lead") for place, text in enumerate(sentences)]
    return [*texts, ReportTable(name, title, _COLUMNS, tuple(rows), _NOTES)] if rows else texts


def _values(utterances: Sequence[str], facts: Mapping[str, UtteranceFacts], attribute: str) -> list[str | None]:
    rows = [facts.get(utterance, {}) for utterance in utterances]
    if attribute != "duration":
        return [row.get(attribute) for row in rows]
    seconds = [row.get("seconds") for row in rows]
    known = [x for x in seconds if x is not None]
    if len(known) < 3:
        return [None] * len(rows)
    low, high = (float(x) for x in np.quantile(known, [1 / 3, 2 / 3]))
    names = (f"short, to {low:.1f} s", f"middle, to {high:.1f} s", f"long, over {high:.1f} s")
    return [None if x is None else names[(x > low) + (x > high)] for x in seconds]


def _remark(group: GroupFigures, classes: Sequence[str]) -> str:
    words = []
    if group.speakers == 1:
        words.append("one speaker: no interval")
    elif math.isnan(group.from_others.low):
        words.append("no interval: one speaker alone is in one side only")
    elif group.speakers < FEW_SPEAKERS:
        words.append(f"small: {group.speakers} speakers")
    if group.utterances < FEW_UTTERANCES:
        words.append(f"{group.utterances} utterances" if words else f"small: {group.utterances} utterances")
    if group.absent:
        words.append(f"no {', '.join(classes[c] for c in group.absent)}")
    return ", ".join(words)


def _speakers_figure(system: SystemPredictions, p: PredictedComparison, number: int) -> Figure:
    """Confusion matrices of the speakers, the worst recognised first."""
    names, counts = system.system.tallies[0].speakers, np.mean([t.counts for t in system.system.tallies], axis=0)
    order = np.argsort(metrics.uar_of(counts), kind="stable")[:_MOST_SPEAKERS]
    with np.errstate(invalid="ignore"):
        shares = counts[order] / counts[order].sum(2, keepdims=True)
    titles = [names[row].partition("/")[2] or names[row] for row in order]
    which = "" if len(names) <= _MOST_SPEAKERS else f", the {_MOST_SPEAKERS} worst recognised of {len(names)}"
    uars = ", ".join(f"{names[row]} {metrics.uar_of(counts[row]):.2f}" for row in order[:6])
    return Figure(
        f"speakers-confusions-{number}",
        f"{system.name}, a confusion matrix a speaker, the worst recognised first{which}: {p.comparison.title}",
        f"Rows are true classes ({', '.join(p.comparison.classes)}), columns answers, dark is often. UAR: {uars}",
        lambda canvas: draw_confusions(canvas, titles, shares, p.comparison.classes),
        height=0.4 + 1.15 * -(-len(order) // 6),
    )
