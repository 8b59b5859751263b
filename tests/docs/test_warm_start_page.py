"""docs/sweeps.md says what docs/warm_start.json holds; and what the figures of its benchmark are."""

from argparse import Namespace

from tests.benchmarks import warm_start


def test_the_page_says_what_was_measured():
    page = warm_start.PAGE.read_text()
    assert page == warm_start.with_tables(page, warm_start.load_figures())


def test_pairs_are_compared_by_the_best_so_far_fold_by_fold():
    cold = {0: [0.5, 0.4, 0.6, 0.6, 0.5, 0.7], 2: [0.3, 0.4, 0.4, 0.4, 0.4, 0.4]}
    warm = {0: [0.5, 0.6, 0.6, 0.6, 0.5, 0.7], 2: [0.3, 0.6, 0.7, 0.2, 0.2, 0.2]}
    row = warm_start.summarise(cold, warm, ["abc"])
    assert row["cold"] == [0.45, 0.5, 0.55]
    assert row["difference"] == [0.15, 0.15, 0.15]
    assert row["error"] == [0.05, 0.15, 0.15]
    lines = warm_start.page_lines({"`svm`, log-mel, train": row})
    assert lines[2].startswith("| `svm`, log-mel, train | .450 | +.150 ± .050 | .500 | +.150 ± .150 |")
    assert lines[-1] == "Mean over rows after 6 trials: +.150. Commit abc."


def test_only_the_warm_sweep_knows_the_prior_one(tmp_path):
    options = Namespace(results=str(tmp_path), encoders="models")
    prior, cold, warm = warm_start.PAIRS[0].cells(options)
    assert prior.overrides[0] == "corpus=ravdess"
    assert {*warm.overrides} - {*cold.overrides} == {f"sweep.warm_start=[{tmp_path / prior.name}]"}
    assert {*cold.overrides} <= {*warm.overrides}
