"""Sections "Where the figures come from" (protocols, settings, audits) and "What failed, what was dropped"."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from emodarts.report.elements import Collapsible, Element, Paragraph, Section
from emodarts.report.report_data import ReportData, SweepRecord, facts_of
from emodarts.report.tables import Cell, Column, ReportTable, head, slug

_SHOWN = 50  # rows of what failed or was dropped; the tables have all
_RUN_COLUMNS = head(
    "sweep | system | trained on | protocol | classes | folds: count | epoch | genotypes of | subsample | revision"
)
_CORPUS_COLUMNS = head(
    "sweep | corpus | language | utterances: count | dropped: count | of other classes: count | "
    "UAR of non-emotional cues: figure | chance: figure | audit | licence"
)
_STATUSES = {"complete": "complete", "pruned": "pruned", "failed": "failed", "running": "not at their end"}


def provenance_section(data: ReportData) -> Section:
    """Protocols, fold hashes, corpora, revisions, packages and settings."""
    settings = [Collapsible(f"Settings of {record.sweep}", (_settings_table(record),)) for record in data.sweeps]
    packages = Collapsible("Packages", (_packages_table(data),))
    hashes = Collapsible("Fold hashes", (_hashes_table(data),))
    elements = (_runs_table(data), *_corpora_elements(data), *settings, packages, hashes)
    return Section("Where the figures come from", elements)


def losses_section(data: ReportData) -> Section:
    """How configurations ended, what failed, what was dropped from the corpora."""
    rows: list[tuple[Cell, ...]] = []
    elements: list[Element] = []
    for record in data.sweeps:
        for system in sorted({system for system, _ in record.statuses}):
            rows.append((record.sweep, system, *(record.statuses.get((system, status), 0) for status in _STATUSES)))
        if record.failures:
            title = f"{len(record.failures)} failed in {record.sweep}"
            elements.append(Collapsible(title, _paragraphs(record.failures)))
        if record.retries:
            why = "dead workers, lost nodes, stopped drivers"
            elements.append(Paragraph(f"{record.sweep}: units were begun again {record.retries} times ({why})."))
        elements += [_dropped(record.sweep, corpus) for corpus in record.corpora if corpus["dropped"]]
    columns = (Column("sweep"), Column("system"), *(Column(title, "count") for title in _STATUSES.values()))
    title = "Configurations (with the further seeds of winners)"
    table = ReportTable("configurations", title, columns, tuple(rows))
    return Section("What failed, what was dropped", (table, *elements))


def _runs_table(data: ReportData) -> ReportTable:
    rows: list[tuple[Cell, ...]] = []
    for s in (s for s in data.systems if not s.is_ensemble):
        revisions = sorted({str(r["git_revision"])[:12] for r in s.rows if r["git_revision"]})
        subsamples = sorted({str(r["subsample"]) for r in s.rows if r["subsample"]})
        data_of_run = (s.corpora_name, s.protocol, ", ".join(s.classes), len(s.folds))
        choices = (s.epoch_rule.replace("_", " "), s.source or "", ", ".join(subsamples))
        rows.append((s.sweep, s.system, *data_of_run, *choices, ", ".join(revisions) or "unknown"))
    return ReportTable("origins", "What was run", _RUN_COLUMNS, tuple(rows))


def _corpora_elements(data: ReportData) -> list[Element]:
    """The table of corpora, and what their audits warn of."""
    rows: list[tuple[Cell, ...]] = []
    warnings: dict[Paragraph, None] = {}
    for record in data.sweeps:
        for corpus in record.corpora:
            audit = json.loads(corpus["audit"]) if corpus["audit"] else {"findings": [], "cues": {}}
            worst = [f for f in audit["findings"] if f["severity"] in ("leak", "warning")]
            cues = {figure["name"]: figure["uar"] for figure in audit["cues"].get("figures", [])}
            left_out = sum(json.loads(corpus["left_out"] or "{}").values())
            counts = (corpus["utterances"], len(corpus["dropped"] or []), left_out)
            figures = (cues.get("all together"), audit["cues"].get("chance") if cues else None)
            verdict = _audit_verdict(worst) if corpus["audit"] else "not audited"
            language, licence = facts_of(corpus)
            rows.append((record.sweep, corpus["corpus"], language, *counts, *figures, verdict, licence))
            for finding in worst:
                text = f"{corpus['corpus']}: {finding['subject']}: {finding['fact']}"
                warnings[Paragraph(text, "warning")] = None
    table = ReportTable("corpora", "Corpora and their audits", _CORPUS_COLUMNS, tuple(rows))
    return [table, Collapsible(f"{len(warnings)} findings of the audits", tuple(warnings))] if warnings else [table]


def _audit_verdict(findings: Sequence[dict[str, Any]]) -> str:
    """How many leaks and warnings an audit has."""
    counts = Counter(finding["severity"] for finding in findings)
    return (
        ", ".join(f"{counts[s]} {s}{'s' if counts[s] > 1 else ''}" for s in ("leak", "warning") if counts[s])
        or "nothing found"
    )


def _settings_table(record: SweepRecord) -> ReportTable:
    rows = tuple((name, json.dumps(value)) for name, value in sorted(record.settings.items()))
    title = f"Settings of {record.sweep}"
    return ReportTable(slug(f"settings {record.sweep}"), title, head("setting | value"), rows)


def _packages_table(data: ReportData) -> ReportTable:
    versions: dict[str, set[str]] = defaultdict(set)
    for text in {row["packages"] for system in data.systems for row in system.rows}:
        for name, version in json.loads(text).items():
            versions[name].add(str(version))
    rows = tuple((name, ", ".join(sorted(versions[name]))) for name in sorted(versions))
    return ReportTable("packages", "Packages of the units", head("package | versions"), rows)


def _hashes_table(data: ReportData) -> ReportTable:
    rows = sorted({(system.protocol, fold, digest) for system in data.systems for fold, digest in system.hashes})
    columns = head("protocol | fold: count | hash")
    return ReportTable("fold-hashes", "Fold hashes (ids, labels and roles)", columns, tuple(rows))


def _dropped(sweep: str, corpus: dict[str, Any]) -> Collapsible:
    """Files that were dropped, with their reasons; first how often each reason is, where that is shorter."""
    dropped = corpus["dropped"]
    reasons = Counter(row["reason"] for row in dropped).most_common()
    files = _paragraphs([f"{row['path']}: {row['reason']}" for row in dropped])
    counts = (
        [Paragraph(f"{count}: {reason}") for reason, count in reasons[:_SHOWN]] if len(reasons) < len(dropped) else []
    )
    return Collapsible(f"{len(dropped)} dropped of {corpus['corpus']} in {sweep}", (*counts, *files))


def _paragraphs(texts: Sequence[str]) -> tuple[Paragraph, ...]:
    """The first texts, and how many more there are."""
    more = [f"and {len(texts) - _SHOWN} more: see the tables"] if len(texts) > _SHOWN else []
    return tuple(map(Paragraph, [*texts[:_SHOWN], *more]))
