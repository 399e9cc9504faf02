"""Serves files on loopback, with cut, refused and busy answers."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator


class Server(http.server.ThreadingHTTPServer):
  """Serves files with ranges and ETags, as dumps.wikimedia.org does.

  Attributes:
    files: path → content.
    answers: path → the statuses of its next answers, which are sent in place of
      content.
    cuts: the number of further answers that end after a third of the content;
      only answers of more than 1,000 bytes are cut.
    ranges: the Range header of each request that was answered with content.
    unchanged: number of answers with status 304, "not modified".
    redirects: path → the Location to which it leads.
    raw: path → the bytes of a whole answer, after which the connection ends.
    asked: the path of each request.
  """

  def __init__(self) -> None:
    super().__init__(("127.0.0.1", 0), Handler)
    self.files: dict[str, bytes] = {}
    self.answers: dict[str, list[int]] = {}
    self.cuts = 0
    self.ranges: list[str | None] = []
    self.unchanged = 0
    self.redirects: dict[str, str] = {}
    self.raw: dict[str, bytes] = {}
    self.asked: list[str] = []

  @property
  def url(self) -> str:
    return f"http://127.0.0.1:{self.server_port}"

  def handle_error(self, request: object, client_address: object) -> None:
    """Ignores the error of a client that closed its connection."""


class Handler(http.server.BaseHTTPRequestHandler):
  server: Server

  def do_GET(self) -> None:
    path = self.path.split("?")[0]
    self.server.asked.append(path)
    if path in self.server.raw:
      self.wfile.write(self.server.raw[path])
      return
    if path in self.server.redirects:
      self.send_response(302)
      self.send_header("Location", self.server.redirects[path])
      self.end_headers()
      return
    if waiting := self.server.answers.get(path):
      self.send_error(waiting.pop(0))
      return
    content = self.server.files.get(path)
    if content is None:
      self.send_error(404)
      return
    tag = f'"{hashlib.md5(content).hexdigest()}"'
    if self.headers.get("If-None-Match") == tag:
      self.server.unchanged += 1
      self.send_response(304)
      self.end_headers()
      return
    wanted = self.headers.get("Range")
    self.server.ranges.append(wanted)
    start = 0
    if wanted and self.headers.get("If-Range") == tag:
      start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    self.send_response(206 if start else 200)
    self.send_header("ETag", tag)
    if start:
      place = f"bytes {start}-{len(content) - 1}/{len(content)}"
      self.send_header("Content-Range", place)
    self.send_header("Content-Length", str(len(content) - start))
    self.end_headers()
    body = content[start:]
    if self.server.cuts and len(body) > 1000:
      self.server.cuts -= 1
      body = body[: len(body) // 3]
    self.wfile.write(body)

  def log_message(self, format: str, *args: object) -> None:
    """Logs nothing."""


@contextlib.contextmanager
def running() -> Iterator[Server]:
  """Runs a server during the block."""
  with Server() as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
      yield server
    finally:
      server.shutdown()
      thread.join()
