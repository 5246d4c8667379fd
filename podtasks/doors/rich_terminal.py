"""What is drawn on a terminal: the only importer of rich, which knows its width and honours NO_COLOR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

# Beside a title: files, size and time left; with a bar of ten columns and the rate as well.
MEDIUM_COLUMNS = 44
WIDE_COLUMNS = 66


def print_table(
    columns: Sequence[tuple[str, Literal["left", "right"], bool]],
    rows: Sequence[Sequence[str]],
    marked: int | None,
) -> None:
    """Print a table on standard output; each column is its title, its side, and whether it may be shortened."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, (title, align, may_shrink) in enumerate(columns):
        widest = max([len(title), *(len(row[number]) for row in rows)])
        table.add_column(
            title, justify=align, no_wrap=True, overflow="ellipsis", min_width=None if may_shrink else widest
        )
    for number, row in enumerate(rows):
        table.add_row(*(Text(text) for text in row), style="bold" if number == marked else None)
    Console(highlight=False).print(table)


def _bar_columns(columns: int) -> list[Any]:
    """Return what is told beside a bar's title in so many columns: a line that wraps would be drawn over and over."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.table import Column

    whole = Column(no_wrap=True)
    title, files = TextColumn("{task.description}"), TextColumn("{task.fields[told]}", table_column=whole)
    # The rate and the time left that rich would tell begin with what was there before, and end when one file is slow.
    size, left = DownloadColumn(table_column=whole), TextColumn("{task.fields[left]}", table_column=whole)
    if columns < MEDIUM_COLUMNS:
        return [files, size]
    if columns < WIDE_COLUMNS:
        return [title, files, size, left]
    return [title, BarColumn(), files, size, TextColumn("{task.fields[rate]}", table_column=whole), left]


def open_bar(title: str, size_bytes: int, *, told: str, rate: str, left: str) -> tuple[Any, Any]:
    """Draw a progress bar on standard error and return it with its task.

    To be updated with `completed` in bytes and the texts `told` (files), `rate` and `left`.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    bar = Progress(*_bar_columns(console.width - len(title)), console=console, refresh_per_second=5)
    bar.start()
    return bar, bar.add_task(title, total=size_bytes, told=told, rate=rate, left=left)
