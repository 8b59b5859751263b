"""What the library logs is printed by the commands, and by nobody else; and which signals end them."""

import logging
import signal
from contextlib import nullcontext

import pytest
from rich.console import Console

from emodarts.console import on_end_signals, print_logs


def test_what_is_logged_is_printed_whole_and_only_within_the_block(tmp_path):
    logger = logging.getLogger("emodarts.features.store.building")
    with (tmp_path / "out").open("w") as file:
        console = Console(file=file, width=20, markup=False)
        logger.info("before")
        with print_logs(console):
            logger.info("features of [demo]: at most 1.2 GB in /a/rather/long/folder")
            logger.debug("not for users")
        logger.info("after")
    assert (tmp_path / "out").read_text() == "features of [demo]: at most 1.2 GB in /a/rather/long/folder\n"
    assert not logging.getLogger("emodarts").handlers


@pytest.mark.parametrize("ignored", [False, True])
def test_sighup_ends_as_sigterm_does_unless_it_is_ignored(ignored):
    """A lost terminal's SIGHUP is taken as Ctrl-C; behind `nohup` it stays without effect."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        on_end_signals(signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):
            with nullcontext() if ignored and number == signal.SIGHUP else pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
