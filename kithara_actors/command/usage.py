"""What may be written on the command line. Knows nothing of what the commands do: naming them costs no import."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from kithara_actors.command.text import write_line

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ["parser"]

_EXAMPLES = """\
examples:
  kithara play https://example.org/album/01.flac
      listen to it while it downloads; space pauses, arrows seek, q quits
  kithara get https://example.org/album/01.flac
      save 01.flac here, with a progress bar
  kithara get -o - URL | mpv -
      hand the bytes on while they arrive
  kithara get --json URL | jq -r 'select(.event == "done").path'
      one JSON object a line, for scripts
  kithara probe URL
      what it is, from its first kilobytes
  kithara get --events log.jsonl URL; kithara tail log.jsonl
      what happened inside, request by request
  kithara demo
      see the whole system at work: needs no network, takes about ten seconds

exit status:
  0 done, 1 failed, 2 wrong usage, 129 the terminal was closed, 130 Ctrl-C, 141 the reader of the output went away,
  143 SIGTERM
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line. Parsed options name their command in `command` and its parser in `parser`."""
    whole = _Parser(
        prog="kithara",
        description="Progressive media download and playback over HTTP.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--version", action=_Version, help="print the version and exit")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    _get(commands)
    _play(commands)
    _probe(commands)
    _doctor(commands)
    _demo(commands)
    _tail(commands)
    _trace(commands)
    return whole


_CHOICE = re.compile(r"invalid choice: (['\"])(.*)\1 \(choose from", re.DOTALL)
_VALUE = re.compile(r"ignored explicit argument .*", re.DOTALL)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Without the secrets of a URL that came to a wrong place, or the value of an option that has none."""
        # Loaded only by one who has something to complain about.
        from kithara_actors.logic.naming import redact_source, redact_text

        message = _CHOICE.sub(lambda found: f"invalid choice: {redact_source(found[2])!r} (choose from", message)
        super().error(redact_text(_VALUE.sub("it takes no value", message)))

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Raises OSError where the standard output is full: argparse would drop the text and end with 0."""
        if file is None:
            write_line(self.format_help().rstrip())
        else:
            super().print_help(file)


def _get(commands: Any) -> None:
    get = _command(
        commands,
        "get",
        "download a URL to a file",
        "Download URL to FILE. The bytes go to FILE.part, renamed when complete; a download that fails or is stopped "
        "leaves neither.",
    )
    get.add_argument("url", metavar="URL", help="http:// or https:// URL")
    get.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where to; an existing file is replaced, - is the standard output "
        "(default: the last part of the URL's path, in the current directory)",
    )
    get.add_argument("--json", action="store_true", help="progress and result as JSON lines on the standard output")
    get.add_argument(
        "--events",
        metavar="FILE",
        help="write what happens inside to FILE, one JSON object a line, for kithara tail; - is the standard output",
    )
    get.add_argument("-q", "--quiet", action="store_true", help="say nothing unless it fails")
    _network(get)


def _play(commands: Any) -> None:
    play = _command(
        commands,
        "play",
        "listen to URLs and files while they download",
        "Play each SOURCE: a URL, a file, or a playlist (M3U) of these. In a terminal space pauses, left and right "
        "seek by 10 s, down and up by 60 s, n and p change the track, q quits.",
    )
    play.add_argument("sources", metavar="SOURCE", nargs="+", help="http(s) URL, path, or an M3U playlist at either")
    where = play.add_mutually_exclusive_group()
    where.add_argument(
        "-o", "--output", metavar="FILE.wav", help="write the sound to a WAV file, as fast as it can be had"
    )
    where.add_argument("--null", action="store_true", help="decode and drop the sound, as fast as it can be had")
    where.add_argument(
        "--backend",
        metavar="NAME",
        help="sound system: pulseaudio, alsa, jack, oss, or null, which takes the time that playing takes "
        "(default: the first that works)",
    )
    play.add_argument("-q", "--quiet", action="store_true", help="say nothing unless it fails")
    _network(play)


def _probe(commands: Any) -> None:
    probe = _command(
        commands,
        "probe",
        "say what a URL or a file is, from its first kilobytes",
        "Length, codec, container, duration and tags of SOURCE, and what its server can do.",
    )
    probe.add_argument("source", metavar="SOURCE", help="http(s) URL or path")
    probe.add_argument("--json", action="store_true", help="one JSON object on the standard output")
    _network(probe)


def _doctor(commands: Any) -> None:
    doctor = _command(
        commands,
        "doctor",
        "check this machine and say what to do",
        "Look at limits, memory, cache, workers, sound, proxies, settings and versions. Status 1 if one is broken.",
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object on the standard output")
    _settings(doctor)


def _demo(commands: Any) -> None:
    demo = _command(
        commands,
        "demo",
        "see the system play, seek, cancel and survive a kill, without a network",
        "Make a recording, serve it slowly on this machine, play it while it downloads, seek ahead of "
        "the download, cancel another transfer, kill a worker process, and check that every byte is right.",
    )
    demo.add_argument(
        "--chaos", action="store_true", help="crash actors and kill workers instead, while it plays and downloads"
    )
    demo.add_argument("--json", action="store_true", help="print what happens as JSON lines")


def _tail(commands: Any) -> None:
    tail = _command(
        commands,
        "tail",
        "show a file of events in words",
        "Show the events in FILE, as written by get --events, one a line. Status 1 if FILE has lines that are none.",
    )
    tail.add_argument("file", metavar="FILE", help="what to read; - is the standard input")
    tail.add_argument("-f", "--follow", action="store_true", help="wait for more, until Ctrl-C")
    tail.add_argument(
        "--request",
        metavar="N",
        dest="requests",
        action="append",
        default=[],
        type=_count,
        help="only what concerns this request; may be given several times",
    )
    tail.add_argument(
        "--kind",
        metavar="NAME",
        dest="kinds",
        action="append",
        default=[],
        help="only events of this class, such as RequestFailed; may be given several times",
    )


def _trace(commands: Any) -> None:
    trace = _command(
        commands,
        "trace",
        "show what a system has put on record, or have it decided again",
        "Show the decisions in FILE, which a system with the setting record has written. With --replay feed what was "
        "given to the same logic again: status 1 and the first difference if it decides otherwise.",
    )
    trace.add_argument("file", metavar="FILE", help="a trace")
    trace.add_argument("--request", metavar="N", type=_count, help="only what concerns this request")
    trace.add_argument(
        "--actor",
        metavar="NAME",
        action="append",
        default=[],
        help="only this actor's, or 'source-*' for those of all sources; may be given several times",
    )
    trace.add_argument("--until", metavar="SEQ", type=_count, help="up to this frame; with --replay show the states")
    trace.add_argument("--replay", action="store_true", help="decide it again, and compare")
    trace.add_argument("--json", action="store_true", help="JSON lines on the standard output")


def _command(commands: Any, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)
    made.set_defaults(parser=made)
    return made


def _network(command: argparse.ArgumentParser) -> None:
    """How to ask: for every command that opens URLs. What is not given is left to the settings, and is None."""
    command.add_argument(
        "-H",
        "--header",
        metavar="'NAME: VALUE'",
        dest="headers",
        action="append",
        default=[],
        help="send this header with every request; may be given several times",
    )
    command.add_argument(
        "--retries",
        metavar="N",
        type=_count,
        help="attempts after one that failed; counted anew when 64 KiB have landed since (default: 6)",
    )
    command.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        help="how long an attempt may go without a byte (default: 30)",
    )
    command.add_argument("--workers", metavar="N", type=_workers, help="worker processes (default: 1)")
    command.add_argument("-k", "--insecure", action="store_true", help="accept any certificate of the server")
    _settings(command)


def _settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", metavar="FILE", help="read settings from FILE (default: kithara.toml here and in the user's folder)"
    )


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=settings.get("help"))

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        try:
            version = importlib.metadata.version("kithara-actors")
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        write_line(f"kithara {version}")
        parser.exit()


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
