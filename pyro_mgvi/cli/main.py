"""The command line; nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from pyro_mgvi import errors
from pyro_mgvi.cli.arguments import parser as arguments_parser

FILES = (".h5ad", ".h5", ".zarr")  # endings of words that are no columns of obs


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    It is 2 for bad input, with one line on stderr, and 130 after a Ctrl-C.
    """
    parser = arguments_parser()
    arguments = parser.parse_args(argv)
    if arguments.run == "fit":
        _inputs_after_columns(parser, arguments)
    from pyro_mgvi.cli import commands  # takes seconds to import

    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show
            return commands.COMMANDS[arguments.run](arguments)
    except errors.MGVIError as error:
        print(f"pyro-mgvi: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pyro-mgvi: interrupted; nothing is written but what is named above", file=sys.stderr)
        return commands.INTERRUPTED


def _inputs_after_columns(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Take words after --group-key for IN, where it was written behind them.

    Those at the end that are named like files; without any IN the last one, whatever it is called.
    """
    columns: list[str] = arguments.group_key
    inputs: list[Path] = []
    while len(columns) > 1 and Path(columns[-1]).suffix.lower() in FILES:
        inputs.insert(0, Path(columns.pop()))
    if not (arguments.inputs or inputs):
        if len(columns) < 2:
            parser.error("the following arguments are required: IN")
        inputs.append(Path(columns.pop()))
    arguments.inputs += inputs


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning of ours in one line, and others as Python does."""
    if category.__module__ == errors.__name__:
        print(f"pyro-mgvi: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr)
