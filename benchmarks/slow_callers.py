"""Holds many idle, slowly writing and slowly reading connections to a server.

The server is always on the loopback interface of this machine; no other address
can be given.
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
  """Holds connections from another process until the block ends.

  The block begins when every connection has been made once.

  A quarter of the connections do nothing; a quarter send a header, and a
  quarter a body, one byte per second; a quarter ask for the page and read one
  byte per second. A connection that the server closes is opened again.

  Args:
    port: the port of the server.
    count: number of connections.

  Raises:
    AssertionError: when the connections cannot be made within a minute.
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
  """Holds the connections until its process is ended by the parent process.

  Args:
    port: the port of the server.
    count: number of connections.
    connected: set when every connection has been made once.
  """
  asyncio.run(_hold(port, count, connected))


async def _hold(port: int, count: int, connected: synchronize.Event) -> None:
  """Keeps the connections open; sets the event when all were made once.

  Args:
    port: the port of the server.
    count: number of connections.
    connected: the event.
  """
  missing = set(range(count))

  async def call(number: int) -> None:
    while True:
      with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
          caller = socket.socket()
          caller.setblocking(False)
          if number % 4 == 3:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED)
          with caller:
            await asyncio.get_running_loop().sock_connect(
              caller, ("127.0.0.1", port)
            )
            missing.discard(number)
            if not missing:
              connected.set()
            await _dawdle(caller, number % 4)
      await asyncio.sleep(0.1)

  await asyncio.gather(*map(call, range(count)))


async def _dawdle(caller: socket.socket, kind: int) -> None:
  """Behaves like a slow caller until the server closes the connection.

  Args:
    caller: the connected socket.
    kind: 0 does nothing, 1 sends a header, 2 sends a body, 3 reads a page.
  """
  loop = asyncio.get_running_loop()
  first = (b"", _HEADER, _BODY, _PAGE)[kind]
  await loop.sock_sendall(caller, first)
  for _ in itertools.count():
    if kind == 0:  # waits for the end of the connection
      await loop.sock_recv(caller, 1)
      return
    if kind == 3:
      if not await loop.sock_recv(caller, 1):
        return
    else:
      await loop.sock_sendall(caller, b"a")
    await asyncio.sleep(_PAUSE)
