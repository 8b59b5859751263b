"""What the library logs is printed by the commands, and by nobody else."""

import logging

from rich.console import Console

from emodarts.console import print_logs


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
