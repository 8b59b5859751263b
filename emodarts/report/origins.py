"""Where the figures come from: protocol, folds, settings, versions, audit; and what was dropped or failed."""

import json
from collections import Counter
from typing import Any

from emodarts.report.conditions import label
from emodarts.report.report_data import ReportData, SweepSummary
from emodarts.report.sections import Collapsible, Paragraph, Part, Section
from emodarts.report.sheets import Cell, Column, Sheet, slug

_SHOWN = 50  # rows of what failed or was dropped; the tables have all


def origins_section(evidence: ReportData) -> Section:
    """Protocols, fold hashes, corpora, revisions, packages and settings."""
    parts: list[Part] = [_origins(evidence), *(_corpora(evidence))]
    for course in evidence.courses:
        parts.append(Collapsible(f"Settings of {course.sweep}", (_settings(course),)))
    parts.append(Collapsible("Packages", (_packages(evidence),)))
    parts.append(Collapsible("Fold hashes", (_hashes(evidence),)))
    return Section("Where the figures come from", tuple(parts))


def losses_section(evidence: ReportData) -> Section:
    """How configurations ended, what failed, what was dropped from the corpora."""
    rows: list[tuple[Cell, ...]] = []
    parts: list[Part] = []
    for course in evidence.courses:
        for system in sorted({system for system, _ in course.statuses}):
            ended = {status: n for (s, status), n in course.statuses.items() if s == system}
            rows.append((course.sweep, system, *(ended.get(s, 0) for s in ("complete", "pruned", "failed", "running"))))
        if course.failures:
            parts.append(
                Collapsible(
                    f"{len(course.failures)} failed in {course.sweep}", tuple(map(Paragraph, _first(course.failures)))
                )
            )
        if course.retries:
            why = "dead workers, lost nodes, stopped drivers"
            parts.append(Paragraph(f"{course.sweep}: units were begun again {course.retries} times ({why})."))
        parts += [_dropped(course.sweep, row) for row in course.corpora if row["dropped"]]
    kinds = ("complete", "pruned", "failed", "not at their end")
    columns = (Column("sweep"), Column("system"), *(Column(k, "count") for k in kinds))
    sheet = Sheet("configurations", "Configurations (with the further seeds of winners)", columns, tuple(rows))
    return Section("What failed, what was dropped", (sheet, *parts))


def _origins(evidence: ReportData) -> Sheet:
    rows: list[tuple[Cell, ...]] = []
    for e in evidence.entries:
        revisions = sorted({str(r["git_revision"])[:12] for r in e.rows if r["git_revision"]})
        subsample = sorted({str(r["subsample"]) for r in e.rows if r["subsample"]})
        rows.append(
            (
                e.sweep,
                e.system,
                label(e.train_corpora),
                e.protocol,
                ", ".join(e.classes),
                len(e.folds),
                e.epoch_rule.replace("_", " "),
                e.source or "",
                ", ".join(subsample),
                ", ".join(revisions) or "unknown",
            )
        )
    titles = (
        "sweep",
        "system",
        "trained on",
        "protocol",
        "classes",
        "folds",
        "epoch",
        "genotypes of",
        "subsample",
        "revision",
    )
    columns = tuple(Column(t, "count" if t == "folds" else "text") for t in titles)
    return Sheet("origins", "What was run", columns, tuple(rows))


def _corpora(evidence: ReportData) -> list[Part]:
    rows: list[tuple[Cell, ...]] = []
    findings: list[Part] = []
    for course in evidence.courses:
        for row in course.corpora:
            audit = json.loads(row["audit"]) if row["audit"] else None
            cues = {} if audit is None else {f["name"]: f["uar"] for f in audit["cues"].get("figures", [])}
            worst = [] if audit is None else [f for f in audit["findings"] if f["severity"] in ("leak", "warning")]
            chance = None if audit is None or not cues else audit["cues"].get("chance")
            rows.append(
                (
                    course.sweep,
                    row["corpus"],
                    row["utterances"],
                    len(row["dropped"] or []),
                    sum(json.loads(row["left_out"] or "{}").values()),
                    cues.get("all together"),
                    chance,
                    "not audited" if audit is None else _audited(worst),
                )
            )
            findings += [Paragraph(f"{row['corpus']}: {f['subject']}: {f['found']}", "warning") for f in worst]
    titles = (
        "sweep",
        "corpus",
        "utterances",
        "dropped",
        "of other classes",
        "UAR of non-emotional cues",
        "chance",
        "audit",
    )
    kinds = ("text", "text", "count", "count", "count", "figure", "figure", "text")
    columns = tuple(Column(t, k) for t, k in zip(titles, kinds, strict=True))  # type: ignore[arg-type]
    sheet = Sheet("corpora", "Corpora and their audits", columns, tuple(rows))
    unique = list(dict.fromkeys(findings))
    return [sheet, Collapsible(f"{len(unique)} findings of the audits", tuple(unique))] if unique else [sheet]


def _audited(worst: list[dict[str, Any]]) -> str:
    """How many leaks and warnings an audit has."""
    counts = Counter(finding["severity"] for finding in worst)
    told = [f"{counts[severity]} {severity}{'s' if counts[severity] > 1 else ''}" for severity in ("leak", "warning")]
    return (
        ", ".join(t for t, severity in zip(told, ("leak", "warning"), strict=True) if counts[severity])
        or "nothing found"
    )


def leaks(evidence: ReportData) -> list[str]:
    """What the audits call a leak: no figure should be read without it."""
    found: dict[str, None] = {}
    for row in (row for course in evidence.courses for row in course.corpora if row["audit"]):
        for finding in json.loads(row["audit"])["findings"]:
            if finding["severity"] == "leak":
                found[f"the audit of {row['corpus']} has a leak: {finding['subject']}: {finding['found']}"] = None
    return list(found)


def _settings(course: SweepSummary) -> Sheet:
    rows = tuple((name, json.dumps(value)) for name, value in sorted(course.settings.items()))
    return Sheet(
        slug(f"settings {course.sweep}"), f"Settings of {course.sweep}", (Column("setting"), Column("value")), rows
    )


def _packages(evidence: ReportData) -> Sheet:
    found: dict[str, set[str]] = {}
    for text in {r["packages"] for e in evidence.entries for r in e.rows}:
        for name, version in json.loads(text).items():
            found.setdefault(name, set()).add(str(version))
    rows = tuple((name, ", ".join(sorted(versions))) for name, versions in sorted(found.items()))
    return Sheet("packages", "Packages of the units", (Column("package"), Column("versions")), rows)


def _hashes(evidence: ReportData) -> Sheet:
    found = sorted({(e.protocol, fold, digest) for e in evidence.entries for fold, digest in e.hashes})
    columns = (Column("protocol"), Column("fold", "count"), Column("hash"))
    return Sheet("fold-hashes", "Fold hashes (ids, labels and roles)", columns, tuple(found))


def _dropped(sweep: str, row: dict[str, Any]) -> Collapsible:
    reasons = Counter(d["reason"] for d in row["dropped"]).most_common()
    told = [f"{count}: {reason}" for reason, count in reasons[:_SHOWN]]
    each = _first(tuple(f"{d['path']}: {d['reason']}" for d in row["dropped"]))
    words = tuple(map(Paragraph, [*told, *each] if len(reasons) < len(row["dropped"]) else each))
    return Collapsible(f"{len(row['dropped'])} dropped of {row['corpus']} in {sweep}", words)


def _first(texts: tuple[str, ...]) -> list[str]:
    more = [f"and {len(texts) - _SHOWN} more: see the tables"] if len(texts) > _SHOWN else []
    return [*texts[:_SHOWN], *more]
