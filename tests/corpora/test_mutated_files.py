"""Malformed file names and audio headers by a mutator that knows the truth: the right row, or a drop with a reason.

The truth of a name is taken apart here by position and by lists out of the published grammars, not by the readers'
patterns. The truth of a header is what was written before it was damaged.
"""

import io
import random
import struct

import numpy as np
import pytest
import soundfile

from emodarts import corpora
from emodarts.corpora.headers import Header, read_header
from emodarts.corpora.settings import CorpusSettings
from tests.support.names import GRAMMARS, mutated_names

NAMES = 250  # a corpus
WAVS, FLACS = 330, 170
AUDIO = ("wav", "flac", "mp3", "ogg")


@pytest.mark.parametrize("corpus_name", GRAMMARS)
def test_names(corpus_name, tmp_path):
    truth_of = GRAMMARS[corpus_name][0]
    sound = io.BytesIO()
    soundfile.write(sound, np.random.default_rng(0).normal(0, 0.1, 200), 16000, format="WAV", subtype="PCM_16")
    truths = {}
    for number, (folder, name) in enumerate(mutated_names(corpus_name, NAMES)):
        path = tmp_path / str(number) / folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(sound.getvalue())
        shown, dot, ending = path.name.rpartition(".")
        audio = dot and ending.lower() in AUDIO
        if audio:
            truth = None if path.name.startswith(".") else truth_of(shown, folder)
            truths[path.relative_to(tmp_path).as_posix()] = truth
    corpus = corpora.read(CorpusSettings(name=corpus_name, root=str(tmp_path)))
    rows = {row["path"]: row for row in corpus.utterances.to_pylist()}
    told = {row["path"]: row["reason"] for row in corpus.dropped.to_pylist()}
    assert {*rows, *told} == set(truths), "every audio file is a row or a drop, and nothing else is"
    assert not set(rows) & set(told)
    for path, row in rows.items():
        assert truths[path] is not None, f"{path} is no recording of {corpus_name}, but became {row['utterance']}"
        found = (row["utterance"], row["speaker"], row["gender"], row["text"], row["intended"])
        utterance, speaker, *rest = truths[path]
        assert found == (f"{corpus_name}/{utterance}", f"{corpus_name}/{speaker}", *rest), path
    ids = {f"{corpus_name}/{truth[0]}" for truth in truths.values() if truth}
    assert {row["utterance"] for row in rows.values()} == ids, "a right name is not dropped, but for a copy"
    for path, reason in told.items():
        assert truths[path] is None or reason.startswith("a copy of "), path
    assert 8 <= len(ids) <= NAMES * 0.7


def wav(rng, coding, channels, rate, bits, frames):
    """(bytes, offsets of the format chunk's and the samples' content) of a WAV with or without further chunks."""
    block = channels * bits // 8
    body = struct.pack("<HHIIHH", coding, channels, rate, rate * block, block, bits)
    if coding == 0xFFFE:
        body += struct.pack("<HHIH", 22, bits, 0, 1) + bytes.fromhex("000000001000800000aa00389b71")
    chunks = b"LIST" + struct.pack("<I", 7) + b"INFOabc\0" if rng.random() < 0.4 else b""
    chunks += b"fmt " + struct.pack("<I", len(body)) + body
    fmt = 12 + len(chunks) - len(body)
    chunks += b"fact" + struct.pack("<II", 4, frames) if coding == 3 else b""
    samples = rng.randbytes(frames * block)
    data = 12 + len(chunks) + 8
    chunks += b"data" + struct.pack("<I", len(samples)) + samples + b"\0" * (len(samples) % 2)
    chunks += b"LIST" + struct.pack("<I", 8) + b"INFOabcd" if rng.random() < 0.4 else b""
    return bytearray(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks), fmt, data


FIELDS = {"coding": (0, 2), "channels": (2, 2), "rate": (4, 4), "byte rate": (8, 4), "block": (12, 2), "bits": (14, 2)}
VALUES = (0, 1, 2, 3, 4, 6, 7, 8, 12, 16, 17, 24, 32, 64, 255, 8000, 44100, 65534, 65535, 0x7FFFFFFF, 0xFFFFFFFF)


def damage_wav(content, fmt, data, frames, block, rng):
    """Damage one thing; returns (what, bytes). None of these makes another sound file of the same samples."""
    kind = rng.choice([*FIELDS, "riff size", "data size", "cut", "bytes", "chunk", "magic", "fmt size", "tail"])
    out = bytearray(content)
    if kind in FIELDS:
        at, width = FIELDS[kind]
        value = rng.choice([*VALUES, rng.randrange(1 << 32)]) & ((1 << 8 * width) - 1)
        out[fmt + at : fmt + at + width] = value.to_bytes(width, "little")
    elif kind == "riff size":
        out[4:8] = struct.pack("<I", rng.choice([*VALUES, rng.randrange(len(out))]))
    elif kind == "data size":
        near = frames * block + rng.choice([-block, block, -1, 1, -2 * block, 4 * block])
        size = rng.choice([*VALUES, near, rng.randrange(frames * block), near])
        # samples up to the very end, or one byte more or less beside a byte of padding, would be another sound file
        if data + size >= len(out) - 1 or (block == 1 and abs(size - frames) == 1):
            size += 2 * block + 2
        out[data - 4 : data] = struct.pack("<I", size & 0xFFFFFFFF)
    elif kind == "cut":
        out = out[: rng.randrange(len(out))]
    elif kind == "bytes":
        for _ in range(rng.randint(1, 3)):
            out[rng.randrange(data)] = rng.randrange(256)
    elif kind == "chunk":
        size = rng.choice([0, 4, 5, 1000, 0xFFFFFFFF])
        junk = rng.choice([b"JUNK", b"\0\0\0\0", b"data", b"fmt "]) + struct.pack("<I", size) + rng.randbytes(4)
        at = rng.choice([12, data - 8])
        out[at:at] = junk
    elif kind == "magic":
        at = rng.choice([0, 8, fmt - 8, data - 8])
        out[at : at + 4] = rng.choice([b"RIFX", b"RF64", b"wave", b"fmt\0", b"DATA", b"fLaC", b"OggS", b"\0\0\0\0"])
    elif kind == "fmt size":
        out[fmt - 4 : fmt] = struct.pack("<I", rng.choice(VALUES))
    else:
        out += rng.choice([b"\0" * 3, b"TAG" + bytes(125), rng.randbytes(40)])
    return kind, bytes(out)


def test_wav_headers(tmp_path):
    rng = random.Random("wav headers")
    path, right, reasons = tmp_path / "x.wav", 0, set()
    for number in range(WAVS):
        coding, bits = rng.choice([(1, 16), (1, 16), (1, 24), (1, 8), (3, 32), (7, 8), (0xFFFE, 16)])
        truth = Header(rng.choice([8000, 16000, 24414, 44100, 48000]), rng.choice([1, 1, 2, 4]), rng.randint(20, 400))
        content, fmt, data = wav(rng, coding, truth.channels, truth.sample_rate, bits, truth.frames)
        path.write_bytes(content)
        assert read_header(path) == truth
        kind, damaged = damage_wav(content, fmt, data, truth.frames, truth.channels * bits // 8, rng)
        path.write_bytes(damaged)
        found = read_header(path)
        if isinstance(found, str):
            assert found
            reasons.add(found.split(":")[0])
        else:
            assert found == truth, f"number {number}: {kind}"
            right += 1
    assert 0.1 * WAVS < right < 0.7 * WAVS
    assert {"the file is cut", "its header contradicts itself", "cannot be read as audio"} <= reasons


def damage_flac(content, rng):
    kind = rng.choice(["rate", "channels", "bits", "total", "blocks", "frame sizes", "cut", "bytes", "first frame"])
    out = bytearray(content)
    packed = int.from_bytes(out[18:26], "big")
    for name, shift, width in (("rate", 44, 20), ("channels", 41, 3), ("bits", 36, 5), ("total", 0, 36)):
        if kind == name:
            old = packed >> shift & ((1 << width) - 1)
            value = rng.choice([0, 1, old // 2, old + 1, old - 1, 2 * old, rng.randrange(1 << width)])
            packed = packed & ~(((1 << width) - 1) << shift) | (value & ((1 << width) - 1)) << shift
            out[18:26] = packed.to_bytes(8, "big")
    if kind == "blocks":
        out[8:12] = rng.randbytes(4)
    elif kind == "frame sizes":
        out[12:18] = rng.choice([bytes(6), rng.randbytes(6), b"\xff" * 6])
    elif kind == "cut":
        out = out[: rng.choice([rng.randrange(len(out)), rng.randrange(60), len(out) - 1])]
    elif kind == "bytes":
        for _ in range(rng.randint(1, 3)):
            out[rng.randrange(26)] = rng.randrange(256)
    elif kind == "first frame":
        at = content.index(b"\xff\xf8")
        out[at + rng.randrange(8)] ^= 1 << rng.randrange(8)
    return kind, bytes(out)


def test_flac_headers(tmp_path):
    rng = random.Random("flac headers")
    path, right, reasons = tmp_path / "x.flac", 0, set()
    for number in range(FLACS):
        truth = Header(rng.choice([8000, 16000, 24414, 48000]), rng.choice([1, 2]), rng.choice([900, 4096, 5000, 9001]))
        sound = np.random.default_rng(number).normal(0, 0.1, (truth.frames, truth.channels))
        soundfile.write(path, sound, truth.sample_rate, subtype=rng.choice(["PCM_16", "PCM_24"]))
        content = path.read_bytes()
        assert read_header(path) == truth
        kind, damaged = damage_flac(content, rng)
        path.write_bytes(damaged)
        found = read_header(path)
        if isinstance(found, str):
            reasons.add(found.split(",")[0].split(":")[0])
        else:
            assert found == truth, f"number {number}: {kind}"
            right += 1
    assert 0.05 * FLACS < right < 0.7 * FLACS
    assert {"the file is cut", "its header contradicts itself", "its header does not say how long it is"} <= reasons


def test_there_are_enough():
    assert NAMES * len(GRAMMARS) + WAVS + FLACS >= 750
