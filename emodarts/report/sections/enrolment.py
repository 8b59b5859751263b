"""Section "Recordings of a speaker": how many of them a system needs that normalises by speaker."""

from collections import defaultdict
from collections.abc import Sequence

from emodarts.report import plots
from emodarts.report.comparisons import ComparedSystem, Comparison, features_name
from emodarts.report.elements import Element, Paragraph, Section
from emodarts.report.figures import Figure
from emodarts.report.sections.systems import over_speakers
from emodarts.report.tables import slug

_TEXT = (
    "A speaker's mean and deviation from k of its recordings, drawn without labels, or from all of them; training "
    "speakers have all of theirs. Recordings that these statistics are taken from are scored, too. Acted corpora have "
    "all classes in equal parts, so that as many recordings of everyday speech are worth less."
)


def enrolment_section(comparisons: Sequence[Comparison]) -> Section | None:
    """A figure a system that was run with several numbers of recordings; None without any."""
    figures: list[Element] = []
    for comparison in comparisons:
        by_system: dict[tuple[str, str], list[ComparedSystem]] = defaultdict(list)
        for system in comparison.systems:
            by_system[system.results.system, features_name(system.results)].append(system)
        for name, systems in by_system.items():
            if len({s.part.normalisation for s in systems if _size(s) > 0}) > 1:
                figures.append(_figure(comparison, " ".join(name), sorted(systems, key=_size)))
    return Section("Recordings of a speaker", (Paragraph(_TEXT), *figures)) if figures else None


def _size(system: ComparedSystem) -> float:
    """The k of `speaker@k`, infinite for `speaker`, 0 for what takes none."""
    rule, _, size = system.part.normalisation.partition("@")
    return (float(size) if size else float("inf")) if rule == "speaker" else 0.0


def _figure(comparison: Comparison, name: str, systems: Sequence[ComparedSystem]) -> Figure:
    names, colours = [s.part.normalisation for s in systems], [s.colour for s in systems]
    values, chance_uar = [over_speakers(s.tallies) for s in systems], 1 / len(comparison.classes)
    return Figure(
        slug(f"enrolment {name} {comparison.protocol} {comparison.test_set}"),
        f"UAR of {name} by whose recordings normalise a speaker: {comparison.title}",
        "; ".join(f"{rule} {uar.value:.3f}" for rule, uar in zip(names, values, strict=True)),
        lambda canvas: plots.draw_intervals(canvas, names, colours, values, chance_uar),
        height=1.0 + 0.36 * len(names),
    )
