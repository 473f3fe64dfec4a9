"""The command `kithara`. What went wrong is one line on the standard error; a traceback is a bug.

Exit status: 0 done, 1 failed, 2 wrong usage, 129 the terminal was closed, 130 Ctrl-C, 141 the reader of the output
went away, 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from kithara_actors.command.interrupts import Interrupted, Interrupts
from kithara_actors.command.text import clean, encodable
from kithara_actors.command.usage import parser

__all__ = ["main"]

_LONGEST = 4000


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Blocks until it is done; call it from the main thread."""
    import logging

    # The library's warnings would be further lines beside the one that says what went wrong.
    for name in ("actors", "kithara_actors", "pykka", "urllib3"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    with Interrupts() as interrupts:
        try:
            status = _run(argv, interrupts)
            for output in (sys.stdout, sys.stderr):
                if output is not None:
                    output.flush()
        except Interrupted as stop:
            return 128 + stop.signal
        except BrokenPipeError:
            _drop_output()
            return 128 + signal.SIGPIPE
        except Exception as error:  # noqa: BLE001 - whatever it is, the user gets a line
            from kithara_actors.command.explain import explain

            _say(explain(error))
            return 1
        # Asked to stop where stopping had to wait for its place.
        return 128 + interrupts.received if interrupts.received else status


def _run(argv: Sequence[str] | None, interrupts: Interrupts) -> int:
    try:
        options, unknown = parser().parse_known_args(argv)
        if unknown:
            # The command's own usage is shown: argparse would show that of the whole.
            options.parser.error(f"unrecognized arguments: {_unknown(unknown, options)}")
    except SystemExit as end:
        return int(end.code or 0)
    # One module a command, loaded only when it is asked for.
    command = importlib.import_module(f"kithara_actors.command.{options.command}")
    try:
        status: int = command.run(options, interrupts)
    except argparse.ArgumentTypeError as error:
        with contextlib.suppress(SystemExit):
            options.parser.error(str(error))
        return 2
    return status


def _unknown(arguments: Sequence[str], options: argparse.Namespace) -> str:
    """Arguments that no command takes. Values stay unsaid: a header without its quotes falls into pieces."""
    from kithara_actors.logic.naming import redact_source

    options_only = bool(getattr(options, "headers", None))
    shown = []
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if name.startswith("--"):
            shown.append(f"{name}=…" if equals else name)
        elif name.startswith("-") and name != "-":
            shown.append(name[:2])
        else:
            shown.append("…" if options_only else redact_source(argument))
    return " ".join(shown) + ("; a header is written in quotes: -H 'Name: value'" if "…" in shown else "")


def _say(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            # Text from a server may hold anything; one line is promised, and no terminal is to obey it.
            print("kithara:", encodable(clean(text, _LONGEST), sys.stderr), file=sys.stderr, flush=True)


def _drop_output() -> None:
    """Let the interpreter's last flush go nowhere: it would complain of the broken pipe again."""
    for output in (sys.stdout, sys.stderr):
        if output is None:
            continue
        try:
            output.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, output.fileno())
                os.close(nowhere)
