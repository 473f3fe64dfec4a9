"""`kithara play`: listen to URLs and files while they download."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from kithara_actors.command.explain import CommandError
from kithara_actors.command.interrupts import Interrupts
from kithara_actors.command.player.keys import Key, Keyboard
from kithara_actors.command.player.screen import make_screen
from kithara_actors.command.room import room_of
from kithara_actors.command.settings import request_headers, system_settings
from kithara_actors.system import ActorSystem

if TYPE_CHECKING:
    from kithara_actors.command.player.engine import Player
    from kithara_actors.command.player.outputs import Output
    from kithara_actors.command.player.tracks import Playing, Track

__all__ = ["run"]

_SEEK = {Key.BACK: -10.0, Key.FORWARD: 10.0, Key.FAR_BACK: -60.0, Key.FAR_FORWARD: 60.0}
"""Seconds."""
_WAV_SUFFIXES = (".wav", ".wave")


def run(options: argparse.Namespace, interrupts: Interrupts) -> int:
    """Play what `options` name; 1 if a track failed, else 0. Blocks; call it from the main thread.

    Raises CommandError, KitharaError, OSError, Interrupted, BrokenPipeError, and argparse.ArgumentTypeError for wrong
    usage; nothing is left behind then, and the terminal is as it was.
    """
    headers = request_headers(options)
    output = _output(options)
    # After the output, which says in the user's words what is missing.
    from kithara_actors.command.player.engine import Player
    from kithara_actors.command.player.playlist import tracks_of

    with room_of(system_settings(options)) as room, ActorSystem.start(**room.settings) as system:
        with interrupts.armed():
            tracks = tracks_of(system, options.sources, headers)
            _spare_sources(options.output, options.sources, tracks)
        screen = make_screen(tracks, quiet=options.quiet)

        def ended(playing: Playing) -> None:
            screen.ended(playing)
            room.tidy()

        player = Player(system, tracks, output, headers, screen.failed, screen.started, ended)
        keyboard = Keyboard(lambda key: _press(player, key), screen.hide, screen.show, listen=options.output != "-")
        with screen.watch(player.now, lambda: keyboard.active), keyboard, interrupts.armed():
            failed = player.run()
    return 1 if failed else 0


def _output(options: argparse.Namespace) -> Output:
    _need("av", "play decodes sound with PyAV")
    if options.output is None and not options.null:
        _need("miniaudio", "play reaches the sound device with miniaudio")
    from kithara_actors.command.player.outputs import device_output, null_output, wav_output
    from kithara_actors.command.player.tracks import SOUND_SUFFIXES

    if options.null:
        return null_output()
    if options.output is None:
        return device_output(options.backend)
    if options.output == "-" and sys.stdout is not None and sys.stdout.isatty():
        raise argparse.ArgumentTypeError("-o - would write sound to the terminal: hand it on with |, or name a file")
    suffix = Path(options.output).suffix.lower()
    if suffix not in _WAV_SUFFIXES and SOUND_SUFFIXES.fullmatch(suffix):
        raise argparse.ArgumentTypeError(f"--output writes WAV and not {suffix[1:]}: name it FILE.wav")
    return wav_output(options.output)


def _spare_sources(output: str | None, sources: Iterable[str], tracks: Iterable[Track]) -> None:
    """Raises CommandError where `output` would replace what is to be played, or a playlist that names it."""
    if output is None or output == "-":
        return
    # Devices and pipes are not replaced.
    target = Path(os.path.realpath(output))
    if not target.is_file():
        return
    named = [os.path.expanduser(source) for source in sources]  # noqa: PTH111 - "~" may name the home of nobody
    paths = [*named, *(track.source for track in tracks)]
    if any(os.path.realpath(path) == str(target) for path in paths if "://" not in path and "\0" not in path):
        raise CommandError(f"{output} is one of the sources: name another file with --output")


def _need(module: str, why: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError:
        raise CommandError(f"{why}, which is not installed: pip install 'kithara-actors[play]'") from None


def _press(player: Player, key: Key) -> None:
    match key:
        case Key.PAUSE:
            player.toggle_pause()
        case Key.NEXT:
            player.next_track()
        case Key.PREVIOUS:
            player.previous_track()
        case Key.QUIT:
            player.quit()
        case _:
            player.seek_by(_SEEK[key])
