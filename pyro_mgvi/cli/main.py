"""The command line; nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from pyro_mgvi import errors
from pyro_mgvi.cli import INTERRUPTED
from pyro_mgvi.cli.arguments import parser as arguments_parser
from pyro_mgvi.cli.arguments import path
from pyro_mgvi.support.launched import launched
from pyro_mgvi.support.output import lasting_output

#: Settings that the command line calls by another name.
CALLED = {"max_epochs": "epochs", "covariate_keys": "covariate_key", "label_key": "labels"}
CALLED |= {"feature_masks": "feature_mask", "modalities": "modality"}
OF_A_FIT = ("drop_empty", "round_counts")  # said of a model that is to be built, wherever
SETTING = re.compile(
    r"(?<![\w'\".-])(?:plan\.)?([a-z_]+)(?:=(True|'[^']*'|\.\.\.|\w+))?(?![\w'(=\[])"
)
FILES = (".h5ad", ".h5", ".h5mu", ".zarr")  # endings of words that are no columns of obs


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    It is 2 for bad input, with one line on stderr, and 130 after a Ctrl-C, or what a scheduler
    sends in its place (SIGTERM).
    """
    with lasting_output(), _terminated_as_interrupted():
        return _main(argv)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does: what was learnt is kept, and nothing half done is left.

    Not of one of several processes: when one dies, torchrun ends the others in this way, which wait
    for it and could learn nothing more.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or launched().n_ranks > 1:
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _main(argv: Sequence[str] | None) -> int:
    parser = arguments_parser()
    arguments = parser.parse_args(argv)
    arguments.command = shlex.join(["pyro-mgvi", *(sys.argv[1:] if argv is None else argv)])
    if arguments.run == "fit":
        _inputs_after_columns(parser, arguments)
    try:
        from pyro_mgvi.cli import commands  # takes seconds to import

        with warnings.catch_warnings():
            warnings.showwarning = partial(_show, arguments)
            return commands.COMMANDS[arguments.run](arguments)
    except errors.MGVIError as error:
        print(f"pyro-mgvi: {_as_options(str(error), arguments)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pyro-mgvi: interrupted; nothing is written but what is named above", file=sys.stderr)
        return INTERRUPTED


def _inputs_after_columns(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Take words after --group-key for IN, where it was written behind them.

    Those at the end that are named like files; without any IN the last one, whatever it is called.
    """
    columns: list[str] = arguments.group_key
    words: list[str] = []
    while len(columns) > 1 and Path(columns[-1]).suffix.lower() in FILES:
        words.insert(0, columns.pop())
    if not (arguments.inputs or words):
        if len(columns) < 2:
            parser.error("the following arguments are required: IN")
        words.append(columns.pop())
    try:
        arguments.inputs += map(path, words)
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument IN: {error}")


def _as_options(text: str, arguments: argparse.Namespace) -> str:
    """Return what is said of settings in the words of a command, as far as it has them.

    Examples
    --------
    >>> given = argparse.Namespace(layer=None, group_key=["x"], drop_empty=False)
    >>> _as_options("group_key 'x': pass layer='counts', or drop_empty=True", given)
    "--group-key 'x': pass --layer counts, or --drop-empty"
    >>> _as_options("with other plan.max_epochs", argparse.Namespace(epochs=3))
    'with other --epochs'
    """

    def option(found: re.Match[str]) -> str:
        name, value = CALLED.get(found[1], found[1]), found[2]
        if (name not in arguments and name not in OF_A_FIT) or (
            value is None and "_" not in found[1]
        ):
            return found[0]  # a setting of Python alone, or a word
        more = "" if value in (None, "True") else " " + shlex.quote(value.strip("'"))
        return f"--{name.replace('_', '-')}{more}"

    return SETTING.sub(option, text)


def _show(
    arguments: argparse.Namespace,
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning of ours in one line, and others as Python does."""
    if category.__module__ == errors.__name__:
        print(f"pyro-mgvi: {_as_options(str(message), arguments)}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr)
