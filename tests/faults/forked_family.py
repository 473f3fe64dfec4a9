"""A program that forks while its actors run: what the child finds is printed, and the parent goes on.

forked_family.py once       one fork, with a report
forked_family.py races N    N forks while other threads send, restart and ask without a pause
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pykka
from family_kit import CODEC, Actor, Fail, Log, Note

from actors import ActorGoneError, ChildSpec, Intensity, RestartType, Supervisor, SupervisorSpec
from actors.actor.address import Address

LONG = 20.0


def specs(count: int) -> list[ChildSpec]:
    return [ChildSpec(name=f"{at}", make=lambda: Actor(Log())) for at in range(count)]


def in_child(root: Supervisor, addresses: list[Address]) -> list[str]:
    """What is wrong in the child; all of it has to end at once."""
    wrong = []
    signal.alarm(10)  # hang limit: the default action ends the child, which the parent sees
    for address in addresses:
        if address.tell(Note(1)):
            wrong.append("a tell was taken")
        try:
            address.ask(Note(1), LONG)
            wrong.append("an ask was answered")
        except ActorGoneError as error:
            if "forked" not in str(error) and "not found" not in str(error):
                wrong.append(f"the error does not say why: {error}")
        except pykka.ActorDeadError:
            pass
        if address.alive or address._ref.stop(block=True, timeout=LONG):
            wrong.append("an actor seems to live")
    if pykka.ActorRegistry.get_all() or pykka.ActorRegistry.stop_all(timeout=LONG):
        wrong.append("the registry is not empty")
    if root.health().state != "failed" or root.children() or root.names():
        wrong.append("the supervisor seems to have children")
    try:
        root.add(specs(1)[0])
        wrong.append("a child was started")
    except RuntimeError:
        pass
    middle = root.supervisor("middle")
    if middle is not None or root.terminate("0") or not root.wait(LONG) or root.stop(LONG):
        wrong.append("the supervisor does not know that it is over")
    signal.alarm(0)
    return wrong


def reap(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def once() -> None:
    middle = SupervisorSpec(name="middle", children=(ChildSpec(name="a", make=lambda: Actor(Log())),))
    with Supervisor("root", CODEC, children=[*specs(10), middle]) as root:
        addresses = [address for at in range(10) if (address := root.address(f"{at}")) is not None]
        pid = os.fork()
        if pid == 0:
            wrong = in_child(root, addresses)
            print("child:", wrong or "all is dead", flush=True)
            sys.exit(3 if wrong else 0)  # through the with statement, and every exit handler
        print("child ended:", reap(pid))
        answers = [address.ask(Note(1), LONG) for address in addresses]
        print("parent:", len(answers), root.health().state)
        addresses[0].tell(Fail("ValueError"))
        print("restarted:", addresses[0].ask(Note(1), LONG) is not None)
        print("stopped:", root.stop(LONG))


def races(count: int) -> None:
    """The locks of mailboxes, supervisors, registry and events may all be held at the moment of a fork."""
    sys.setswitchinterval(1e-6)
    over = threading.Event()
    with Supervisor("root", CODEC, children=specs(4), intensity=Intensity(10_000_000)) as root:
        addresses = [address for at in range(4) if (address := root.address(f"{at}")) is not None]

        def send() -> None:
            while not over.is_set():
                for address in addresses:
                    address.tell(Note(1))
                addresses[0].ask(Note(2), LONG)
                root.children()

        def come_and_go() -> None:
            at = 0
            while not over.is_set():
                at += 1
                spec = ChildSpec(name=f"x{at}", make=lambda: Actor(Log()), restart=RestartType.TEMPORARY)
                address = root.add(spec)
                address.ask(Note(3), LONG)
                root.terminate(f"x{at}")

        threads = [threading.Thread(target=send), threading.Thread(target=come_and_go)]
        for thread in threads:
            thread.start()
        bad = 0
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                os._exit(3 if in_child(root, addresses) else 0)
            bad += reap(pid) != 0
        over.set()
        for thread in threads:
            thread.join(LONG)
    print("bad:", bad)


if __name__ == "__main__":
    # From Python 3.12 on a fork with threads warns: that is what is tried here.
    warnings.simplefilter("ignore", DeprecationWarning)
    if sys.argv[1] == "once":
        once()
    else:
        races(int(sys.argv[2]))
