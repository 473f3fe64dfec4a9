"""What ended a command, as a JSON object for scripts, beside the line for people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kithara_actors.command.explain import CommandError, explain
from kithara_actors.command.text import write_json
from kithara_actors.errors import KitharaError
from kithara_actors.logic.naming import redact

__all__ = ["told_in_json"]


@contextlib.contextmanager
def told_in_json(source: str | None) -> Iterator[None]:
    """Writes what is raised inside as an object with the event `failed`, and lets it go on; for None it does nothing.

    Wrong usage, signals, and a reader of the output who has gone are not told.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (CommandError, OSError, KitharaError) as error:
        if source is not None:
            write_json(_as_json(source, error))
        raise


def _as_json(source: str, error: Exception) -> dict[str, object]:
    cause = error.__cause__ if isinstance(error, CommandError) and error.__cause__ is not None else error
    # Errors of the library have one text for each cause; the line for people adds the place and the remedy.
    message = str(cause) if isinstance(cause, KitharaError) else explain(error)
    return {
        "event": "failed",
        "url": redact(source),
        "error": type(cause).__name__,
        "status": cause.status if isinstance(cause, KitharaError) else None,
        "message": message,
    }
