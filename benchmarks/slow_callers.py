"""Holds many idle, slowly writing and slowly reading connections to a server.

The server is on the loopback of this machine: there is no way to name another.
"""

import asyncio
import contextlib
import itertools
import multiprocessing
import socket
from collections.abc import Iterator
from multiprocessing import synchronize

_HEADER = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "
_BODY = (
  b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n"
  b"Content-Type: application/json\r\nContent-Length: 10000\r\n\r\n"
)
_PAGE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
_PAUSE = 1.0  # seconds between two bytes
_PATIENCE = 20  # seconds until a caller gives up and connects again
_RECEIVED = 4096  # bytes that the kernel takes for a slow reader


@contextlib.contextmanager
def holding(port: int, count: int) -> Iterator[None]:
  """Holds connections in a process of their own, until the block ends.

  A quarter each does nothing; sends a header, or a body, a byte a second; asks
  for the page and reads a byte a second. What the server closes is opened anew.

  Args:
    port: of the server.
    count: of the connections.
  """
  context = multiprocessing.get_context("spawn")
  connected = context.Event()
  process = context.Process(
    target=_run, args=(port, count, connected), daemon=True
  )
  process.start()
  try:
    assert connected.wait(60), "every connection is made within a minute"
    yield
  finally:
    process.kill()
    process.join()


def _run(port: int, count: int, connected: synchronize.Event) -> None:
  asyncio.run(_hold(port, count, connected))


async def _hold(port: int, count: int, connected: synchronize.Event) -> None:
  missing = set(range(count))

  async def call(number: int) -> None:
    while True:
      with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
          made = socket.socket()
          made.setblocking(False)
          if number % 4 == 3:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED)
          with made:
            await asyncio.get_running_loop().sock_connect(
              made, ("127.0.0.1", port)
            )
            missing.discard(number)
            if not missing:
              connected.set()
            await _dawdle(made, number % 4)
      await asyncio.sleep(0.1)

  await asyncio.gather(*map(call, range(count)))


async def _dawdle(made: socket.socket, kind: int) -> None:
  """Does what a slow caller of a kind does, until the server has enough."""
  loop = asyncio.get_running_loop()
  first = (b"", _HEADER, _BODY, _PAGE)[kind]
  await loop.sock_sendall(made, first)
  for _ in itertools.count():
    if kind == 0:  # waits for the end of the connection
      await loop.sock_recv(made, 1)
      return
    if kind == 3:
      if not await loop.sock_recv(made, 1):
        return
    else:
      await loop.sock_sendall(made, b"a")
    await asyncio.sleep(_PAUSE)
