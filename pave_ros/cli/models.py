"""`pave_ros models`"""

from __future__ import annotations

from pave_ros.cli.console import wide


def models() -> None:
    """List the models side by side: size, arithmetic, time, accuracy, weights; docs/models.md explains the numbers."""
    from rich.table import Table

    from pave_ros import catalogue

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in catalogue.COLUMNS:
        table.add_column(column, no_wrap=True)
    for row in catalogue.rows():
        table.add_row(*row)
    console = wide()
    console.print(table)
    for name, system in catalogue.SYSTEMS.items():
        console.print(f"{name}: {system.title}. {system.good_for}", soft_wrap=True)
