"""MkDocs hook: ``:class:`Name``` of a docstring becomes plain code on the Python page."""

from __future__ import annotations

import re
from typing import Any

ROLE = re.compile(r":(?:py:)?(?:attr|class|func|meth|mod):(?=<code)")


def on_page_content(html: str, **_: Any) -> str:
    """The page without the names of roles."""
    return ROLE.sub("", html)
