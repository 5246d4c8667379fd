"""Results as tables and bars on standard output.

On a terminal they fit its width; elsewhere they are plain lines, whole, with two spaces between columns, for
grep and awk. Colours only on a terminal, and not where NO_COLOR is set.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from podtasks.doors.console import printable, wrap, write_result

BAR = "\u2588"
PLAIN_BAR = "#"
PLAIN_BAR_COLUMNS = 40
GAP = 2
# A shortened text below this says nothing any more.
LEAST_SHRUNK = 12
# And a name below this, which is shortened that far only when nothing else is left.
LEAST_NAME = 7


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        title: what stands above it.
        may_shrink: its texts may be shortened where the table is too wide for the terminal.
        keeps_ends: its texts are names or paths, which are told apart by their ends: they are whole while there is
            another column to shorten or leave out, and then shortened in the middle.
        may_drop: it is left out where that is not enough; the last one goes first.
    """

    title: str
    align: Literal["left", "right"] = "left"
    may_shrink: bool = False
    keeps_ends: bool = False
    may_drop: bool = False


def write_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, marked: int | None = None) -> None:
    """Print rows of texts under the columns' titles; `marked` is the row that stands out, bold on a terminal.

    A mark that everybody must see belongs into a row's text: plain lines have no bold.
    """
    cleaned = [[printable(text).replace("\n", " ") for text in row] for row in rows]
    if sys.stdout.isatty():
        from podtasks.doors.rich_terminal import print_table

        width = shutil.get_terminal_size().columns
        fit = _fit(columns, cleaned, width)
        if _whole_width(fit) > width:
            _write_records(columns, cleaned, width)
            return
        told = [(columns[n].title, columns[n].align, columns[n].may_shrink) for n in fit]
        short = [[_shorten(row[n], width, columns[n]) for n, width in fit.items()] for row in cleaned]
        print_table(told, short, marked)
        return
    titles = [column.title for column in columns]
    widths = [max(map(len, texts)) for texts in zip(titles, *cleaned, strict=True)]
    for row in [titles, *cleaned]:
        cells = zip(row, widths, columns, strict=True)
        line = "  ".join(f"{text:>{width}}" if c.align == "right" else f"{text:<{width}}" for text, width, c in cells)
        write_result(line.rstrip())


def _write_records(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> None:
    """Print each row as lines of title and text: half a number would be a wrong one."""
    titles = max(len(column.title) for column in columns)
    for row in rows:
        for column, text in zip(columns, row, strict=True):
            write_result(wrap(f"{column.title:<{titles}}  {text}", width))


def _fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> dict[int, int]:
    """Return the columns that are shown in a terminal of this width, by their numbers, each with its own width."""
    fit = {n: max([len(column.title), *(len(row[n]) for row in rows)]) for n, column in enumerate(columns)}
    least = {n: min(each, max(LEAST_SHRUNK, len(columns[n].title))) for n, each in fit.items() if columns[n].may_shrink}
    for number in reversed(range(len(columns))):
        if _whole_width({**fit, **least}) <= width:
            break
        if columns[number].may_drop:
            fit.pop(number)
            least.pop(number, None)
    _shrink(fit, least, width)
    for least_name in (LEAST_SHRUNK, LEAST_NAME):
        _shrink(fit, {n: min(fit[n], least_name) for n in fit if columns[n].keeps_ends}, width)
    return fit


def _shrink(fit: dict[int, int], least: Mapping[int, int], width: int) -> None:
    """Make columns narrower, the one that can give most first, until all fit or each is at its least."""
    while _whole_width(fit) > width and any(fit[n] > least[n] for n in least):
        fit[max(least, key=lambda n: fit[n] - least[n])] -= 1


def _whole_width(widths: dict[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _shorten(text: str, width: int, column: Column) -> str:
    mark = "\u2026" if can_print("\u2026") else "~"
    if len(text) <= width:
        return text
    behind = (width - 1) * 2 // 3 if column.keeps_ends else 0
    return text[: width - 1 - behind] + mark + text[len(text) - behind :]


def write_bars(rows: Sequence[tuple[str, float, str]]) -> None:
    """Print a bar for each (label, value, text of the value); the longest fills the width."""
    most = max((value for _, value, _ in rows), default=0.0)
    label_columns = max((len(label) for label, _, _ in rows), default=0)
    text_columns = max((len(text) for _, _, text in rows), default=0)
    columns = _bar_columns(label_columns + text_columns)
    block = BAR if can_print(BAR) else PLAIN_BAR
    for label, value, text in rows:
        length = round(value / most * columns) if most > 0 else 0
        bar = block * (max(length, 1) if value > 0 else 0)
        write_result(f"{printable(label):<{label_columns}}  {text:>{text_columns}}  {bar}".rstrip())


def write_lines(lines: Sequence[str]) -> None:
    """Print lines; those too long for the terminal are broken at words, under the column where their text begins."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines:
        write_result(wrap(printable(line), columns))


def _bar_columns(taken: int) -> int:
    if not sys.stdout.isatty():
        return PLAIN_BAR_COLUMNS
    return max(10, shutil.get_terminal_size().columns - taken - 5)


def can_print(text: str) -> bool:
    """Return whether standard output's encoding has these letters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
