"""Accepts connections for uvicorn, and limits their number and their time.

uvicorn waits without end for a caller's header, and for a caller who does not
read the answer; and asyncio logs each failed accept about a thousand times.
Here a connection that waits for its caller too long is closed. At the largest
number of connections, a new one replaces the one that has waited longest.
"""

import asyncio
import collections
import dataclasses
import ipaddress
import random
import resource
import socket
from typing import Any

import uvicorn
from absl import logging
from uvicorn.protocols.http import h11_impl

from data_prep.base import options

_BACKLOG = 2048  # connections that the kernel holds until they are accepted
_AT_ONCE = 32  # connections that are accepted before requests are read
_SPREAD = 1.1  # largest random factor of a limit of seconds
_OTHER_FILES = 128  # open files that are no connections (guess; 40 were seen)
_PAUSE = 0.02  # seconds, after the system had no resources for a connection
_QUIET = 60  # seconds between two log lines about the same fault


@dataclasses.dataclass(frozen=True)
class Limits:
  """The largest number of connections, and the longest waits for callers.

  Each wait is lengthened at random, by up to a tenth. Otherwise connections
  that began together would be closed together, which would delay all other
  connections.

  Attributes:
    connections: the largest number of open connections.
    header_seconds: seconds for the whole header of a request, from the start of
      the connection or from the end of the previous answer.
    answer_seconds: seconds in which a caller must have read a whole answer.
  """

  connections: int
  header_seconds: float = 10
  answer_seconds: float = 30


def bind(host: str, port: int) -> socket.socket:
  """Returns a socket that is bound to an address, and does not listen yet.

  A warning is logged if other machines can reach the address.

  Raises:
    options.InputError: when the address cannot be bound, for instance because
      the host is unknown or the port in use.
  """
  try:
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = addresses[0]
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(address)
  except OSError as error:
    raise options.InputError(
      f"to listen at {host}, port {port}",
      error.strerror or str(error),
      "give another --host or --port, or end what listens there",
    ) from error
  if not ipaddress.ip_address(address[0]).is_loopback:
    logging.warning("%s is open to the network, and there is no login", host)
  return bound


class Server(uvicorn.Server):
  """A server of uvicorn whose connections have limits.

  Args:
    config: uvicorn's configuration, for HTTP/1.1 by h11.
    limits: the limits. The number of connections is lowered to what the
      system's limit of open files allows.
  """

  def __init__(self, config: uvicorn.Config, limits: Limits) -> None:
    super().__init__(config)
    self._limits = dataclasses.replace(
      limits, connections=_possible(limits.connections)
    )
    # Those that wait for their callers, the longest wait first.
    self._waiting: collections.OrderedDict[_Connection, None] = (
      collections.OrderedDict()
    )
    self._connecting: set[asyncio.Task[None]] = set()

  async def startup(self, sockets: list[socket.socket] | None = None) -> None:
    """Starts the application, and begins to accept connections.

    Args:
      sockets: the bound sockets at which connections arrive.
    """
    await super().startup(sockets=[])
    for listener in sockets or []:
      listener.setblocking(False)
      listener.listen(_BACKLOG)
      self._listen(listener)

  async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
    """Stops accepting connections; waits until all requests are answered."""
    for listener in sockets or []:
      asyncio.get_running_loop().remove_reader(listener)
    await super().shutdown(sockets)

  def _listen(self, listener: socket.socket) -> None:
    """Begins to accept the connections that arrive at a socket.

    Nothing is done if the server is about to end.
    """
    if not self.should_exit:
      loop = asyncio.get_running_loop()
      loop.add_reader(listener, self._accept, listener)

  def _accept(self, listener: socket.socket) -> None:
    """Accepts up to 32 waiting connections; called when a socket has some.

    The number is small so that requests do not wait long meanwhile. A
    connection for which there is no room is closed.
    """
    for _ in range(_AT_ONCE):
      try:
        accepted, _ = listener.accept()
      except BlockingIOError:
        return
      except ConnectionAbortedError:
        continue  # its caller is gone
      except OSError as error:  # no file, no memory
        self._pause(listener, error)
        return
      accepted.setblocking(False)
      if self._has_room():
        task = asyncio.create_task(self._connect(accepted))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
      else:
        accepted.close()

  def _pause(self, listener: socket.socket, error: OSError) -> None:
    """Closes the longest waiting connection; accepts none for 0.02 s.

    The method is called when the system cannot give a connection, for example
    without free file descriptors.

    Args:
      listener: the socket that has connections to accept.
      error: the error of the system, for the log.
    """
    logging.log_every_n_seconds(
      logging.WARNING, "cannot accept a connection: %s", _QUIET, error
    )
    self._drop_longest()
    loop = asyncio.get_running_loop()
    loop.remove_reader(listener)
    loop.call_later(_PAUSE, self._listen, listener)

  async def _connect(self, accepted: socket.socket) -> None:
    """Hands an accepted connection to uvicorn; closes it after an OSError."""
    loop = asyncio.get_running_loop()
    try:
      await loop.connect_accepted_socket(self._connection, accepted)
    except OSError:  # its caller is gone
      accepted.close()

  def _has_room(self) -> bool:
    """Returns whether one more connection may be opened.

    At the largest number of connections, the connection that has waited longest
    for its caller is closed to make room. The result is False if no connection
    waits.
    """
    count = len(self.server_state.connections) + len(self._connecting)
    if count < self._limits.connections:
      return True
    logging.log_every_n_seconds(
      logging.WARNING,
      "%d connections, and no more are allowed: each new one closes the one "
      "that has waited for its caller for the longest time",
      _QUIET,
      self._limits.connections,
    )
    return self._drop_longest()

  def _drop_longest(self) -> bool:
    """Closes the connection that has waited longest; returns True.

    If no connection waits for its caller, nothing is closed, and the result is
    False.
    """
    if not self._waiting:
      return False
    next(iter(self._waiting)).drop()
    return True

  def _connection(self) -> "_Connection":
    """Returns a new protocol object for a connection that is not open yet."""
    return _Connection(
      self._limits,
      self._waiting,
      config=self.config,
      server_state=self.server_state,
      app_state=self.lifespan.state,
    )


class _Connection(h11_impl.H11Protocol):
  """uvicorn's connection, which is closed when its caller is too slow.

  Args:
    limits: the longest waits for a caller.
    waiting: the connections that wait for their callers, in the order in which
      the waits began; each connection adds and removes itself.
    of_uvicorn: the arguments of uvicorn's H11Protocol.
  """

  def __init__(
    self,
    limits: Limits,
    waiting: "collections.OrderedDict[_Connection, None]",
    **of_uvicorn: Any,
  ) -> None:
    super().__init__(**of_uvicorn)
    self._limits, self._waiting = limits, waiting
    self._wait: tuple[str, object] = ("", None)
    self._timer: asyncio.TimerHandle | None = None

  def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
    super().connection_made(transport)
    # Writing is "paused" as long as a single byte waits for the caller.
    transport.set_write_buffer_limits(0)
    self._note_wait()

  def data_received(self, data: bytes) -> None:
    super().data_received(data)
    self._note_wait()

  def on_response_complete(self) -> None:
    super().on_response_complete()
    self._note_wait()

  def pause_writing(self) -> None:
    super().pause_writing()
    self._note_wait()

  def resume_writing(self) -> None:
    super().resume_writing()
    self._note_wait()

  def connection_lost(self, exc: Exception | None) -> None:
    super().connection_lost(exc)
    self._end_wait()

  def drop(self) -> None:
    """Closes the connection at once; bytes that were not sent are lost."""
    self._end_wait()
    self.transport.abort()

  def _note_wait(self) -> None:
    """Restarts the timer if the connection now waits for another action.

    The timer closes the connection after header_seconds or answer_seconds,
    lengthened at random by at most a tenth.
    """
    wait = self._awaited()
    if wait == self._wait:
      return
    self._end_wait()
    self._wait = wait
    if wait[0]:
      self._waiting[self] = None
    seconds = {
      "header": self._limits.header_seconds,
      "answer": self._limits.answer_seconds,
    }.get(wait[0])  # the application bounds the time of a body
    if seconds:
      seconds *= random.uniform(1, _SPREAD)
      self._timer = self.loop.call_later(seconds, self.drop)

  def _awaited(self) -> tuple[str, object]:
    """Returns (the caller's next action, the request that it belongs to).

    The action is "header", "body" or "answer" (to read it); "" if the
    connection does not wait for its caller.
    """
    if self.flow.write_paused:
      return "answer", None  # several answers are one wait
    if self.cycle is None or self.cycle.response_complete:
      return "header", self.cycle
    return ("body" if self.cycle.more_body else ""), self.cycle

  def _end_wait(self) -> None:
    """Stops the timer; removes this connection from those that wait."""
    self._waiting.pop(self, None)
    if self._timer:
      self._timer.cancel()
      self._timer = None


def _possible(connections: int) -> int:
  """Returns how many connections the limit of open files allows.

  The process's own limit of open files is raised as far as the system allows.

  Args:
    connections: the wanted number, which is never exceeded.
  """
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  wanted = connections + _OTHER_FILES
  if soft != resource.RLIM_INFINITY and soft < wanted:
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
  if soft == resource.RLIM_INFINITY:
    return connections
  return max(1, min(connections, soft - _OTHER_FILES))
