"""Where commands print."""

import os

from rich.console import Console

_WIDTH = 160  # columns of a file or a pipe: rich takes 80 there, and cuts names until they look alike


def output() -> Console:
    """Standard output: as wide as the terminal, or as `$COLUMNS` says; tables in a log file are whole.

    Brackets are text, as in `extra_tests=[ravdess]`: nothing is markup.
    """
    console = Console(markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH
    return console


def print_line(console: Console, text: str) -> None:
    """Print one line of prose, whole: neither cut to the console's width nor coloured."""
    console.print(text, highlight=False, soft_wrap=True)
