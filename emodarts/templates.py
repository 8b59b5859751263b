"""Pages and cards from Jinja templates, which stand beside the code of their room."""

from collections.abc import Callable, Mapping
from typing import Any

from emodarts.console import printable


def render_template(package: str, template: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """A template of a package (`"emodarts.audit", "page.html.j2"`) with these filters and values.

    In HTML all values are escaped, in other formats the filters have to. The filter `shown` is `printable`. Raises
    jinja2.UndefinedError for a name that the template uses and nobody gave.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"shown": printable, **filters}
    return environment.get_template(template).render(**values)
