"""Results as tables and bars on standard output.

On a terminal they fit its width; elsewhere they are plain lines, whole, with two spaces between columns, for
grep and awk. Colours only on a terminal, and not where NO_COLOR is set.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from podtasks.doors.console import printable, write_result

BAR = "\u2588"
PLAIN_BAR = "#"
PLAIN_BAR_COLUMNS = 40


@dataclass(frozen=True)
class Column:
    """A column: its title, how it is aligned, and whether its text may be shortened where it is too wide."""

    title: str
    align: Literal["left", "right"] = "left"
    may_shrink: bool = False


def write_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, marked: int | None = None) -> None:
    """Print rows of texts under the columns' titles; `marked` is the row that stands out, bold on a terminal.

    A mark that everybody must see belongs into a row's text: plain lines have no bold.
    """
    cleaned = [[printable(text).replace("\n", " ") for text in row] for row in rows]
    if sys.stdout.isatty():
        from podtasks.doors.rich_terminal import print_table

        print_table([(c.title, c.align, c.may_shrink) for c in columns], cleaned, marked)
        return
    titles = [column.title for column in columns]
    widths = [max(map(len, texts)) for texts in zip(titles, *cleaned, strict=True)]
    for row in [titles, *cleaned]:
        cells = zip(row, widths, columns, strict=True)
        line = "  ".join(f"{text:>{width}}" if c.align == "right" else f"{text:<{width}}" for text, width, c in cells)
        write_result(line.rstrip())


def write_bars(rows: Sequence[tuple[str, float, str]]) -> None:
    """Print a bar for each (label, value, text of the value); the longest fills the width."""
    most = max((value for _, value, _ in rows), default=0.0)
    label_columns = max((len(label) for label, _, _ in rows), default=0)
    text_columns = max((len(text) for _, _, text in rows), default=0)
    columns = _bar_columns(label_columns + text_columns)
    block = BAR if _can_print(BAR) else PLAIN_BAR
    for label, value, text in rows:
        length = round(value / most * columns) if most > 0 else 0
        bar = block * (max(length, 1) if value > 0 else 0)
        write_result(f"{printable(label):<{label_columns}}  {text:>{text_columns}}  {bar}".rstrip())


def _bar_columns(taken: int) -> int:
    if not sys.stdout.isatty():
        return PLAIN_BAR_COLUMNS
    import shutil

    return max(10, shutil.get_terminal_size().columns - taken - 5)


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
