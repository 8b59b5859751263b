"""The options `--audio`, `--audio-errors` and `--private` of `emodarts report`: what they ask for, and its section."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emodarts.errors import EmodartsError

if TYPE_CHECKING:
    from emodarts.report.elements import Section
    from emodarts.report.predictions import PredictedComparison, UtteranceFacts


@dataclass(frozen=True)
class Listening:
    """Recordings for the page: `locations` are `[NAME=]ROOT`; `beside`: the page's path without its suffix;
    `attention`: the folder of an export.
    """

    locations: tuple[str, ...]
    errors: int
    private: bool
    beside: Path | None = None
    attention: Path | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Listening | None":
        """That of a command line; None without recordings."""
        beside = None if options.html is None else options.html.with_suffix("")
        how = (options.audio_errors, options.private, beside, options.attention)
        return cls(tuple(options.audio), *how) if options.audio else None

    def section(
        self, predicted: "Sequence[PredictedComparison]", facts: "Mapping[str, Mapping[str, UtteranceFacts]]"
    ) -> "Section | None":
        """The section "Listen". Raises EmodartsError for folders that do not fit, and licences that forbid."""
        from emodarts.report.recordings import open_audio  # torch takes a second to import
        from emodarts.report.sections.listening import listening_section

        corpora = sorted({str(row["corpus"]) for of_sweep in facts.values() for row in of_sweep.values()})
        if not corpora:
            raise EmodartsError(
                f"--audio {self.locations[0]}: the results have no table of utterances, which says where recordings "
                "lie; the sweep's command, given again, writes it without computing anything anew"
            )
        folders = open_audio(self.locations, corpora, self.private, self.beside)
        attention = None
        if self.attention is not None:
            from emodarts.report.attention import AttentionReader

            attention = AttentionReader.open(self.attention)
        return listening_section(predicted, facts, folders, self.errors, attention)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of recordings."""
    parser.add_argument(
        "--audio",
        metavar="[NAME=]ROOT",
        action="append",
        default=[],
        help="put recordings of a corpus (its folder) into the page, to be heard: mind its licence; may come again",
    )
    parser.add_argument(
        "--audio-errors",
        metavar="N",
        type=int,
        default=24,
        help="errors to be heard, and half as many hits (default: 24)",
    )
    parser.add_argument(
        "--attention",
        metavar="EXPORT",
        type=Path,
        help="with --audio: where in time the networks of this export of the sweep (`emodarts export`) look",
    )
    parser.add_argument(
        "--private", action="store_true", help="the page is for yourself: recordings that must not be passed on, too"
    )


def check_arguments(options: argparse.Namespace) -> None:
    """Raise EmodartsError where they do not fit each other."""
    if options.audio_errors < 1:
        raise EmodartsError(f"--audio-errors {options.audio_errors}: give 1 or more")
    if options.audio and not options.html:
        raise EmodartsError(f"--audio {options.audio[0]}: recordings stand in a page; give --html FILE, too")
    if options.attention and not options.audio:
        raise EmodartsError("--attention goes with --audio: it is drawn over recordings")
    if options.private and not options.audio:
        raise EmodartsError("--private goes with --audio: no other part of a page has recordings")
