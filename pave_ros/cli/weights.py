"""`pave_ros weights list | download | path`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pave_ros.cli.console import out, print_error, wide

if TYPE_CHECKING:
    from pave_ros.checkpoints.files import WeightsFile

app = typer.Typer(
    help="Published weights: what is known, fetch it, find it.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def weights_list() -> None:
    """Show the published weights, with their size, licence and checksum where known, and what is here already."""
    from rich.table import Table

    from pave_ros.checkpoints import files

    table = Table(box=None, header_style="bold")
    for column in ("file", "model", "keypoints", "size", "SHA-256", "here"):
        table.add_column(column, no_wrap=True)
    for row in files.WEIGHTS:
        size = row.path.stat().st_size if row.cached else row.size
        known = (f"{size / 1e6:.1f} MB" if size else "?", row.sha256[:7] if row.sha256 else "?")
        table.add_row(row.name, row.model, row.skeleton, *known, "yes" if row.cached else "no")
    wide().print(table)
    for address, page, licence in dict.fromkeys(
        (row.url.removesuffix(row.name), "" if row.url else row.page, row.licence) for row in files.WEIGHTS
    ):
        origin = f"from {address}" if address else f"come with the package, see {page}"
        out.print(f"licence {licence}, {origin}", soft_wrap=True, highlight=False)
    try:
        kept = f"kept in {files.cache_dir()}"
    except RuntimeError as error:
        kept = str(error)
    out.print(kept, soft_wrap=True, highlight=False)


@app.command()
def download(
    names: Annotated[list[str], typer.Argument(help="Files or models, or all.", metavar="NAMES")],
) -> None:
    """Fetch published weights into the cache; what an interrupted download left is continued."""
    from pave_ros.checkpoints import files

    failed = False
    for row in files.WEIGHTS if names == ["all"] else [_known(name) for name in names]:
        try:
            print(files.download(row))
        except files.WeightsError as error:  # The others may be there.
            print_error(str(error))
            failed = True
    if failed:
        raise typer.Exit(1)


@app.command()
def path(name: Annotated[str, typer.Argument(help="File or model.")]) -> None:
    """Print where a downloaded file lies."""
    row = _known(name)
    if not row.cached:
        raise FileNotFoundError(f"{row.path} is not there yet; `pave_ros weights download {row.name}` fetches it")
    print(row.path)


def _known(name: str) -> WeightsFile:
    from pave_ros.checkpoints import files

    row = files.find(name)
    if row is None:
        raise ValueError(f"no published weights named {name!r}; `pave_ros weights list` shows them")
    return row
