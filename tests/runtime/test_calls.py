"""WorkerCalls: functions in worker processes, with what may go wrong there."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import call_functions
import msgpack
import pytest
from call_kit import error, result
from hypothesis import example, given
from hypothesis import strategies as st
from pool_kit import descriptors, pid_is_gone, until

from actors.actor.calls import WorkerCalls, _rebuilt
from actors.actor.errors import WorkerLostError
from actors.errors import RemoteError
from actors.messages.calls import CALLS, VALUE_LIMIT, CallFailed
from actors.messages.codec import Codec
from actors.messages.control import FRAME_LIMIT
from actors.worker.calls import _failed

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def calls() -> Iterator[WorkerCalls]:
    with WorkerCalls(2) as made:
        yield made


def test_values_arrive_as_they_were_sent(calls: WorkerCalls) -> None:
    @given(st.lists(PLAIN, max_size=4))
    def check(values: list[Any]) -> None:
        assert result(calls.call("call_functions:echo", *values)) == values

    check()


def test_call_runs_in_a_worker_that_has_no_pykka(calls: WorkerCalls) -> None:
    assert result(calls.call("call_functions:pid")) in calls.workers().values()
    loaded = result(calls.call("call_functions:modules"))
    assert [name for name in loaded if name.startswith(("pykka", "actors.actor", "kithara"))] == []
    assert result(calls.call("call_functions:Nested.inner")) == "nested"


def test_calls_run_one_at_a_time_in_each_worker(calls: WorkerCalls, fifo: Path, tmp_path: Path) -> None:
    # Held open, it keeps nobody from opening it; what is read ends when it is closed.
    with open(os.open(fifo, os.O_RDWR), "w") as writer:  # noqa: PTH123
        held = [calls.call("call_functions:begin_and_wait", str(tmp_path / str(n)), str(fifo)) for n in range(2)]
        pids = set(calls.workers().values())
        assert until(lambda: all(str(fifo) in descriptors(pid).values() for pid in pids))
        queued = calls.call("call_functions:echo", "last")
        assert {int((tmp_path / str(n)).read_text()) for n in range(2)} == pids
        writer.write("go")
    assert [result(future) for future in held].count("go") >= 1
    assert result(queued) == ["last"]


@pytest.mark.parametrize(
    ("function", "arguments", "kind", "words"),
    [
        ("call_functions:echo", (lambda: 1,), TypeError, "argument 1 of call_functions:echo (function) cannot be sent"),
        ("call_functions:echo", (1, {2}), TypeError, "argument 2 of call_functions:echo (set) cannot be sent"),
        ("call_functions:echo", (2**64,), TypeError, "argument 1"),
        ("call_functions:echo", ("\udcff",), TypeError, "argument 1"),
        ("call_functions:echo", (bytes(VALUE_LIMIT),), ValueError, "put them into a file"),
        (call_functions.echo, (), TypeError, "named as 'module:name'"),
        ("call_functions.echo", (), ValueError, "named as 'module:name'"),
        (":echo", (), ValueError, "named as 'module:name'"),
        ("call_functions:", (), ValueError, "named as 'module:name'"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(
    calls: WorkerCalls, function: Any, arguments: tuple[Any, ...], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as caught:
        calls.call(function, *arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), "5", True])
def test_wrong_deadline_is_refused(calls: WorkerCalls, deadline: Any) -> None:
    with pytest.raises(ValueError, match="deadline must be a positive number"):
        calls.call("call_functions:echo", deadline=deadline)
    with pytest.raises(ValueError, match="deadline must be a positive number"):
        WorkerCalls(deadline=deadline)


# --- Exceptions


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("lookup", "not there"), LookupError, "not there"),
        (("file", 2, "No such file", "name"), FileNotFoundError, "[Errno 2] No such file: 'name'"),
        (("own", "a", 1), call_functions.Own, "('a', 1)"),
    ],
)
def test_exception_is_raised_as_it_was(
    calls: WorkerCalls, arguments: tuple[Any, ...], kind: type[Exception], text: str
) -> None:
    raised = error(calls.call("call_functions:raises", *arguments))
    assert type(raised) is kind
    assert str(raised) == text
    cause = raised.__cause__
    assert isinstance(cause, RemoteError)
    assert "in raises" in cause.traceback
    assert cause.traceback.splitlines()[-1].endswith(text)


@pytest.mark.parametrize(
    ("arguments", "name", "text"),
    [
        (("two", "one", "two"), "call_functions.NeedsTwo", "one and two"),
        (("other", "what"), "call_functions.Other", "what in"),
        (("mute", "x"), "call_functions.Mute", "(its text cannot be had: RuntimeError)"),
        (("exit", 3), "SystemExit", "3"),
        (("interrupt",), "KeyboardInterrupt", ""),
        (("group", "many"), "ExceptionGroup", "many (1 sub-exception)"),
        (("object",), "ValueError", "<object object at"),
        (("long", 40_000), "ValueError", "é" * 4000),
        (("surrogate",), "ValueError", "\\udcff"),
    ],
)
def test_exception_that_cannot_be_rebuilt_is_told(
    calls: WorkerCalls, arguments: tuple[Any, ...], name: str, text: str
) -> None:
    before = calls.workers()
    raised = error(calls.call("call_functions:raises", *arguments))
    assert type(raised) is RemoteError
    assert raised.type_name == name
    assert raised.text.startswith(text)
    assert str(raised).startswith(f"{name}: {text}" if text else name)
    assert raised.traceback
    assert calls.workers() == before


def test_traceback_tells_what_the_exception_came_from(calls: WorkerCalls) -> None:
    cause = error(calls.call("call_functions:chained")).__cause__
    assert isinstance(cause, RemoteError)
    assert "KeyError: 'first'" in cause.traceback
    assert cause.traceback.rstrip().endswith("ValueError: second")


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("no_such_module_at_all:f", ModuleNotFoundError),
        ("call_functions:no_such", AttributeError),
        ("call_functions:__name__", TypeError),
        ("call_functions:recurses", RecursionError),
    ],
)
def test_function_that_cannot_be_called(calls: WorkerCalls, function: str, kind: type[Exception]) -> None:
    assert type(error(calls.call(function))) is kind
    assert result(calls.call("call_functions:echo", 1)) == [1]


@pytest.mark.parametrize(("function", "arguments", "words"), [
    ("returns_lambda", (), "call_functions:returns_lambda returned a value (function) that cannot be sent"),
    ("returns_bytes", (VALUE_LIMIT,), "at most"),
])  # fmt: skip
def test_result_that_cannot_be_sent(calls: WorkerCalls, function: str, arguments: tuple[Any, ...], words: str) -> None:
    assert words in str(error(calls.call(f"call_functions:{function}", *arguments)))
    assert len(result(calls.call("call_functions:returns_bytes", VALUE_LIMIT - 5))) == VALUE_LIMIT - 5


def test_longest_failure_fits_a_frame() -> None:
    """Whatever an exception holds, in characters of four bytes."""
    kind = type("\U0001f600" * 5000, (Exception,), {"__module__": "\U0001f600" * 5000})
    failed = _failed(1, kind("\U0001f600" * 3900, "\U0001f600" * 100))
    assert failed.arguments is not None
    assert len(Codec(CALLS).encode(failed)) <= FRAME_LIMIT


@pytest.mark.parametrize("name", ["module", "name"])
def test_exception_of_a_class_that_is_not_loaded_here(name: str) -> None:
    given = {"module": "call_functions", "name": "Own", name: "elsewhere"}
    failed = CallFailed(1, given["module"], given["name"], "t", "tb", b"\x91\xa1t")
    raised = _rebuilt(failed)
    assert isinstance(raised, RemoteError)
    assert "elsewhere" not in sys.modules


# --- What a worker says


@given(st.text(), st.text(), st.text(), st.none() | st.binary(max_size=20) | PLAIN.map(msgpack.packb))
@example("builtins", "ValueError", "1", msgpack.packb([1]))
@example("builtins", "UnicodeDecodeError", "", msgpack.packb([1, 2]))
@example("os", "path.join", "", msgpack.packb(["a"]))
@example("builtins", "BaseException", "", msgpack.packb([]))
def test_any_failure_becomes_an_exception(module: str, name: str, text: str, arguments: bytes | None) -> None:
    raised = _rebuilt(CallFailed(1, module, name, text, "", arguments))
    assert isinstance(raised, Exception)
    assert text in str(raised)


@pytest.mark.parametrize("data", [b"junk", b"", b"\x92\x09\x01", b"\x91\x63"])
def test_worker_that_talks_nonsense_is_ended(data: bytes, fifo: Path) -> None:
    with WorkerCalls(1) as calls:
        future = calls.call("call_functions:wait_for", str(fifo))
        assert until(lambda: calls._running)
        calls.frame(1, data)
        raised = error(future)
        assert isinstance(raised, WorkerLostError)
        assert raised.words.startswith("sent a malformed frame (")
        assert result(calls.call("call_functions:echo", 1)) == [1]


# --- Helpers of a worker


def test_helper_runs_and_says_what_it_has_to_say(calls: WorkerCalls) -> None:
    assert result(calls.call("call_functions:run_helper", "echo", "hello"))[:3] == [0, "hello\n", ""]
    status, _, errors, _ = result(calls.call("call_functions:run_helper", "no-such-program"))
    assert (status, errors) == (1, "cannot run no-such-program: No such file or directory\n")
    assert isinstance(error(calls.call("call_functions:start_helper_wrongly")), FileNotFoundError)


def test_helper_outlives_the_thread_that_asked_for_it_and_not_its_worker() -> None:
    with WorkerCalls(1) as calls:
        helper = result(calls.call("call_functions:start_sleeper_from_a_thread"))
        # Were it bound to that thread, it would have been killed by now.
        assert result(calls.call("call_functions:run_helper", "sleep", "0.3"))[0] == 0
        assert not pid_is_gone(helper)
        os.kill(calls.workers()[1], signal.SIGKILL)
        assert until(lambda: pid_is_gone(helper))
