"""The sweep's log while its driver works: brought up to date at the start, then appended to as units end."""

from collections.abc import Iterator
from contextlib import contextmanager

from emodarts.results.commit_log import MOST_FILES, CommitLog, LoggedUnits
from emodarts.results.encoding import trial_file
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter


@contextmanager
def logging_ended_units(writer: SweepWriter, results: Results) -> Iterator[None]:
    """Within the block, `writer` has a log, into which also goes what earlier starts left in small files alone.

    A log with entries whose files are gone (somebody deleted them, and they may be made anew) is made anew, and so is
    one of too many files. Raises EmodartsError.
    """
    (sweep,) = results.parts
    commits, files = sweep.small_units()
    log, logged = CommitLog(writer.storage, writer.sweep), sweep.logged
    try:
        is_right = logged.commits.keys() <= commits.keys() and logged.trial_rows.keys() <= files
        if logged.files > MOST_FILES or not is_right:
            log.discard()
            logged = LoggedUnits()
        ended = {trial_file(t.system, t.study, t.trial, t.seed): t for t in results.trials() if t.status != "running"}
        log.add(
            [commit for unit, commit in commits.items() if unit not in logged.commits],
            [trial for file, trial in ended.items() if file in files and file not in logged.trial_rows],
        )
        writer.log = log
        yield
    finally:
        writer.log = None
        log.close()
