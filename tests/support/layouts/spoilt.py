"""Mutations of label files that know what must come out.

What a line says is the truth: a digit that makes another number of the scale, or a letter that makes another word,
cannot be known to be wrong. An attribute outside of its scale is unknown (None); a text that is no
number drops the line.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.support.layouts.label_forms import FORMS, Form, Row

SEEDS = 16
ATTRIBUTES = ("arousal", "valence", "dominance")
# among them what other programs take for line ends, digits or blanks
CHARACTERS = "aZ9F0M;,.:-_ \t\"'[](){}%#=\xe9\xdf\u0663\xbd\ufeff\x00\x1c\x0b\x0c\x85\u2028\U0001f600"
FOREIGN = ("a remark", "\u043d\u043e", "<<<<<<< HEAD", "\x00\x01\x02", ";;;;", ",,", "{}", "[", '"', "\U0001f600", "0")


@dataclass
class Expected:
    """Possible rows by turn (None: no row), the lines that must be dropped, or those that an error must name."""

    rows: dict[str, tuple[Row | None, ...]]
    dropped: tuple[int, ...] = ()
    error: tuple[int, ...] = ()


Case = tuple[bytes, Expected]
Mutation = Callable[[random.Random, Form], Case]


def pick(rng, form):
    """A turn, the number of its line from 0, and the line."""
    turn = rng.choice(sorted(form.at))
    return turn, form.at[turn], form.lines[form.at[turn]]


def all_true(form):
    return {turn: (row,) for turn, row in form.truth.items()}


def case(form, lines, rows=None, dropped=(), error=()):
    """The file of these lines; `rows` differ from the truth; lines in `dropped` and `error` count from 1."""
    expected = Expected({**all_true(form), **(rows or {})}, tuple(dropped), tuple(error))
    return ("\n".join(lines) + "\n").encode(), expected


def with_line(form, index, line):
    return [*form.lines[:index], line, *form.lines[index + 1 :]]


def with_field(form, index, name, text):
    """The lines with another text in a field of one line."""
    line = form.lines[index]
    start, end = form.pattern.fullmatch(line).span(name)
    return with_line(form, index, line[:start] + text + line[end:])


def spoil(rng, text):
    """The text with one character changed, deleted or doubled."""
    at, how = rng.randrange(len(text)), rng.choice(("change", "delete", "double"))
    middle = {"change": rng.choice([c for c in CHARACTERS if c != text[at]]), "delete": "", "double": text[at] * 2}[how]
    return text[:at] + middle + text[at + 1 :]


def spoilt_name(rng, form):
    turn, index, line = pick(rng, form)
    old = form.pattern.fullmatch(line)["name"]
    name = spoil(rng, old)
    for other, place in form.at.items():
        if name in (other, f"{other}.wav", form.pattern.fullmatch(form.lines[place])["name"]):
            return case(form, with_field(form, index, "name", name), error=(index + 1, place + 1))
    return case(form, with_field(form, index, "name", name), {turn: (None,)}, (index + 1,))


def number_of_another_turn(rng, form):
    first, second = rng.sample(sorted(form.at), 2)
    name = form.pattern.fullmatch(form.lines[form.at[second]])["name"]
    lines = with_field(form, form.at[first], "name", name)
    return case(form, lines, error=(form.at[first] + 1, form.at[second] + 1))


def name_without_audio(rng, form):
    turn, index, _ = pick(rng, form)
    return case(form, with_field(form, index, "name", form.other), {turn: (None,)}, (index + 1,))


def spoilt_word(rng, form):
    turn, index, line = pick(rng, form)
    old = form.pattern.fullmatch(line)["word"]
    word = spoil(rng, old)
    while word.strip(" \t\x0b\x0c") in form.words.split():  # blanks around a word do no harm
        word = spoil(rng, old)
    return case(form, with_field(form, index, "word", word), {turn: (None,)}, (index + 1,))


def another_word(rng, form):
    turn, index, _ = pick(rng, form)
    word = rng.choice(form.words.split())
    return case(form, with_field(form, index, "word", word), {turn: (replace(form.truth[turn], word=word),)})


def said(form, turn, name, text):
    """The possible rows where an attribute's field holds this text."""
    try:
        number = float(text)
    except ValueError:
        return (None,) if text.strip(" \t") else (replace(form.truth[turn], **{name: None}),)
    number = number if 1 <= number <= form.highest else None  # false for NaN
    if form.inverted and name == "arousal" and number is not None:
        number = 6 - number
    row = replace(form.truth[turn], **{name: number})
    usual = re.fullmatch(r"\d+(\.\d+)?|nan|inf", text, re.ASCII | re.IGNORECASE)
    return (row,) if usual else (row, None)  # such as .5, which need not be read


def attribute(form, turn, name, text):
    index, rows = form.at[turn], said(form, turn, name, text)
    return case(form, with_field(form, index, name, text), {turn: rows}, (index + 1,) if rows == (None,) else ())


def spoilt_attribute(rng, form):
    turn, _, line = pick(rng, form)
    name = rng.choice(ATTRIBUTES)
    text = spoil(rng, form.pattern.fullmatch(line)[name])
    return attribute(form, turn, name, text)


def odd_attribute(rng, form):
    texts = (
        "NaN",
        "nan",
        "inf",
        "-inf",
        "0.99",
        "9.5",
        "-3.0",
        "1e9",
        "7.01",
        "",
        "  ",
        "abc",
        "2,5",
        "2;5",
        "\u0663",
        "1_0",
        "0x2",
    )
    return attribute(form, pick(rng, form)[0], rng.choice(ATTRIBUTES), rng.choice(texts))


def missing_field(rng, form):
    turn, index, line = pick(rng, form)
    separator = {"iemocap": "\t", "msp_improv": ";"}.get(form.corpus, "," if form.path.endswith("csv") else ";")
    cells = line.split(separator)
    cells.pop(rng.randrange(len(cells) - (separator == ";")))
    return case(form, with_line(form, index, separator.join(cells)), {turn: (None,)}, (index + 1,))


def wrong_separator(rng, form):
    turn, index, line = pick(rng, form)
    separator = {"iemocap": "\t"}.get(form.corpus, "," if form.path.endswith("csv") else ";")
    line = line.replace(separator, rng.choice([c for c in ";,|:/" if c != separator]))
    return case(form, with_line(form, index, line), {turn: (None,)}, (index + 1,))


def other_blanks(rng, form):
    """Blanks beside separators, which say nothing."""
    _, index, line = pick(rng, form)
    blanks = rng.choice((" ", "  ", "\t", " \t "))
    if form.corpus == "iemocap":
        line = line.replace("\t", blanks) + blanks
    else:
        separator = "," if form.path.endswith("csv") else ";"
        line = line.replace(separator, separator + blanks)
    return case(form, with_line(form, index, line))


def exchanged_fields(rng, form):
    """Two fields of different kinds in each other's place."""
    turn, index, line = pick(rng, form)
    match = form.pattern.fullmatch(line)
    names = [name for name in match.groupdict() if name not in ("valence", "dominance", "time")]
    first, second = sorted(rng.sample(names, 2), key=match.start)
    (a, b), (c, d) = match.span(first), match.span(second)
    line = line[:a] + match[second] + line[b:c] + match[first] + line[d:]
    if line == form.lines[index] or match[first] == match[second]:
        return name_without_audio(rng, form)
    return case(form, with_line(form, index, line), {turn: (None,)}, (index + 1,))


def same_line_twice(rng, form):
    _, index, line = pick(rng, form)
    lines, place = list(form.lines), rng.choice([*form.at.values(), len(form.lines)])
    lines.insert(max(place, index + 1), line)
    return case(form, lines, dropped=(max(place, index + 1) + 1,))


def contradiction(rng, form):
    turn, index, _ = pick(rng, form)
    name, text = rng.choice(
        [("word", next(w for w in form.words.split() if w != form.truth[turn].word)), ("valence", "4.875")]
    )
    other = with_field(form, index, name, text)[index]
    return case(form, [*form.lines, other], error=(index + 1, len(form.lines) + 1))


def lines_in_other_order(rng, form):
    first, second = rng.sample(sorted(form.at.values()), 2)
    lines = list(form.lines)
    lines[first], lines[second] = lines[second], lines[first]
    return case(form, lines)


def cut_at_the_end(rng, form):
    """A file that ends within a turn's line."""
    _, index, line = pick(rng, form)
    kept = line[: rng.randrange(len(line))]
    gone = {other: (None,) for other, place in form.at.items() if place >= index}
    data = "\n".join([*form.lines[:index], kept]).encode()
    return data, Expected({**all_true(form), **gone}, (index + 1,) if kept.strip() else ())


def broken_line(rng, form):
    turn, index, line = pick(rng, form)
    at = rng.randrange(1, len(line) - 1)
    lines = [*form.lines[:index], line[:at], line[at:], *form.lines[index + 1 :]]
    return case(form, lines, {turn: (None,)}, (index + 1,))


def joined_lines(rng, form):
    """No line end between a turn's line and the next line with text."""
    _, index, _ = pick(rng, form)
    if index + 1 == len(form.lines):
        index -= 1
    lines = [*form.lines[:index], form.lines[index] + form.lines[index + 1], *form.lines[index + 2 :]]
    gone = {other: (None,) for other, place in form.at.items() if place in (index, index + 1)}
    return case(form, lines, gone, (index + 1,))


def bytes_that_are_no_text(rng, form):
    """Bytes that are not UTF-8, in a field that counts."""
    turn, index, line = pick(rng, form)
    match = form.pattern.fullmatch(line)
    name = rng.choice([n for n in match.groupdict() if n not in ("time", "speaker")])
    at = rng.randrange(*match.span(name))
    data, expected = case(
        form, with_line(form, index, f"{line[:at]}\x1a{line[at + 1 :]}"), {turn: (None,)}, (index + 1,)
    )
    return data.replace(b"\x1a", bytes([rng.randrange(0x80, 0x100)])), expected


def foreign_line(rng, form):
    lines, place = list(form.lines), rng.randrange(1, len(form.lines) + 1)
    text = "".join(rng.choice((rng.choice(FOREIGN), rng.choice(CHARACTERS.strip()))) for _ in range(3))
    lines.insert(place, f"~{text}")
    return case(form, lines, dropped=(place + 1,))


def harmless(rng, form):
    """Line ends, byte order marks, blank lines, a missing last line end: nothing is lost."""
    lines = list(form.lines)
    for _ in range(rng.randrange(3)):
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(("", " ", "\t ")))
    data = rng.choice(("\n", "\r\n", "\r")).join(lines).encode()
    return rng.choice((b"", b"\xef\xbb\xbf")) + data + rng.choice((b"", b"\n", b"\r\n\r\n")), Expected(all_true(form))


def another_encoding(rng, form):
    """UTF-16 and worse: no row at all."""
    data = "\n".join(form.lines).encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-16-be")))
    if form.path.endswith("csv"):
        return data[rng.randrange(3) :], Expected({}, error=(1,))  # its header cannot be read
    return data[rng.randrange(3) :], Expected(dict.fromkeys(form.truth, (None,)), (1,))


MUTATIONS: dict[str, tuple[Mutation, int]] = {
    "spoilt name": (spoilt_name, 3 * SEEDS),
    "number of another turn": (number_of_another_turn, 6),
    "name without audio": (name_without_audio, 3),
    "spoilt word": (spoilt_word, 2 * SEEDS),
    "another word": (another_word, SEEDS),
    "spoilt attribute": (spoilt_attribute, 5 * SEEDS),
    "odd attribute": (odd_attribute, 5 * SEEDS),
    "missing field": (missing_field, SEEDS),
    "wrong separator": (wrong_separator, SEEDS),
    "other blanks": (other_blanks, SEEDS),
    "exchanged fields": (exchanged_fields, SEEDS),
    "same line twice": (same_line_twice, SEEDS),
    "contradiction": (contradiction, 6),
    "lines in other order": (lines_in_other_order, 3),
    "cut at the end": (cut_at_the_end, 3 * SEEDS),
    "broken line": (broken_line, 2 * SEEDS),
    "joined lines": (joined_lines, 3),
    "bytes that are no text": (bytes_that_are_no_text, 2 * SEEDS),
    "foreign line": (foreign_line, 2 * SEEDS),
    "harmless": (harmless, 2 * SEEDS),
    "another encoding": (another_encoding, 8),
}


def cases(form_name, kind):
    """The cases of a kind, the same ones each time."""
    mutation, number = MUTATIONS[kind]
    rng = random.Random(f"{form_name}/{kind}")
    return [mutation(rng, FORMS[form_name]) for _ in range(number)]
