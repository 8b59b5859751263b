"""Recordings for the page: found below a corpus's folder, compared with the sweep's by their sound, made small.

Without `--audio` nothing of this is imported. A recording becomes Opus (16 kHz; FLAC where libsndfile has no Opus),
a waveform as the outline of an SVG, and a log-mel picture.
"""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from numpy.typing import NDArray

from emodarts.corpora.readers import describe
from emodarts.errors import EmodartsError
from emodarts.features.audio import Samples, UnusableAudio, at_speed, decode
from emodarts.features.measures import measure
from emodarts.report.elements import SoundClip
from emodarts.report.predictions import UtteranceFacts
from emodarts.report.tables import slug

if TYPE_CHECKING:
    from emodarts.report.attention import AttentionReader

EMBEDDED_BYTES = 12_000_000  # of sound inside a page; what is more lies in files beside it
OPEN_LICENCES = ("CC", "ODbL", "synthetic")  # what a licence that lets recordings be passed on begins with
_RATE = 16_000  # Hz
_COLUMNS = 240  # of a waveform
_LOWEST = -80.0  # dB below the loudest of a picture


@dataclass
class AudioFolder:
    """The recordings of one corpus below `root`; `beside`: a page's path without its suffix, where files may be added.

    Counts what was refused: recordings that are missing, or whose sound is another one than in the sweep.
    """

    corpus: str
    root: Path
    beside: Path | None = None
    refused: dict[str, list[str]] = field(default_factory=dict)
    embedded: int = 0

    def clip(
        self, facts: UtteranceFacts, fold: int = 0, attention: "AttentionReader | None" = None
    ) -> SoundClip | None:
        """The recording of an utterance, with the `attention` of the network that the fold tested; None where it is
        refused (see `refused`).
        """
        path = self.root / facts["path"]
        if not path.is_file():
            self._refuse("missing", facts["path"])
            return None
        try:
            samples, rate = decode(path, facts["start"], facts["end"])
        except UnusableAudio as error:
            self._refuse(str(error), facts["path"])
            return None
        if facts["audio_hash"] and measure(samples, rate)["audio_hash"] != facts["audio_hash"]:
            self._refuse("of other sound than in the sweep", facts["path"])
            return None
        sound = at_speed(samples, rate, _RATE, 1.0)
        seconds, where = len(samples) / rate, None if attention is None else attention.over_time(samples, rate, fold)
        looked = "" if where is None else _attention_path(*where, seconds)
        return SoundClip(self._source(facts["utterance"], sound), _outline(sound), _picture(sound), seconds, looked)

    def sentences(self) -> list[str]:
        """What was refused, a sentence a reason."""
        return [
            f"{len(paths)} recordings of {self.corpus} are {reason}, and left out; the first: {paths[0]}."
            for reason, paths in self.refused.items()
        ]

    def _refuse(self, reason: str, path: str) -> None:
        self.refused.setdefault(reason, []).append(path)

    def _source(self, utterance: str, sound: Samples) -> str:
        content, kind = encode_audio(sound, _RATE)
        if self.beside is None or self.embedded + len(content) <= EMBEDDED_BYTES:
            self.embedded += len(content)
            return f"data:audio/{kind};base64,{base64.b64encode(content).decode()}"
        folder = self.beside.with_name(f"{self.beside.name}-audio")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{slug(utterance)}.{kind}").write_bytes(content)
        return f"{folder.name}/{slug(utterance)}.{kind}"


def open_audio(
    locations: Sequence[str], corpora: Sequence[str], private: bool, beside: Path | None = None
) -> dict[str, AudioFolder]:
    """The folders of `--audio [NAME=]ROOT` by corpus. Raises EmodartsError for a folder that is none, a name that the
    results have not, and a licence that does not let recordings be passed on unless the page is `private`.
    """
    folders = {}
    for location in locations:
        name, mark, root = location.partition("=")
        if not mark:
            name, root = (corpora[0] if len(corpora) == 1 else ""), location
        if name not in corpora:
            known = ", ".join(corpora) or "no corpus whose utterances are known"
            raise EmodartsError(f"--audio {location}: the results have {known}; give --audio NAME=FOLDER for each")
        if not Path(root).expanduser().is_dir():
            raise EmodartsError(f"--audio {location}: there is no folder {root}; name that of {name}'s recordings")
        licence = licence_of(name)
        if not private and not licence.startswith(OPEN_LICENCES):
            raise EmodartsError(
                f"--audio {location}: the licence of {name} ({licence or 'not known here'}) does not let its "
                "recordings be passed on; --private makes a page for yourself, which says so"
            )
        folders[name] = AudioFolder(name, Path(root).expanduser().resolve(), beside)
    return folders


def licence_of(corpus: str) -> str:
    """The licence as the corpus's reader knows it, empty where it does not."""
    try:
        return describe(corpus).licence
    except EmodartsError:
        return ""


def check_clips(folders: Mapping[str, AudioFolder], wanted: Counter[str]) -> None:
    """Raise EmodartsError for a folder of which no recording could be taken; `wanted`: their number by corpus."""
    for name, folder in folders.items():
        refused = sum(map(len, folder.refused.values()))
        if wanted[name] and refused == wanted[name]:
            reason, paths = next(iter(folder.refused.items()))
            raise EmodartsError(
                f"--audio {folder.root}: none of {refused} recordings of {name} can be taken, the first, {paths[0]}, "
                f"is {reason}: name the folder that has the sweep's recordings"
            )


def encode_audio(samples: Samples, rate: int) -> tuple[bytes, str]:
    """Samples as a small file, and its kind: Ogg with Opus, or FLAC."""
    sink = io.BytesIO()
    if "OPUS" in soundfile.available_subtypes("OGG"):
        soundfile.write(sink, samples, rate, format="OGG", subtype="OPUS")
        return sink.getvalue(), "ogg"
    soundfile.write(sink, samples, rate, format="FLAC", subtype="PCM_16")
    return sink.getvalue(), "flac"


def _outline(sound: Samples) -> str:
    """The waveform, as high as its peak: the largest samples of each column, then the smallest ones, back."""
    size = -(-len(sound) // _COLUMNS)
    columns = np.pad(sound, (0, -len(sound) % size)).reshape(-1, size) / max(float(np.abs(sound).max()), 1e-9)
    top, bottom = -columns.max(1), -columns.min(1)
    width = _COLUMNS / len(columns)
    points = [*enumerate(top), *reversed(list(enumerate(bottom)))]
    return "M" + "L".join(f"{x * width:.0f} {y:.2f}" for x, y in points) + "z"


def _attention_path(start: float, end: float, weights: NDArray[np.float32], seconds: float) -> str:
    """Weights from `start` to `end` (s) of a recording, as high as their largest."""
    x = _COLUMNS * np.linspace(start, end, len(weights)) / seconds
    heights = 1 - 2 * weights / max(float(weights.max()), 1e-9)
    line = "L".join(f"{a:.1f} {b:.2f}" for a, b in zip(x, heights, strict=True))
    return f"M{x[0]:.1f} 1L{line}L{x[-1]:.1f} 1z"


def _picture(sound: Samples) -> str:
    """The log-mel spectrogram as a PNG, time to the right, low frequencies at the bottom."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    levels = log_mel(sound)
    shades = colormaps["magma"](1 - np.clip((levels - levels.max()) / _LOWEST, 0, 1), bytes=True)
    sink = io.BytesIO()
    imsave(sink, np.ascontiguousarray(shades[..., :3].swapaxes(0, 1)[::-1]), format="png")
    return f"data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()}"


def log_mel(sound: Samples) -> NDArray[np.float32]:
    """Levels (dB) `(frames, bins)` of samples at 16 kHz: 64 bins, 25 ms, every 10 ms; of long ones fewer frames."""
    import torch
    from torchaudio.transforms import MelSpectrogram

    hop = max(160, -(-len(sound) // 600))
    transform = MelSpectrogram(_RATE, n_fft=1024, win_length=400, hop_length=hop, n_mels=64)
    with torch.no_grad():
        powers = transform(torch.from_numpy(np.ascontiguousarray(sound, np.float32)))
    return np.asarray(10 * torch.log10(powers + 1e-10).T.numpy(), np.float32)
