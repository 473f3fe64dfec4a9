"""The command `kithara`. What went wrong is one line on the standard error; a traceback is a bug.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C, 141 the reader of the output went away, 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from kithara_actors.command.interrupts import Interrupted, Interrupts

__all__ = ["main"]

_EXAMPLES = """\
examples:
  kithara get https://example.org/album/01.flac
      save 01.flac here, with a progress bar
  kithara get -o song.mp3 --header 'Authorization: Bearer TOKEN' URL
      save it under another name, with credentials
  kithara get -o - URL | mpv -
      hand the bytes on while they arrive
  kithara get --json URL | jq -r 'select(.event == "done").path'
      one JSON object a line, for scripts
  kithara demo
      see the whole system at work: needs no network, takes about ten seconds
"""


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
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        status: int = options.run(options, interrupts)
    except argparse.ArgumentTypeError as error:
        with contextlib.suppress(SystemExit):
            options.parser.error(str(error))
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kithara",
        description="Progressive media download and playback over HTTP.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    get = commands.add_parser(
        "get",
        help="download a URL to a file",
        description="Download URL to FILE. The bytes go to FILE.part, renamed when complete; "
        "a download that fails or is stopped leaves neither.",
        allow_abbrev=False,
    )
    get.add_argument("url", metavar="URL", help="http:// or https:// URL")
    get.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where to; an existing file is replaced, - is the standard output "
        "(default: the last part of the URL's path, in the current directory)",
    )
    get.add_argument(
        "-H",
        "--header",
        metavar="'NAME: VALUE'",
        dest="headers",
        action="append",
        default=[],
        help="send this header with every request; may be given several times",
    )
    get.add_argument("--json", action="store_true", help="progress and result as JSON lines on the standard output")
    get.add_argument("-q", "--quiet", action="store_true", help="say nothing unless it fails")
    get.add_argument(
        "--retries",
        metavar="N",
        type=_count,
        default=6,
        help="attempts after one that failed, as long as none gets further (default: 6)",
    )
    get.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long an attempt may go without a byte (default: 30)",
    )
    get.add_argument("--workers", metavar="N", type=_workers, default=1, help="worker processes (default: 1)")
    get.add_argument("-k", "--insecure", action="store_true", help="accept any certificate of the server")
    get.set_defaults(run=_get, parser=get)

    demo = commands.add_parser(
        "demo",
        help="see the system play, seek, cancel and survive a kill, without a network",
        description="Make a recording, serve it slowly on this machine, play it while it downloads, seek ahead of "
        "the download, cancel another transfer, kill a worker process, and check that every byte is right.",
        allow_abbrev=False,
    )
    demo.add_argument("--json", action="store_true", help="print what happens as JSON lines")
    demo.set_defaults(run=_demo, parser=demo)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=settings.get("help"))

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        try:
            version = importlib.metadata.version("kithara-actors")
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"kithara {version}")
        parser.exit()


def _get(options: argparse.Namespace, interrupts: Interrupts) -> int:
    from kithara_actors.command.get import GetOptions, get

    return get(
        GetOptions(
            url=options.url,
            output=options.output,
            headers=tuple(options.headers),
            json=options.json,
            quiet=options.quiet,
            retries=options.retries,
            timeout=options.timeout,
            workers=options.workers,
            insecure=options.insecure,
        ),
        interrupts,
    )


def _demo(options: argparse.Namespace, interrupts: Interrupts) -> int:
    from kithara_actors.command.demo import demo

    return demo(interrupts, json=options.json)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, not {text!r:.40}")
    return int(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 64, not {text!r:.40}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text!r:.40}")
    return seconds


def _say(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            # Text from a server may hold anything; one line is promised.
            print("kithara:", " ".join(text.split()), file=sys.stderr, flush=True)


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
