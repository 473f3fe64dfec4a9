"""In what a transfer can be when it is cancelled, and the server that keeps it there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benches.hanging_lookup import HANGS
from benches.machine import children
from benches.servers import Authority

__all__ = ["PHASES", "Origin", "Phase", "Transfer"]


@dataclass(frozen=True, slots=True)
class Phase:
    """`path` is the origin's word for it, where a request gets there. `body`: bytes are coming."""

    name: str
    path: str = ""
    secure: bool = False
    body: bool = False

    @property
    def busy(self) -> bool:
        """The origin sends as fast as it can."""
        return self.path in ("full", "chunked")

    @property
    def connected(self) -> bool:
        """The origin can see the end of the connection."""
        return self.path not in ("", "backoff") or self.name == "TLS handshake"


PHASES = (
    Phase("queued"),
    Phase("lookup"),
    Phase("connect"),
    Phase("TLS handshake"),
    Phase("no header yet", "headers"),
    Phase("in the header", "header"),
    Phase("backoff", "backoff"),
    Phase("slow body", "trickle", body=True),
    Phase("slow body, TLS", "trickle", secure=True, body=True),
    Phase("fast body", "full", body=True),
    Phase("fast body, TLS", "full", secure=True, body=True),
    Phase("fast body, chunks", "chunked", body=True),
)


@dataclass(slots=True)
class Transfer:
    """One of those that are cancelled. Times of CLOCK_MONOTONIC in seconds."""

    number: int
    phase: Phase
    url: str
    seen_as: str
    """What the origin calls it."""
    cancelled_at: float = 0.0
    call_seconds: float = 0.0
    """How long the call itself took."""
    gone: list[float | None] = field(default_factory=list)
    """Of each of its connections, when the origin saw the end of it."""
    ended: list[float] = field(default_factory=list)
    """When each of its ends was told; there has to be one."""

    @property
    def name(self) -> str:
        return f"transfer {self.number} ({self.phase.name})"


class Origin:
    """The processes of `cancel_origin.py`, for at most `transfers` at once; ended by `close`.

    Not `nice`, it competes for the processors with whom it serves.

    `folder` is where hanging lookups leave their names.
    """

    def __init__(self, authority: Authority, folder: Path, transfers: int, *, nice: bool = True) -> None:
        script = Path(__file__).with_name("cancel_origin.py")
        self._process = subprocess.Popen(
            [sys.executable, script, authority.certificate, str(transfers), "19" if nice else "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout
        self._folder = folder
        self._ports: dict[str, Any] = self._read()
        self._syns = self._connecting()
        self.pids = [self._process.pid, *children(self._process.pid)]

    def close(self) -> None:
        self._orders.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def transfers(self, phases: Sequence[Phase]) -> list[Transfer]:
        """One of each phase given, numbered; forgets those of before."""
        self._ask("forget")
        for file in self._folder.iterdir():
            file.unlink()
        self._syns = self._connecting()
        return [self._transfer(number, phase) for number, phase in enumerate(phases)]

    def missing(self, transfers: Sequence[Transfer]) -> list[Transfer]:
        """Those that are not in their phase yet, as far as servers, resolver and kernel can say."""
        clients = self._ask("report")
        syns = self._connecting() - self._syns
        absent = []
        for transfer in transfers:
            match transfer.phase.name:
                case "queued" | "backoff":
                    there = True
                case "lookup":
                    there = (self._folder / transfer.seen_as).exists()
                case "connect":
                    syns -= 1
                    there = syns >= 0
                case _:
                    mine = [each for each in clients if each["number"] == transfer.seen_as]
                    there = bool(mine) and (not transfer.phase.body or mine[0]["pours"])
            if not there:
                absent.append(transfer)
        return absent

    def collect(self, transfers: Sequence[Transfer]) -> bool:
        """Note for each transfer when its connections ended; whether all have, and no connect goes on."""
        ends: dict[str, list[float | None]] = {}
        for client in self._ask("report"):
            ends.setdefault(client["number"], []).append(client["gone"])
        for transfer in transfers:
            transfer.gone = ends.get(transfer.seen_as, []) if transfer.phase.connected else []
        return self._connecting() <= self._syns and not any(None in transfer.gone for transfer in transfers)

    def _ask(self, order: str) -> list[dict[str, Any]]:
        self._orders.write(order.encode() + b"\n")
        self._orders.flush()
        told: list[dict[str, Any]] = self._read()
        return told

    def _read(self) -> Any:
        line = self._answers.readline()
        if not line:
            raise SystemExit("the origin of this benchmark has ended; its standard error says why")
        return json.loads(line)

    def _transfer(self, number: int, phase: Phase) -> Transfer:
        ports = self._ports
        seen_as = str(number)
        match phase.name:
            case "lookup":
                seen_as = f"{number}{HANGS}"
                url = f"http://{seen_as}/x/{number}"
            case "connect":
                url = f"http://127.0.0.1:{ports['deaf']}/x/{number}"
            case "TLS handshake":
                seen_as = str(ports["silent"][number])
                url = f"https://127.0.0.1:{seen_as}/x/{number}"
            case _:
                scheme, port = ("https", ports["secure"]) if phase.secure else ("http", ports["plain"])
                url = f"{scheme}://127.0.0.1:{port}/{phase.path or 'headers'}/{number}"
        return Transfer(number, phase, url, seen_as)

    def _connecting(self) -> int:
        """Sockets of this machine in SYN-SENT towards the deaf port."""
        port = f":{self._ports['deaf']:04X}"
        lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        return Counter(fields[2].endswith(port) and fields[3] == "02" for fields in lines)[True]
