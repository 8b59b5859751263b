"""The small corpora that reference units learn from: written anew each time, the same bytes each time."""

from pathlib import Path

from tests.reference import product
from tests.support.layouts import crema_d, iemocap, savee, tess
from tests.support.layouts.audio import write_voice

_CLASSES = ("angry", "happy", "neutral", "sad")
_TAKES = 2


def write_all(folder: Path) -> None:
    """All corpora in `folder/corpora`, and the weights of an encoder."""
    corpora = folder / "corpora"
    _write_mini(corpora / "mini")
    iemocap.write_corpus(corpora / "iemocap", junk=False)
    savee.write_corpus(corpora / "savee", junk=False)
    tess.write_corpus(corpora / "tess", junk=False)
    crema_d.write_corpus(corpora / "crema_d", junk=False)
    product.write_encoder(folder / "encoder.pt")


def _write_mini(root: Path) -> None:
    """8 speakers x 4 classes x 2 takes of 0.3 to 0.7 s, with a table of file, speaker, gender and label."""
    lines = ["file,speaker,gender,label"]
    for speaker in range(8):
        for label in _CLASSES:
            for take in range(_TAKES):
                file = f"s{speaker}_{label}_{take}.wav"
                write_voice(root / file, label, f"s{speaker}", take, seconds=0.3 + 0.1 * ((speaker + 2 * take) % 5))
                lines.append(f"{file},s{speaker},{'female' if speaker % 2 else 'male'},{label}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
