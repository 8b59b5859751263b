"""docs/features.md says what docs/recognition.json holds."""

from tests.benchmarks import recognition


def test_the_page_says_what_was_measured():
    page = recognition.PAGE.read_text()
    assert page == recognition.with_tables(page, recognition.load_figures())


def test_the_readme_says_the_same():
    figures, readme = recognition.load_figures(), recognition.README.read_text()
    assert readme == recognition.with_summary(readme, figures)
    row = next(line for line in readme.splitlines() if line.startswith("| `linear_probe`"))
    uars = [
        figures[f"{corpus}-base-speaker-linear"]["systems"]["linear_probe"]["single"] for corpus in recognition.NAMES
    ]
    assert row.endswith(f"{uars[0]:.3f} / {uars[1]:.3f} |".replace("0.", "."))


def test_a_cell_of_the_table_has_winners_and_ensembles_and_averaging_is_told_by_pairs():
    plain, averaged = (
        {
            "group": recognition.GROUPS[systems],
            "units": 2,
            "hours": 0.25,
            "revisions": ["abc"],
            "systems": {s: {"single": 0.5, "top5": 0.625, "trials": trials} for s in systems},
        }
        for systems, trials in (
            (recognition.NETWORKS, {"fold0 {}": 0.5, "fold3 {}": 0.6}),
            (recognition.AVERAGED, {"fold0 {}": 0.51, "fold6 {}": 0.9}),
        )
    )
    condition = recognition.OF_NETWORKS[0]
    names = [recognition.sweep_name("emodb", condition, of) for of in (recognition.NETWORKS, recognition.AVERAGED)]
    lines = recognition.page_lines(dict(zip(names, (plain, averaged), strict=True)))
    assert "| whisper-base, speaker | - | - | .500 .625 | .500 .625 | .500 .625 |" in lines
    assert any("whisper-base, speaker +.010 (2 pairs, sd .000)" in line for line in lines), lines
    assert lines[-1] == "Recorded: 4 units, 0.5 core-hours of search and training, commit abc; -: not run."
