"""A page of docs/ with what a benchmark has recorded between two markers."""

from collections.abc import Sequence


def replace_between(text: str, begin: str, end: str, lines: Sequence[str]) -> str:
    """The page with these lines in the place of what stands between the markers. SystemExit where it has none."""
    head, _, rest = text.partition(begin)
    if not rest:
        raise SystemExit(f"the page has no line {begin}")
    return f"{head}{begin}\n" + "\n".join(lines) + f"\n{end}" + rest.partition(end)[2]
