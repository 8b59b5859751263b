"""The audit as one HTML page that needs nothing else: no scripts, no network."""

from emodarts.audit.model import Audit
from emodarts.templates import render_template


def render_page(audit: Audit) -> str:
    """The page as text. Everything from the corpus (names of files, speakers, words) is escaped."""
    return render_template(
        "emodarts.audit",
        "page.html.j2",
        {"number": "{:,}".format, "figure": _figure},
        audit=audit,
        worst=audit.worst_severity(),
        nan=float("nan"),
        percent=lambda part, whole: 100 * part / whole if whole else 0.0,
    )


def _figure(value: float, digits: int = 2) -> str:
    """A number with so many digits after the point, small ones in powers of ten; a dash for none."""
    if value != value:
        return "–"
    if value and abs(value) < 10**-digits:
        return f"{value:.1e}"
    return f"{value:,.{digits}f}"
