"""Audio headers: sample rate, channels and frames of a file, or the reason why it is of no use; never wrong numbers.

libsndfile shortens a cut WAV without a word and believes what a FLAC header says: here the file must agree with itself.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import soundfile

_RATES = (1_000, 768_000)  # Hz; anything else is a broken header
_MOST_CHANNELS = 64
_STREAMED = 0x7FFF0000  # WAV sizes from here on (and 0) stand for "unknown": the file was written to a pipe
_PLAIN = {1, 3, 6, 7}  # WAV codings with one sample in a whole number of bytes: PCM, float, A-law, mu-law
_PACKED = {2, 0x11, 0x31}  # ADPCM (two kinds) and GSM: libsndfile checks their block sizes itself
_MOST_CHUNKS = 1_000
_TAIL = 1 << 16  # bytes in which the last FLAC frame begins, at least

_FLAC_RATES = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
_FLAC_BITS = (0, 8, 12, -1, 16, 20, 24, 32)


@dataclass(frozen=True)
class Header:
    """What an audio file says of itself: sample rate in Hz, channels, frames (samples a channel)."""

    sample_rate: int
    channels: int
    frames: int


def read_header(path: Path) -> Header | str:
    """The header of an audio file, or the reason why the file is of no use."""
    try:
        if not path.is_file():
            return "no regular file" if path.exists() else "the file is missing"
        size = path.stat().st_size
        if size == 0:
            return "the file is empty"
        with path.open("rb") as file:
            start = file.read(32)
            if start.startswith(b"version https://git-lfs"):
                return "a git-LFS pointer, fetch it with git lfs pull"
            info = soundfile.info(str(path))
            header = Header(info.samplerate, info.channels, info.frames)
            return _implausible(header) or _contradiction(file, start, size, header) or header
    except soundfile.LibsndfileError as error:
        return f"cannot be read as audio: {str(error).rsplit(': ', 1)[-1]}"
    except (OSError, RuntimeError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _implausible(header: Header) -> str | None:
    if header.frames == 0:
        return "the file holds no samples"
    if not _RATES[0] <= header.sample_rate <= _RATES[1]:
        return f"its header is broken: a sample rate of {header.sample_rate} Hz"
    if not 1 <= header.channels <= _MOST_CHANNELS:
        return f"its header is broken: {header.channels} channels"
    return None


def _contradiction(file: BinaryIO, start: bytes, size: int, header: Header) -> str | None:
    """What in the file speaks against its header. OSError where it cannot be read."""
    if start[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return _wav(file, start, size, header)
    begin = 0
    if start[:3] == b"ID3":  # a tag before the sound
        begin = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True))
    file.seek(begin)
    return _flac(file, begin, size, header) if file.read(4) == b"fLaC" else None


def _wav(file: BinaryIO, start: bytes, size: int, header: Header) -> str | None:
    """A WAV must hold the samples that it promises, in blocks as large as channels and bits make them."""
    order = ">" if start[:4] == b"RIFX" else "<"
    coding, block, wide = 0, 0, None
    for name, at, length in _chunks(file, order, 12, size):
        if name == b"ds64" and start[:4] == b"RF64":
            file.seek(at + 8)
            wide = struct.unpack("<Q", file.read(8))[0]
        elif name == b"fmt ":
            file.seek(at)
            fields = file.read(min(length, 40))
            if len(fields) < 16:
                return "its header is broken: a short format chunk"
            coding, channels, rate, byte_rate, block, bits = struct.unpack(f"{order}HHIIHH", fields[:16])
            if coding == 0xFFFE and len(fields) >= 26:
                (coding,) = struct.unpack(f"{order}H", fields[24:26])
            if coding not in _PLAIN | _PACKED:
                return f"its samples are in coding {coding}, which is not read here: convert it to PCM"
            if coding in _PLAIN and block != channels * ((bits + 7) // 8):
                return f"its header contradicts itself: {channels} channels of {bits} bits in blocks of {block} bytes"
            if coding in _PLAIN and byte_rate not in (0, (rate * block) & 0xFFFFFFFF):
                return f"its header contradicts itself: {byte_rate} bytes a second, {rate} Hz in blocks of {block}"
        elif name == b"data":
            (form,) = struct.unpack(f"{order}I", start[4:8])
            promised = length if wide is None or length != 0xFFFFFFFF else wide
            if wide is None and length >= _STREAMED and (form in (0, 0xFFFFFFFF) or 0 <= form - length < 1 << 16):
                promised = max(0, size - at)
                promised -= promised % (block or 1)
                form = at + promised - 8
            return _wav_samples(file, order, at, promised, 8 + form, size, block if coding in _PLAIN else 0, header)
    return "its header is broken: no samples chunk"


def _wav_samples(
    file: BinaryIO, order: str, at: int, promised: int, form_end: int, size: int, block: int, header: Header
) -> str | None:
    """The samples must fill their chunk, and only chunks may follow; `block` 0: a coding without fixed blocks."""
    if promised > size - at:
        return f"the file is cut: its header promises {promised} bytes of samples, it has {max(0, size - at)}"
    if block and promised % block:
        return f"its header contradicts itself: {promised} bytes of samples in blocks of {block} bytes"
    if block and header.frames != promised // block:
        return f"its header contradicts itself: {promised // block} frames in the file, {header.frames} by the decoder"
    end = at + promised
    form_end = form_end if end <= form_end <= size else size  # sizes of the whole are often wrong
    if any(_chunks_fill(file, order, begin, form_end) for begin in (end + promised % 2, end)):  # not all writers pad
        return None
    return f"its header contradicts itself: {form_end - end} bytes after the samples are no chunk"


def _chunks_fill(file: BinaryIO, order: str, begin: int, end: int) -> bool:
    """Whether whole chunks, or nothing, lie between begin and end."""
    chunks = _chunks(file, order, begin, end)
    after = [at + length + length % 2 for _, at, length in chunks]
    return max(after, default=begin) >= end and all(at + length <= end for _, at, length in chunks)


def _chunks(file: BinaryIO, order: str, at: int, end: int) -> list[tuple[bytes, int, int]]:
    """(name, begin, length) of the chunks from `at` on, up to the first that has no proper name or is beyond `end`."""
    chunks: list[tuple[bytes, int, int]] = []
    while at + 8 <= end and len(chunks) < _MOST_CHUNKS:
        file.seek(at)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        if not all(32 <= byte < 127 for byte in name):
            break
        if name != b"data" and at + 8 + length > end:
            break
        chunks.append((name, at + 8, length))
        at += 8 + length + length % 2
    return chunks


def _flac(file: BinaryIO, begin: int, size: int, header: Header) -> str | None:
    """The first frame must be of the rate and channels of the header, the last one must end where it says."""
    kind, at, largest, blocksize, bits = 0, begin + 4, 0, 0, 0
    while not kind & 0x80:
        file.seek(at)
        block = file.read(4)
        if len(block) < 4:
            return "the file is cut: its header does not end"
        kind, length = block[0], int.from_bytes(block[1:], "big")
        if kind & 0x7F == 0:
            info = file.read(34)
            blocksize, largest = int.from_bytes(info[2:4], "big"), int.from_bytes(info[7:10], "big")
            bits = ((info[12] & 1) << 4 | info[13] >> 4) + 1
            if not int.from_bytes(info[13:18], "big") & 0xFFFFFFFFF:
                return "its header does not say how long it is: encode it anew"
        at += 4 + length
    file.seek(at)
    first = _flac_frame(file.read(16))
    if first is None:
        return "the file is cut or broken: no sound follows its header"
    promised = (header.channels, header.sample_rate, bits)
    decoded = (first[3], first[2] or header.sample_rate, first[4] or bits)
    if decoded != promised:
        kind_of = "{} channels at {} Hz and {} bits".format
        return f"its header contradicts itself: {kind_of(*promised)}, its sound is {kind_of(*decoded)}"
    file.seek(max(at, size - max(largest, _TAIL)))
    tail = file.read()
    position = len(tail)
    while (position := tail.rfind(b"\xff", 0, position)) >= 0:
        frame = _flac_frame(tail[position : position + 16])
        if frame and frame[2:] == first[2:]:
            number, length = frame[:2]
            samples = number if tail[position + 1] & 1 else number * blocksize  # variable or fixed blocks
            if samples + length == header.frames:
                return None
    return f"the file is cut, or its header is wrong: it promises {header.frames} samples, its sound does not end there"


def _flac_frame(data: bytes) -> tuple[int, int, int, int, int] | None:
    """(number, samples, rate or 0, channels, bits or 0) of a FLAC frame's header (RFC 9639, 9.1), or None."""
    if len(data) < 6 or data[0] != 0xFF or data[1] not in (0xF8, 0xF9) or data[3] & 1:
        return None
    size, rate, channels, bits = data[2] >> 4, data[2] & 15, data[3] >> 4, _FLAC_BITS[data[3] >> 1 & 7]
    if size == 0 or rate == 15 or channels > 10 or bits < 0:
        return None
    more = 7 - (data[4] ^ 0xFF).bit_length() if data[4] & 0x80 else 0  # bytes after the first, as in UTF-8
    number = data[4] & (0x7F >> (more + 1) if more else 0x7F)
    for byte in data[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    at = 5 + more
    width = {6: 1, 7: 2}.get(size, 0)
    samples = int.from_bytes(data[at : at + width], "big") + 1 if width else _flac_block(size)
    at += width
    width = {12: 1, 13: 2, 14: 2}.get(rate, 0)
    value = int.from_bytes(data[at : at + width], "big")
    hertz = value * {12: 1000, 13: 1, 14: 10}[rate] if width else _FLAC_RATES[rate]
    at += width
    if at >= len(data) or _crc8(data[:at]) != data[at]:
        return None
    return number, samples, hertz, channels + 1 if channels < 8 else 2, bits


def _flac_block(code: int) -> int:
    return 192 if code == 1 else 576 << (code - 2) if code < 6 else 256 << (code - 8)


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc
