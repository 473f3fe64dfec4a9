"""What a call in a worker process has come to."""

from __future__ import annotations

from typing import Any

import pykka
import pytest
from pool_kit import HANG


def result(future: pykka.Future[Any]) -> Any:
    return future.get(timeout=HANG)


def error(future: pykka.Future[Any]) -> BaseException:
    with pytest.raises(Exception) as caught:
        future.get(timeout=HANG)
    assert not isinstance(caught.value, pykka.Timeout)
    return caught.value
