"""Where commands print, and where what the library logs is printed."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_WIDTH = 160  # columns of a file or a pipe: rich takes 80 there, and cuts names until they look alike


def output() -> Console:
    """Standard output: as wide as the terminal, or as `$COLUMNS` says; tables in a log file are whole.

    Brackets are text, as in `extra_tests=[ravdess]`: nothing is markup.
    """
    console = Console(markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH
    return console


def on_end_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    """Handle SIGTERM, and SIGHUP where it is not ignored, as it is behind `nohup`."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def print_line(console: Console, text: str) -> None:
    """Print one line of prose, whole: neither cut to the console's width nor coloured."""
    console.print(text, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(console: Console, title: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal while the block runs; the block calls what is yielded with what is done, of so many."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console):
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        print_line(self.console, record.getMessage())


@contextmanager
def print_logs(console: Console) -> Iterator[None]:
    """While the block runs, what emodarts logs (from INFO on) is printed to the console, a line a message."""
    logger, handler = logging.getLogger("emodarts"), _ConsoleHandler(console)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def printable(text: str) -> str:
    """Text with control characters (of hostile file names) shown as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
