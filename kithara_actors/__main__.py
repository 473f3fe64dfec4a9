"""`python -m kithara_actors`: the command, for where its script is not on the path."""

from __future__ import annotations

import signal
import sys

__all__: list[str] = []

if __name__ == "__main__":
    # Until the command takes Ctrl-C over, it just ends the process: nothing has been begun, no traceback helps.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from kithara_actors.cli import main

    sys.exit(main())
