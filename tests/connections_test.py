"""Tests that connections that wait too long, or are too many, are closed."""

import contextlib
import errno
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import uvicorn

from bert_tweet import connections, server

LARGE = 16 << 20  # bytes, more than the kernel takes for a caller
GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


async def _answer(scope: Any, receive: Any, send: Any) -> None:
  """An ASGI application that answers with the body of the request.

  At /large it answers with 16 MB, and at /unread without reading the body.
  """
  if scope["type"] == "lifespan":
    while (await receive())["type"] == "lifespan.startup":
      await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
    return
  body, message = b"", {"more_body": scope["path"] != "/unread"}
  while message.get("more_body"):
    message = await receive()
    if message["type"] == "http.disconnect":
      return
    body += message["body"]
  body = b"x" * LARGE if scope["path"] == "/large" else body
  length = str(len(body)).encode()
  await send(
    {
      "type": "http.response.start",
      "status": 200,
      "headers": [(b"content-length", length)],
    }
  )
  await send({"type": "http.response.body", "body": body})


class _Full(socket.socket):
  """A listening socket whose first 20 accepts fail because no file is free."""

  failures = 20

  def accept(self) -> tuple[socket.socket, Any]:
    if self.failures:
      self.failures -= 1
      raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return super().accept()


@contextlib.contextmanager
def _serving(
  listener: socket.socket | None = None, **limits: float
) -> Iterator[tuple[str, int]]:
  """Runs a server with `limits` in a thread; yields its (host, port)."""
  listener = listener or socket.socket()
  listener.bind(("127.0.0.1", 0))
  settings: dict[str, Any] = {"connections": 100, **limits}
  made = connections.Server(
    uvicorn.Config(
      _answer,
      log_config=None,
      ws="none",
      http="h11",
      timeout_keep_alive=60,
      timeout_graceful_shutdown=1,
    ),
    connections.Limits(**settings),
  )
  thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
  address = listener.getsockname()
  thread.start()
  try:
    while not made.started:
      time.sleep(0.01)
    yield address
  finally:
    made.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def _connected(address: tuple[str, int]) -> socket.socket:
  return socket.create_connection(address, timeout=20)


def _ok(address: tuple[str, int]) -> bool:
  url = f"http://{address[0]}:{address[1]}/"
  return requests.post(url, data=b"good", timeout=20).content == b"good"


def _closed_after(caller: socket.socket, drip: bytes = b"") -> float:
  """Returns the seconds until a server closes a connection.

  Args:
    caller: the connection.
    drip: a byte that is sent again and again meanwhile.
  """
  began = time.monotonic()
  caller.settimeout(0.02)
  while time.monotonic() - began < 20:
    try:
      caller.sendall(drip)
      if not caller.recv(1 << 16):
        break
    except TimeoutError:
      continue
    except ConnectionError:
      break
  return time.monotonic() - began


@pytest.mark.parametrize(
  ("sent", "drip"),
  [
    (b"", b""),
    (b"GET / HTTP/1.1\r\nA: ", b"a"),
    (GET % b"", b""),
    (GET % b"" + b"GET / HTTP/1.1\r\nA: ", b"a"),
  ],
  ids=["nothing", "a slow header", "nothing more", "a slow second header"],
)
def test_a_header_as_a_whole_has_its_time(sent: bytes, drip: bytes) -> None:
  with _serving(header_seconds=0.4) as address, _connected(address) as slow:
    slow.sendall(sent)
    assert 0.3 < _closed_after(slow, drip) < 5
    assert _ok(address)


def test_a_body_after_its_answer_has_the_time_of_a_header() -> None:
  with _serving(header_seconds=0.4) as address, _connected(address) as slow:
    slow.sendall(POST % (b"unread", 1000))
    assert b"200" in slow.recv(1 << 16)
    assert 0.3 < _closed_after(slow, b"a") < 5


def test_a_request_may_take_longer_than_its_header() -> None:
  with _serving(header_seconds=0.2) as address, _connected(address) as caller:
    caller.sendall(POST % (b"", 2) + b"a")
    time.sleep(0.5)
    caller.sendall(b"b")
    answer = b""
    while not answer.endswith(b"\r\n\r\nab"):
      answer += caller.recv(1 << 16)


def test_an_answer_must_be_taken_in_its_time() -> None:
  with _serving(answer_seconds=0.4) as address, _connected(address) as slow:
    slow.sendall((GET % b"large") * 3)
    time.sleep(1)
    slow.settimeout(5)
    size = 0
    with contextlib.suppress(ConnectionError):
      while part := slow.recv(1 << 20):
        size += len(part)
    assert size < LARGE
    url = f"http://{address[0]}:{address[1]}/large"
    assert len(requests.get(url, timeout=20).content) == LARGE


def test_who_reads_slowly_but_in_time_gets_all() -> None:
  with _serving(header_seconds=0.2) as address, _connected(address) as caller:
    caller.sendall(GET % b"large")
    time.sleep(0.5)
    size = 0
    while size < LARGE:
      size += len(caller.recv(1 << 20))
    assert size < LARGE + 1000


def test_a_new_connection_closes_the_one_that_waited_longest() -> None:
  with _serving(connections=8) as address, contextlib.ExitStack() as stack:
    callers = []
    for _ in range(12):
      callers.append(stack.enter_context(_connected(address)))
      callers[-1].sendall(GET % b"")
      assert callers[-1].recv(1 << 16)
    # It has asked once more: the fifth is the one that waits longest now.
    callers[4].sendall(GET % b"")
    assert callers[4].recv(1 << 16)
    assert _ok(address)
    gone = [_closed_after(c) < 0.2 for c in callers[:4]]
    assert gone == [True] * 4
    for place, caller in enumerate(callers[4:], start=4):
      caller.settimeout(0.05)
      if place == 5:
        assert not caller.recv(1)
      else:
        with pytest.raises(TimeoutError):
          caller.recv(1)


def test_without_files_the_log_gets_one_line_and_callers_wait(
  caplog: pytest.LogCaptureFixture,
) -> None:
  """A bug report had a log of 277 MB in 43 seconds.

  It is "Nothing lost, no one let in".
  """
  listener = _Full()
  with caplog.at_level("WARNING"), _serving(listener) as address:
    assert _ok(address)
  assert listener.failures == 0
  lines = [r for r in caplog.messages if "cannot accept a connection" in r]
  assert len(lines) <= 1
  assert len(caplog.text) < 1000


def test_connections_are_fewer_than_the_files_that_may_be_open() -> None:
  limits = resource.getrlimit(resource.RLIMIT_NOFILE)
  most = min(limits[0], 1000)
  resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
  try:
    assert connections._possible(10) == 10
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most
    possible = connections._possible(1500)
    raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert possible == min(1500, raised - 128)
  finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_server_listens_on_the_loopback_unless_it_is_told_otherwise(
  caplog: pytest.LogCaptureFixture,
) -> None:
  host = server.Options(model_dir="x").host
  with caplog.at_level("WARNING"), connections.bind(host, 0) as bound:
    assert bound.getsockname()[0] == "127.0.0.1"
  with connections.bind("127.1.2.3", 0), connections.bind("localhost", 0):
    assert "network" not in caplog.text


def test_the_server_warns_of_an_address_that_others_reach(
  caplog: pytest.LogCaptureFixture,
) -> None:
  # Bound, and never made to listen.
  with caplog.at_level("WARNING"), connections.bind("0.0.0.0", 0):
    assert "0.0.0.0 is open to the network, and there is no login" in (
      caplog.text
    )
