"""Pages made of a template: where Jinja is loaded, and what is said where it is missing."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from loopwise.errors import MissingExtraError

try:
    from jinja2 import Environment, StrictUndefined
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("jinja2", "markupsafe"):
        raise
    raise MissingExtraError(
        f"--report needs {error.name}, which is not installed: pip install 'loopwise[report]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def render_template(
    package: str, name: str, filters: Mapping[str, Callable[..., Any]], /, **values: object
) -> str:
    """Return a page made from a template that lies in a package; every value is escaped.

    Parameters
    ----------
    package : str
        Such as ``loopwise.service``.
    name : str
        Of the template's file.
    filters : mapping of str to callable
        What the template calls beside Jinja's own filters.
    **values
        What the template is given; a name that it uses and that is not here is an error.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters)
    template = environment.from_string(files(package).joinpath(name).read_text("utf-8"))
    return template.render(**values)
