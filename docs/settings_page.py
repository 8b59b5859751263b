"""Writes docs/settings.md from the declarations of the settings: `python docs/settings_page.py`."""

import inspect
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from emodarts.settings import default_of, describe_bounds  # noqa: E402
from sweeps.settings_help import meaning_of, parts, spell  # noqa: E402

PAGE = ROOT / "docs" / "settings.md"
_HEAD = """# Settings

<!-- Written by `python docs/settings_page.py` from the declarations of the settings: change these. -->

`python sweeps/run.py search.nodes=3 sweep.trials=20` changes what these tables list; values out of range are refused
before anything starts. Files of `sweeps/conf` set several at once, in the place of these defaults: `corpus=iemocap`,
`features=mfcc`, `search=paper`, `sweep=reduced`. `python sweeps/run.py corpus=iemocap --help` lists every setting with
its value there.
"""


def settings_page() -> str:
    """The text of docs/settings.md."""
    lines, title = [_HEAD], ""
    for prefix, declaring, settings in parts():
        if title != (title := prefix.rstrip(".") or "general"):
            lines += [f"## {title}", ""]
        introduction = inspect.cleandoc(declaring.__doc__ or "").split("\n\n")[0]
        lines += [introduction, "", "| setting | default | allowed | meaning |", "|---|---|---|---|"]
        for declared in settings:
            words = (describe_bounds(declared, prefix.rstrip(".")), meaning_of(declared, prefix))
            bounds, meaning = (text.replace("|", "\\|") for text in words)
            lines.append(f"| `{prefix}{declared.name}` | `{spell(default_of(declared))}` | {bounds} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(settings_page())
