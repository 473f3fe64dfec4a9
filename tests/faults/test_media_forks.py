"""F20 with the media system: a child of `os.fork` is told so at once, and its parent notices nothing of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host_kit import run

from kithara_actors.testing.origin import Fault, Origin, Resource

SIZE = 2_000_000


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with Origin() as origin:
        origin.add("/whole", Resource(SIZE, seed=1))
        origin.add("/slow", Resource(SIZE, seed=2, rate=1_000_000.0))
        origin.add("/stalls", Resource(SIZE, seed=3, always=Fault(stall_after=100_000)))
        yield origin.base


# In the parent: ten streams, one whose read blocks in a thread, a subscription, two workers.
START = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import pykka
from kithara_actors import ActorSystem, FetchCommand, SystemStopped
from kithara_actors.testing.origin_body import body

base = sys.argv[1]
system = ActorSystem.start(workers=2)
before = system.workers()
streams = [system.open(f"{base}/slow?{number}") for number in range(8)]
streams += [system.open(base + "/whole", subscribe=True), system.open(base + "/stalls")]
whole, stalled = streams[-2:]
assert whole.wait_complete(30) and whole.read(100)
assert all(stream.read(1000) for stream in streams[:8])
assert stalled.read_at(0, 100_000)
def block():
    try:
        stalled.read()
    except OSError:
        pass
blocked = threading.Thread(target=block, daemon=True)
blocked.start()
events = system.subscribe()
prefetches = [system.prefetch(f"{base}/slow?ahead={number}") for number in range(12)]

def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except SystemStopped:
        return True
    return False
"""

# Looks at everything: what is not refused at once hangs, and the program with it.
CHILD = """
wrong = []
calls = {
    "open": lambda: system.open(base + "/whole"),
    "open of a file": lambda: system.open(os.path.realpath(sys.executable)),
    "save": lambda: system.save(base + "/whole", os.environ["TMPDIR"] + "/saved"),
    "prefetch": lambda: system.prefetch(base + "/whole"),
    "execute": lambda: system.execute(FetchCommand.get(base + "/whole")),
    "subscribe": lambda: system.subscribe(),
    "workers": lambda: system.workers(),
    "stats": lambda: system.stats(),
    "health": lambda: system.health(),
    "wait": lambda: system.wait(),
}
for stream in streams:
    calls.update({
        f"read of {stream}": stream.read,
        f"read1 of {stream}": stream.read1,
        f"readinto of {stream}": lambda stream=stream: stream.readinto(bytearray(10)),
        f"read_at of {stream}": lambda stream=stream: stream.read_at(0, 10),
        f"peek of {stream}": stream.peek,
        f"next of {stream}": lambda stream=stream: next(stream),
        f"wait_complete of {stream}": stream.wait_complete,
        f"inspect of {stream}": stream.inspect,
        f"raise_for_error of {stream}": stream.raise_for_error,
    })
for number, handle in enumerate(prefetches):
    calls[f"wait of prefetch {number}"] = handle.wait
wrong = [name for name, call in calls.items() if not refused(call)]
assert list(events) == [] and events.get() is None and list(whole.events) == []
for stream in streams:
    assert isinstance(stream.error, SystemStopped)
    stream.length, stream.phase, stream.buffered, stream.media_info, stream.answer
    stream.play(), stream.pause(), stream.cancel(), stream.close(), stream.close()
for handle in prefetches:
    assert isinstance(handle.error, SystemStopped)
    handle.length, handle.phase, handle.buffered, handle.cancel(), handle.close()
events.close()
assert system.stop() == [] and system.stop(timeout=0) == []
assert not wrong, wrong
"""

# The parent has the bytes, the workers, the order of things that it had.
PARENT = """
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), system.workers() == before, blocked.is_alive())
for number, stream in enumerate(streams[:8]):
    assert stream.read(50_000) == body(2, 1000, 51_000)
    stream.close()
with system.open(base + "/whole?again") as stream:
    assert stream.read() == body(1, 0, len(stream.read_at(0, 3_000_000)))
assert prefetches[0].wait(30) and all(handle.error is None for handle in prefetches)
for handle in prefetches:
    handle.close()
stalled.cancel()
blocked.join(30)
whole.close()
assert events.get(30) is not None
print(system.workers() == before, system.stop(), pykka.ActorRegistry.get_all())
"""

ENDS = {
    "exits in order": ("sys.exit(5)", 5),
    "returns from main": ("", 0),
    "is gone at once": ("os._exit(6)", 6),
    "raises": ("sys.excepthook = lambda *_: None\nraise KeyError", 1),
}


def indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.strip().splitlines())


@pytest.mark.parametrize("end", ENDS)
def test_f20_child_is_refused_at_once_and_disturbs_nothing(base: str, end: str) -> None:
    last, status = ENDS[end]
    code = f"{START}\nchild = os.fork()\nif child == 0:\n{indented(CHILD + last)}else:\n{indented(PARENT)}"
    told = f"{status} True True\nTrue [] []\n"
    exit_code, output, errors = run(code, base, flags=("-X", "faulthandler"))
    assert (exit_code, output, errors) == (0, told, "")


def test_f20_parent_stops_while_its_child_lives(base: str) -> None:
    """The child has copies of the channels: that they are closed is not what ends the workers."""
    code = (
        START
        + """
ready, tell = os.pipe()
child = os.fork()
if child == 0:
    os.close(tell)
    os.read(ready, 1)
    os._exit(0)
left = system.stop()
alive = [pid for pid in before.values() if os.path.exists(f"/proc/{pid}")]
os.close(tell)
os.waitpid(child, 0)
for stream in streams:
    stream.close()
print(left, alive)
"""
    )
    assert run(code, base, flags=()) == (0, "[] []\n", "")


def test_f20_child_with_a_system_of_its_own(base: str) -> None:
    code = (
        START
        + """
child = os.fork()
if child == 0:
    with ActorSystem.start(workers=1) as own, own.open(base + "/whole") as stream:
        assert stream.read(100_000) == body(1, 0, 100_000)
        assert own.workers()
    assert refused(system.workers)
    os._exit(0)
"""
        + PARENT
    )
    assert run(code, base, flags=()) == (0, "0 True True\nTrue [] []\n", "")


def test_f20_fork_while_threads_hold_locks(base: str) -> None:
    """Forked at instants that nobody chose, with threads in the middle of everything."""
    code = (
        START
        + """
sys.setswitchinterval(1e-5)
end = threading.Event()
def work(number):
    while not end.is_set():
        with system.open(f"{base}/whole?{number}", subscribe=True) as stream:
            stream.seek(number * 1000)
            assert stream.read(1000) == body(1, number * 1000, number * 1000 + 1000)
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        import faulthandler
        faulthandler.dump_traceback_later(20, exit=True)
        ok = all(refused(stream.read) and refused(stream.read_at, 0, 10) for stream in streams) and refused(system.wait)
        for stream in streams:
            stream.play()
            stream.close()
        events.close()
        os._exit(7 if ok and system.stop() == [] else 8)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7, status
end.set()
for thread in threads:
    thread.join(30)
assert system.workers() == before
for stream in streams:
    stream.close()
events.close()
print(system.stop())
"""
    )
    assert run(code, base, flags=()) == (0, "[]\n", "")
