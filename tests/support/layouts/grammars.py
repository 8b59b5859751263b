"""Names that a grammar allows, drawn from its patterns; and a second, naive interpreter of grammars that knows no `re`.

The patterns are taken apart by the parser of the standard library; what they mean is spelt out here, letter by letter.
"""

import re
import string
from functools import cache
from re import _constants as codes
from re import _parser as parser

DIGITS = string.digits
WORD = string.ascii_letters + DIGITS + "_"


@cache
def parse(pattern):
    return parser.parse(pattern, re.ASCII)


def draw(pattern, rng, groups=()):
    """A path that the pattern allows. `groups` gives the text of some of its groups."""
    tree = parse(pattern)
    names = {number: name for name, number in tree.state.groupdict.items()}
    for _ in range(200):
        texts = {}
        path = _draw(tree, rng, names, dict(groups), texts)
        if re.fullmatch(pattern, path, re.ASCII):  # lookaheads are not drawn, but checked
            return path
    return None


def _draw(tree, rng, names, groups, texts):
    parts = []
    for kind, value in tree:
        if kind is codes.LITERAL:
            parts.append(chr(value))
        elif kind is codes.ANY:
            parts.append(rng.choice("abcdé"))
        elif kind is codes.IN:
            parts.append(rng.choice(_letters(tuple(value))))
        elif kind is codes.BRANCH:
            parts.append(_draw(rng.choice(value[1]), rng, names, groups, texts))
        elif kind is codes.SUBPATTERN:
            number, _, _, inside = value
            text = groups.get(names.get(number)) or _draw(inside, rng, names, groups, texts)
            texts[number] = text
            parts.append(text)
        elif kind in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            least, most, inside = value
            for _ in range(rng.randint(least, min(most, least + 2))):
                parts.append(_draw(inside, rng, names, groups, texts))
        elif kind is codes.GROUPREF:
            parts.append(texts[value])
        else:
            assert kind in (codes.ASSERT, codes.ASSERT_NOT), kind
    return "".join(parts)


@cache
def _letters(items):
    letters = []
    for kind, value in items:
        if kind is codes.LITERAL:
            letters.append(chr(value))
        elif kind is codes.RANGE:
            letters += [chr(code) for code in range(value[0], value[1] + 1)]
        else:
            assert value in (codes.CATEGORY_DIGIT, codes.CATEGORY_WORD), value
            letters += DIGITS if value is codes.CATEGORY_DIGIT else WORD
    return letters


def match(pattern, path):
    """The texts of the named groups where the pattern is the whole path, else None."""
    tree = parse(pattern)
    names = {number: name for name, number in tree.state.groupdict.items()}
    for end, texts in _match(list(tree), path, 0, {}):
        if end == len(path):
            return {names[number]: text for number, text in texts.items() if number in names}
    return None


def _match(items, path, at, texts):
    """All ends, with the groups' texts, of what the items can be from a place on; the first found first."""
    if not items:
        yield at, texts
        return
    (kind, value), rest = items[0], items[1:]
    for end, inner in _match_item(kind, value, path, at, texts):
        yield from _match(rest, path, end, inner)


def _match_item(kind, value, path, at, texts):
    letter = path[at : at + 1]
    if kind is codes.LITERAL:
        if letter == chr(value):
            yield at + 1, texts
    elif kind is codes.ANY:
        if letter and letter != "\n":
            yield at + 1, texts
    elif kind is codes.IN:
        if letter and letter in _letters(tuple(value)):
            yield at + 1, texts
    elif kind is codes.BRANCH:
        for branch in value[1]:
            yield from _match(list(branch), path, at, texts)
    elif kind is codes.SUBPATTERN:
        number, _, _, inside = value
        for end, inner in _match(list(inside), path, at, texts):
            yield end, inner if number is None else {**inner, number: path[at:end]}
    elif kind in (codes.MAX_REPEAT, codes.MIN_REPEAT):
        yield from _repeat(list(value[2]), value[0], value[1], path, at, texts)
    elif kind is codes.GROUPREF:
        if path.startswith(texts[value], at):
            yield at + len(texts[value]), texts
    else:
        direction, inside = value
        width = inside.getwidth()[0]
        place = at if direction > 0 else at - width
        seen = place >= 0 and any(direction > 0 or end == at for end, _ in _match(list(inside), path, place, texts))
        if seen == (kind is codes.ASSERT):
            yield at, texts


def _repeat(items, least, most, path, at, texts):
    if most > 0:
        for end, inner in _match(items, path, at, texts):
            if end > at:
                yield from _repeat(items, max(least - 1, 0), most - 1, path, end, inner)
    if least == 0:
        yield at, texts


def lower(text):
    return "".join(chr(ord(letter) + 32) if "A" <= letter <= "Z" else letter for letter in text)


def truth(content, path):
    """What a grammar's content says of a path without suffix: the row's fields, or None where it is no utterance."""
    *folders, name = [lower(part) if content.get("ignore_case") else part for part in path.split("/")]
    name = content.get("misspelt", {}).get(name, name)
    for pattern in content["paths"]:
        depth = pattern.count("/")
        groups = match(pattern, "/".join([*folders[len(folders) - depth :], name]))
        if groups is None:
            continue
        values = {group: content.get("codes", {}).get(group, {}).get(text, text) for group, text in groups.items()}
        fields = {column: values.get(column) for column in ("text", "scenario", "session", "recording", "split")}
        template, utterance = content.get("utterance", "{stem}"), ""
        for part in re.split(r"(\{\w+\})", template):
            utterance += ({"stem": name, **values}[part[1:-1]] or "") if part.startswith("{") else part
        word = values.get("emotion")
        gender = content.get("gender")
        speaker = values.get("speaker", content.get("speaker"))
        if isinstance(gender, dict) and "odd" in gender:
            gender = gender["odd" if speaker[-1] in "13579" else "even"]
        elif isinstance(gender, dict):
            gender = {who: which for which, people in gender.items() for who in people}.get(speaker)
        return {**fields, "utterance": utterance, "speaker": speaker, "gender": values.get("gender") or gender} | {
            "intended": word if content.get("label") != "perceived" else None,
            "perceived": word if content.get("label") == "perceived" else None,
        }
    return None
