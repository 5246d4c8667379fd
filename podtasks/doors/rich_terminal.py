"""What is drawn on a terminal: the only importer of rich, which knows its width and honours NO_COLOR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal


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


def open_bar(title: str, size_bytes: int, told: str) -> tuple[Any, Any]:
    """Draw a progress bar on standard error and return it with its task, to be updated with `completed` and `told`."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        refresh_per_second=5,
    )
    bar.start()
    return bar, bar.add_task(title, total=size_bytes or 1, told=told)
