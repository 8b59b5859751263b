"""Results with planted figures for the report, and its tables by their names."""

from dataclasses import replace

from emodarts.report.tables import ReportTable
from tests.support.made_results import Made

SKILLS = {"emodarts": 0.75, "cnn_lstm_attention": 0.74, "svm": 0.45}
ALPHA = Made("alpha-1", "alpha", SKILLS, folds=3, speakers=4, takes=6, seeds=3, crosses={"beta": 0.5})
BETA = Made("beta-1", "beta", {"emodarts": 0.7}, folds=2, speakers=4, takes=4, crosses={"alpha": 0.45}, marks="b")
MADE = (
    ALPHA,
    BETA,
    replace(BETA, name="beta-t", skills={"emodarts": 0.6}, trials=1, source="alpha-1", crosses={}),
)


def sheet(page, begin):
    (found,) = (
        part for part in page.tables_and_figures() if isinstance(part, ReportTable) and part.name.startswith(begin)
    )
    return found
