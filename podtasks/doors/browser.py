"""The user's web browser."""

from __future__ import annotations

import webbrowser


def open_page(url: str) -> bool:
    """Show a page in the user's browser; return whether there is one that could be started."""
    try:
        return webbrowser.open(url)
    except (webbrowser.Error, OSError):
        return False
