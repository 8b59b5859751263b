"""Emotions of speech recordings, by the model beside this file. Needs what requirements.txt names, nothing else.

    python predict.py a.wav b.flac recordings/      a table: file, start, end, label, a probability a class
    python predict.py --json --reject .6 a.wav      JSON lines; "unsure" where no class has a probability of .6
    cat a.wav | python predict.py -                 from standard input
    python predict.py --window 4 --step 2 long.wav  a long recording, piece by piece, with times in seconds
    python predict.py --enrol anna/ new.wav         a model that normalises by speaker, of whom these are recordings

As a library: `model = Model.load(folder)`, then `model.probabilities([model.prepare(samples, rate)])`.
"""

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Statistics = tuple[Any, ...]  # of recordings: number of frames, sums `(values,)` of their values and squares
Known = Sequence[Statistics | None]  # of the speaker of each recording; None: unknown
Source = str | io.BytesIO
SpeakerOf = Callable[[str], str | None]  # of a file
_FOLDER: SpeakerOf = lambda name: Path(name).absolute().parent.name  # noqa: E731
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".au", ".w64", ".sph")
VERSION = 1  # of model.json
_SPEAKER_INPUTS = ("speaker_frames", "speaker_sums", "speaker_squares")
_SPEAKER_OUTPUTS = ("frame_count", "sums", "squares")
_UNKNOWN_LENGTH = 1 << 40  # samples: what libsndfile tells of a FLAC file that was written to a pipe
_UNKNOWN_SIZE = 0x7FFF0000  # bytes of a WAV file, as its header says


class Unusable(Exception):
    """The reason why a recording, or a piece of it, gets no label."""


@dataclass(frozen=True)
class Piece:
    """A recording, or a part of it from `start` to `end` (s): clean samples, or none. `reason`: why there are none, or
    what else is wrong with it. `statistics`: those of its speaker, None: unknown.
    """

    file: str
    start: float
    end: float
    samples: Samples | None
    reason: str = ""
    statistics: Statistics | None = None


@dataclass(frozen=True)
class Model:
    """The ONNX model and what has to be done before it."""

    session: Any
    classes: tuple[str, ...]
    sample_rate: int
    trim_db: float | None
    minimum_ms: float
    longest_seconds: float
    by_speaker: bool = False  # whether statistics of its speaker normalise a recording
    reject: float = 0.0  # the label is "unsure" where the largest probability is below

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> "Model":
        """The model in a folder. Raises OSError and ValueError where it is not whole."""
        about = json.loads((folder / "model.json").read_text())
        if about.get("version") != VERSION:
            raise ValueError(f"model.json has version {about.get('version')}, this program reads {VERSION}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        content = (folder / "model.onnx").read_bytes()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        known = {name: about[name] for name in ("sample_rate", "trim_db", "minimum_ms", "longest_seconds")}
        by_speaker = about.get("normalisation", "train").startswith("speaker")
        return cls(session, tuple(about["classes"]), **known, by_speaker=by_speaker)

    def prepare(self, samples: Samples, rate: int) -> Samples:
        """Mono samples at `rate` (Hz) -> without DC, without silence at both ends, at the model's rate.

        Raises Unusable for silence, broken samples and too little sound.
        """
        if not len(samples):
            raise Unusable("there are no samples in it")
        peak = max(samples.max(), -samples.min())
        if not peak < 1e9:  # also where it is NaN
            raise Unusable(f"samples up to {peak:g}" if np.isfinite(peak) else "NaN or infinite samples")
        samples = samples - samples.sum() / np.float32(len(samples))
        samples = self._trimmed(samples, rate)
        if len(samples) < self.minimum_ms / 1000 * rate:
            raise Unusable(f"too short: {1000 * len(samples) / rate:.0f} ms of sound")
        if rate == self.sample_rate:
            return samples
        return np.ascontiguousarray(soxr.resample(samples, rate, self.sample_rate, quality="HQ"), np.float32)

    def label(self, probabilities: NDArray[np.float32]) -> str:
        """The likeliest class of probabilities `(classes,)`, or `unsure`."""
        return self.classes[int(probabilities.argmax())] if probabilities.max() >= self.reject else "unsure"

    def probabilities(self, sounds: Sequence[Samples], speakers: Known = ()) -> NDArray[np.float32]:
        """Prepared samples -> probabilities `(sounds, classes)`; they do not depend on what shares the batch.

        `speakers`: statistics of the recordings at hand of each sound's speaker, summed up.
        """
        return np.asarray(self._run(["probabilities"], sounds, speakers)[0])

    def statistics(self, samples: Samples) -> Statistics:
        """Of the prepared samples of one recording."""
        return tuple(values[0] for values in self._run(_SPEAKER_OUTPUTS, [samples], ()))

    def _run(self, outputs: Sequence[str], sounds: Sequence[Samples], speakers: Known) -> Any:
        lengths = np.array([len(x) for x in sounds], np.int64)
        padded = np.zeros((len(sounds), lengths.max()), np.float32)
        for row, x in zip(padded, sounds, strict=True):
            row[: len(x)] = x
        inputs = {"samples": padded, "lengths": lengths}
        if self.by_speaker:
            width = self.session.get_inputs()[-1].shape[1]
            unknown = np.int64(0), np.zeros(width), np.zeros(width)
            rows = zip(*(known or unknown for known in speakers or [None] * len(sounds)), strict=True)
            inputs |= dict(zip(_SPEAKER_INPUTS, map(np.stack, rows), strict=True))
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        return self.session.run(list(outputs), inputs, options)

    def _trimmed(self, samples: Samples, rate: int) -> Samples:
        """Between the first and the last frame of 20 ms that is within `trim_db` of the active level."""
        hop = max(1, rate // 50)
        frames = np.pad(samples, (0, -len(samples) % hop)).reshape(-1, hop)
        powers = np.vecdot(frames, frames).astype(np.float64) / hop
        if not powers.size or not powers.max() > 1e-14:
            raise Unusable("silent: every sample is the same")
        if self.trim_db is None:
            return samples
        level = 10 * np.log10(powers + 1e-12)
        active = np.flatnonzero(level > np.percentile(level, 95) - self.trim_db)
        return samples[active[0] * hop : (active[-1] + 1) * hop]


def _mono(samples: Samples) -> Samples:
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(1)


def _opened(source: Source) -> soundfile.SoundFile:
    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        file = soundfile.SoundFile(source)
    except (soundfile.LibsndfileError, OSError) as error:
        if isinstance(source, str) and not os.path.exists(source):
            raise Unusable("there is no such file") from error
        raise Unusable(_reason(error)) from error
    if file.frames >= _UNKNOWN_LENGTH:  # libsndfile fails at the end of such a file
        file.close()
        raise Unusable("its header does not say how long it is: write the file anew, with ffmpeg or sox")
    return file


def _missing(source: Source) -> str:
    """What a WAV file lacks by its own header, nothing if it is whole: libsndfile shortens it without a word."""
    if isinstance(source, io.BytesIO):
        head, size = source.getbuffer()[:12].tobytes(), source.getbuffer().nbytes
    else:
        with open(source, "rb") as file:
            head, size = file.read(12), os.fstat(file.fileno()).st_size
    promised = 8 + int.from_bytes(head[4:8], "little")
    is_wav = head[:4] == b"RIFF" and head[8:] == b"WAVE"
    # What was written to a pipe does not know its length: 0, or about as much as fits into the field.
    if not is_wav or not 8 < promised < _UNKNOWN_SIZE or promised <= size + 1:
        return ""
    return f"the file is cut, and taken up to its end: its header promises {promised} bytes, it has {size}"


def _reason(error: Exception) -> str:
    """libsndfile's words, but for those that it has for an MP3 file without any sound."""
    words = str(error).rsplit(": ", 1)[-1]
    return f"cannot be decoded: {'no sound found in it' if 'File does not exist' in words else words}"


def whole(model: Model, name: str, source: Source) -> Iterator[Piece]:
    """A recording as one piece."""
    seconds = 0.0
    try:
        with _opened(source) as file:
            rate, promised = file.samplerate, file.frames
            seconds = promised / rate
            if seconds > model.longest_seconds:
                raise Unusable(
                    f"{seconds:.0f} s are no utterance: give --window, for example --window 4 (longest: "
                    f"{model.longest_seconds:g} s)"
                )
            samples = file.read(dtype="float32", always_2d=True)
            seconds = len(samples) / rate
            if len(samples) < promised and file.format in ("WAV", "FLAC"):
                raise Unusable(f"the file is cut: {promised} samples promised, {len(samples)} decoded")
        prepared = model.prepare(_mono(samples), rate)
    except Unusable as reason:
        yield Piece(name, 0.0, seconds, None, str(reason))
    except soundfile.LibsndfileError as error:
        yield Piece(name, 0.0, seconds, None, _reason(error))
    else:
        yield Piece(name, 0.0, seconds, prepared, _missing(source))


def windows(model: Model, name: str, source: Source, window: float, step: float) -> Iterator[Piece]:
    """A recording in windows of `window` s, one every `step` s, each taken as an utterance; never all in memory."""
    start = 0.0
    try:
        with _opened(source) as file:
            rate = file.samplerate
            size, hop = max(1, round(window * rate)), max(1, round(step * rate))
            for number, block in enumerate(_blocks(file, size, hop)):
                if number and len(block) <= max(size - hop, model.minimum_ms / 1000 * rate):
                    return  # nothing new, or too little of it
                yield _piece(model, name, start, _mono(block), rate, "" if number else _missing(source))
                start = (number + 1) * hop / rate
    except Unusable as reason:
        yield Piece(name, start, start, None, str(reason))
    except soundfile.LibsndfileError as error:
        yield Piece(name, start, start, None, _reason(error))


def _blocks(file: soundfile.SoundFile, size: int, hop: int) -> Iterator[Samples]:
    """Stretches of `size` samples, one every `hop`; the last one has what is left.

    `SoundFile.blocks` goes by the header: where a file holds less than that promises, it gives old sound again.
    """
    block = file.read(size, dtype="float32", always_2d=True)
    yield block
    while len(block) == size:
        block = np.concatenate([block[hop:], file.read(hop, dtype="float32", always_2d=True)])
        yield block


def _piece(model: Model, name: str, start: float, samples: Samples, rate: int, missing: str) -> Piece:
    end = start + len(samples) / rate
    try:
        return Piece(name, start, end, model.prepare(samples, rate), missing)
    except Unusable as reason:
        return Piece(name, start, end, None, str(reason))


def sources(names: Sequence[str]) -> Iterator[tuple[str, Source]]:
    """Names and what to open: files as they are, the audio files below folders, standard input for `-`."""
    for name in names:
        if name == "-":
            yield name, io.BytesIO(sys.stdin.buffer.read())
        elif os.path.isdir(name):
            paths = (path for path in sorted(Path(name).rglob("*")) if path.suffix.lower() in SUFFIXES)
            yield from ((str(path), str(path)) for path in paths if not path.name.startswith("."))
        else:
            yield name, name


def enrol(model: Model, recordings: Iterable[tuple[str, Source]], speaker_of: SpeakerOf) -> dict[str, Statistics]:
    """Speaker -> the statistics of its recordings; says on standard error who has not several."""
    by_speaker: dict[str, list[Statistics]] = {}
    for name, source in recordings:
        speaker, size = speaker_of(name), model.longest_seconds
        pieces = windows(model, name, source, size, size) if speaker else ()
        if statistics := [model.statistics(piece.samples) for piece in pieces if piece.samples is not None]:
            by_speaker.setdefault(speaker or "", []).append(_sum(statistics))
    for speaker in (speaker for speaker, recorded in by_speaker.items() if len(recorded) == 1):
        print(f"{speaker}: one recording only, so its own mean and deviation are all there is", file=sys.stderr)
    return {speaker: _sum(recorded) for speaker, recorded in by_speaker.items()}


def _sum(statistics: Sequence[Statistics]) -> Statistics:
    return tuple(map(sum, zip(*statistics, strict=True)))


def read_speakers(table: str) -> SpeakerOf:
    """What knows the speakers of a CSV table with the columns file (relative to the table) and speaker."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = [(row["file"], row["speaker"] or None) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError) as error:
        raise argparse.ArgumentTypeError(f"{table} is no table with the columns file and speaker: {error}") from error
    speakers = {os.path.abspath(os.path.join(os.path.dirname(table), file)): speaker for file, speaker in rows}
    return lambda name: speakers.get(os.path.abspath(name))


def labelled(model: Model, pieces: Iterable[Piece], batch: int) -> Iterator[tuple[Piece, NDArray[np.float32] | None]]:
    """Each piece with its probabilities `(classes,)`, None where it has no samples; `batch` pieces at once."""
    pending = iter(pieces)
    while chunk := list(islice(pending, batch)):
        sounds = [piece.samples for piece in chunk if piece.samples is not None]
        speakers = [piece.statistics for piece in chunk if piece.samples is not None]
        rows = iter(model.probabilities(sounds, speakers) if sounds else ())
        for piece in chunk:
            yield piece, None if piece.samples is None else next(rows)


def as_row(model: Model, piece: Piece, probabilities: NDArray[np.float32] | None) -> str:
    """A line of the table: fields between tabs."""
    label = "-" if probabilities is None else model.label(probabilities)
    values = ["-"] * len(model.classes) if probabilities is None else [f"{x:.4f}" for x in probabilities.tolist()]
    return "\t".join([piece.file, f"{piece.start:.2f}", f"{piece.end:.2f}", label, *values])


def as_json(model: Model, piece: Piece, probabilities: NDArray[np.float32] | None) -> str:
    """A JSON line; label and probabilities are null where there are no samples."""
    row: dict[str, Any] = {"file": piece.file, "start": round(piece.start, 3), "end": round(piece.end, 3)}
    if probabilities is None:
        return json.dumps({**row, "label": None, "probabilities": None, "reason": piece.reason})
    by_class = {name: round(x, 6) for name, x in zip(model.classes, probabilities.tolist(), strict=True)}
    reason = {"reason": piece.reason} if piece.reason else {}
    return json.dumps({**row, "label": model.label(probabilities), "probabilities": by_class, **reason})


def main() -> int:
    """The command; 1 where a recording got no label at all."""
    options = _options()
    try:
        model = replace(Model.load(options.model, options.threads), reject=options.reject)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {options.model} holds no whole model: {error}", file=sys.stderr)
        return 1
    recordings = list(sources(options.recordings))
    speaker_of = options.speaker_of or (lambda name: "the speaker" if options.enrol else None)
    if not model.by_speaker and (options.speaker_of or options.enrol):
        print("error: this model does not normalise by speaker: leave speakers and --enrol out", file=sys.stderr)
        return 1
    enrolled = sources(options.enrol) if options.enrol else recordings
    known = enrol(model, enrolled, speaker_of) if model.by_speaker else {}
    if unknown := model.by_speaker and sum(speaker_of(name) not in known for name, _ in recordings):
        print(f"normalised by the training data, since nothing is known of the speaker: {unknown}", file=sys.stderr)
    step = options.step or options.window
    pieces = (
        replace(piece, statistics=known.get(speaker_of(name) or ""))
        for name, source in recordings
        for piece in (
            windows(model, name, source, options.window, step) if options.window else whole(model, name, source)
        )
    )
    if not options.json:
        print("\t".join(["file", "start", "end", "label", *model.classes]))
    seen: dict[str, bool] = {}
    for piece, probabilities in labelled(model, pieces, options.batch):
        print((as_json if options.json else as_row)(model, piece, probabilities), flush=True)
        if piece.reason:
            print(f"{piece.file} at {piece.start:.2f} s: {piece.reason}", file=sys.stderr)
        seen[piece.file] = seen.get(piece.file, False) or probabilities is not None
    if not seen:
        print(
            f"error: no recordings in {', '.join(options.recordings)}: names have to end with {' '.join(SUFFIXES)}",
            file=sys.stderr,
        )
    return 0 if seen and all(seen.values()) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s [options] FILE ..."
    )
    parser.add_argument("recordings", nargs="+", metavar="FILE", help="files and folders; - is standard input")
    parser.add_argument("--json", action="store_true", help="JSON lines in the place of a table")
    parser.add_argument("--window", type=_positive, metavar="S", help="cut recordings into windows of so many s")
    parser.add_argument("--step", type=_positive, metavar="S", help="a window every so many s (default: --window)")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--speaker-column", dest="speaker_of", type=read_speakers, metavar="CSV", help="who speaks where")
    who.add_argument("--speakers-by-folder", dest="speaker_of", action="store_const", const=_FOLDER, help="its folder")
    parser.add_argument("--enrol", action="append", metavar="PATH", help="recordings of the speaker; may come again")
    parser.add_argument("--reject", type=float, default=0, metavar="P", help='"unsure" below this probability')
    parser.add_argument("--batch", type=int, default=8, help="recordings or windows computed at once (default: 8)")
    parser.add_argument("--threads", type=int, default=1, help="of the network (default: 1)")
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parent, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step and not options.step <= (options.window or 0):
        parser.error("--step goes with --window, and is not longer: something would be left out")
    if options.batch < 1 or options.threads < 1 or not 0 <= options.reject <= 1:
        parser.error("--batch and --threads are 1 or more, --reject is 0 to 1")
    return options


def _positive(text: str) -> float:
    if not 0.1 <= (value := float(text)) <= 600:
        raise argparse.ArgumentTypeError("0.1 to 600 seconds")
    return value


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # `python predict.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
