"""The program: its commands, and how errors end it."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Annotated

import typer

from deadtokens import __version__
from deadtokens.cli import (
    comparing,
    counting,
    diffing,
    fitting,
    inspecting,
    measuring,
    reporting,
    schemas,
    studying,
    surveying,
    sweeping,
    testing,
    theorizing,
    transferring,
)
from deadtokens.errors import DeadtokensError, plain
from deadtokens.listening import doing

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(inspecting.inspect)
app.command()(counting.census)
app.command()(measuring.measure)
app.command()(testing.independence)
app.command()(fitting.fit)
app.command()(sweeping.sample)
app.command()(sweeping.sweep)
app.command()(theorizing.theory)
app.command()(comparing.compare)
app.command()(reporting.report)
app.command()(studying.study)
app.command()(surveying.survey)
app.command()(diffing.diff)
app.command()(schemas.schema)
app.command()(studying.demo)

_debug = False


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deadtokens {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[  # noqa: ARG001 (its callback answers)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Which tokens of a language model are dead, and what do their vectors look like?"""
    global _debug
    _debug = debug
    transferring.listen_to_transfers()
    context.with_resource(doing(f"deadtokens {context.invoked_subcommand}"))


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {plain(' '.join(str(message).splitlines()))}", file=sys.stderr)  # noqa: T201


def run() -> None:
    """Run the program; bad input ends in one line on stderr and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _warn
    try:
        app()
    except DeadtokensError as error:
        if _debug:
            raise
        sys.exit(f"error: {plain(' '.join(str(error).splitlines()))}")
    except (MemoryError, OSError) as error:
        if _debug:
            raise
        sys.exit(
            f"error: {plain(str(error)) or 'out of memory'}; run again with --debug for details"
        )
