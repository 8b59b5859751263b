"""A table as CSV, Markdown and LaTeX."""

import csv

from emodarts.report.tables import Column, ReportTable, to_csv, to_latex, to_markdown
from emodarts.results.statistics import Interval


class TestSheets:
    SHEET = ReportTable(
        "name",
        "A & B, 50 %",
        (Column("system_x"), Column("UAR", "figure"), Column("difference", "difference"), Column("p", "p")),
        (
            ("a|b", Interval(0.75, 0.5, 1.0), -0.0123, 0.0004),
            ("c_d", Interval(0.5, float("nan"), float("nan")), None, 0.25),
        ),
        ("a note",),
        ("", "soft"),
    )

    def test_csv_is_not_rounded(self):
        first, second = list(csv.DictReader(to_csv(self.SHEET).splitlines()))
        assert first == {
            "system_x": "a|b",
            "UAR": "0.75",
            "UAR low": "0.5",
            "UAR high": "1.0",
            "difference": "-0.0123",
            "p": "0.0004",
        }
        assert (second["UAR"], second["difference"]) == ("0.5", "")

    def test_markdown(self):
        assert to_markdown(self.SHEET).splitlines() == [
            "**A & B, 50 %**",
            "",
            "| system_x | UAR | difference | p |",
            "| :-- | --: | --: | --: |",
            "| a\\|b | .750 [.500, 1.000] | −.012 | \\< .001 |",
            "| c_d | .500 | – | .250 |",
            "",
            "a note",
        ]

    def test_latex_is_escaped_and_ruled(self):
        text = to_latex(self.SHEET)
        assert r"\caption{A \& B, 50 \%. a note}" in text
        assert r"a$|$b & .750 [.500, 1.000] & $-$.012 & $<$ .001 \\" in text
        assert "\\midrule\nc\\_d & .500 & -- & .250 \\\\" in text
        assert r"\begin{tabular}{lrrr}" in text
