"""Tests of downloads from servers that lie about addresses, sizes and ends."""

import http
import io
import itertools
import json
import pathlib
import random
import time
from collections.abc import Iterator
from urllib import parse

import pytest
import requests

from data_prep.base import options
from data_prep.files import storage, transfers
from tests import http_server

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http_server.Server]:
  monkeypatch.setattr(transfers, "_MOST_TRIES", 2)
  monkeypatch.setattr(time, "sleep", lambda _: None)
  with http_server.running() as started:
    started.files["/file"] = CONTENT
    yield started


def _part(
  server: http_server.Server, folder: pathlib.Path, most: int | None = None
) -> transfers.Part:
  return transfers.Part(
    str(folder / "part"), f"{server.url}/file", "mend it", most
  )


def _answer(*headers: str, body: bytes = b"", status: str = "200 OK") -> bytes:
  return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


class _Web:
  """Stands for servers behind https://, of which a test has none.

  Attributes:
    leads: address → the Location of its redirect; others have a file.
    asked: the addresses that were asked for.
  """

  def __init__(self, leads: dict[str, str]) -> None:
    self.leads = leads
    self.asked: list[str] = []

  def answer(self, url: str, headers: dict[str, str]) -> requests.Response:
    del headers
    self.asked.append(url)
    response = requests.Response()
    response.raw = io.BytesIO()
    response.url, response.status_code = url, http.HTTPStatus.OK
    if url in self.leads:
      response.status_code = http.HTTPStatus.FOUND
      response.headers["Location"] = self.leads[url]
    return response


def _led(
  monkeypatch: pytest.MonkeyPatch, *hops: str, named: str = ""
) -> list[str]:
  """Follows redirects through `hops`; returns the addresses asked for.

  The last entry is "refused" if an address was refused.
  """
  web = _Web(dict(itertools.pairwise(hops)))
  monkeypatch.setattr(transfers, "_asked", web.answer)
  try:
    transfers.opened(hops[0], {}, "", named)
  except options.InputError:
    return [*web.asked, "refused"]
  return web.asked


HTTPS, NEXT = "https://one.invalid/a", "https://two.invalid/b"


def test_https_is_followed_to_https(monkeypatch: pytest.MonkeyPatch) -> None:
  assert _led(monkeypatch, HTTPS, NEXT) == [HTTPS, NEXT]
  assert _led(monkeypatch, HTTPS, "/c") == [HTTPS, "https://one.invalid/c"]
  assert _led(monkeypatch, HTTPS, "//two.invalid/b") == [HTTPS, NEXT]
  ring = [f"https://one.invalid/{n}" for n in range(20)]
  assert _led(monkeypatch, *ring) == [*ring[:11], "refused"]


@pytest.mark.parametrize(
  "place",
  [
    "http://two.invalid/b",
    "HTTP://two.invalid/b",
    "ftp://two.invalid/b",
    "file:///etc/hostname",
    "gs://bucket/b",
    "https://[",
    "http://127.0.0.1:80/",
    "https://127.0.0.1/",
    "https://127.1/b",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://localhost/b",
    "https://LOCALHOST./b",
    "https://[::1]/b",
    "https://[::ffff:127.0.0.1]/b",
    "https://0.0.0.0/b",
    "https://user@127.0.0.1:443/b",
    "https://two.invalid:99999/b",
    "http://two.invalid\\@127.0.0.1/b",
  ],
)
def test_an_address_that_is_refused_is_never_asked_for(
  monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
  assert _led(monkeypatch, HTTPS, place, NEXT) == [HTTPS, "refused"]
  assert _led(monkeypatch, HTTPS, NEXT, place) == [HTTPS, NEXT, "refused"]
  assert _led(monkeypatch, place, NEXT, named=HTTPS) == ["refused"]


def test_generated_redirects_end_at_https_or_are_not_asked_for(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  draw = random.Random(19)
  schemes = [
    "https",
    "http",
    "HTTPS",
    "hTtp",
    "ftp",
    "",
    "javascript",
    "httpss",
  ]
  hosts = [
    "two.invalid",
    "127.0.0.1",
    "127.8.8.8",
    "localhost",
    "[::1]",
    "0",
    "127.1",
    "one.invalid:443",
    "127.0.0.1:8443",
    "a@localhost",
    "localhost:1@x.invalid",
    "тест.invalid",
    "[::",
    "x y",
    "%6cocalhost",
    "1.2.3.4",
  ]
  joints = ["://", ":", ":/", "//", ":///", ":\\\\"]
  for _ in range(400):
    place = draw.choice(schemes) + draw.choice(joints) + draw.choice(hosts)
    place += draw.choice(["", "/", "/b?q=1#f", "\t/b", "/../.."])
    for url in _led(monkeypatch, HTTPS, place)[1:]:
      host = parse.urlparse(url).hostname
      assert url == "refused" or url.startswith("https://"), place
      assert url == "refused" or not transfers._is_loopback(str(host)), place


def test_loopback_is_reached_where_the_user_named_it_alone(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  server.redirects["/file"] = "/there"
  server.files["/there"] = CONTENT
  assert _part(server, tmp_path).complete()
  assert (tmp_path / "part").read_bytes() == CONTENT
  with http_server.running() as beside:
    server.redirects["/file"] = f"{beside.url}/file"
    with pytest.raises(options.InputError, match="to stay away from this mach"):
      _part(server, tmp_path / "b").complete()
    assert beside.asked == []


def test_the_body_of_a_redirect_is_not_read(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  """requests would read it whole: here it never ends."""
  server.raw["/file"] = _answer(
    "Location: /there", "Content-Length: 99999999", status="302 Found"
  )
  server.files["/there"] = CONTENT
  assert _part(server, tmp_path).complete()


@pytest.mark.parametrize(
  ("answer", "message"),
  [
    (
      _answer("Content-Length: 5", "Content-Encoding: gzip", body=b"12345"),
      "without a Content-Encoding; got gzip",
    ),
    (
      _answer(
        "Content-Length: 5", "Content-Encoding: identity, br", body=b"12345"
      ),
      "without a Content-Encoding",
    ),
    (_answer(body=b"12345"), "the length of .*; got none announced"),
    (
      _answer("Content-Length: five", body=b"12345"),
      "the length of .*; got fiv",
    ),
    (_answer("Content-Length: -5", body=b"12345"), "the length of .*; got -5"),
    (_answer("Content-Length: 101", body=b"x" * 101), "at most 100 bytes"),
    (_answer("Content-Length: 9000000000"), "at most 100 bytes"),
    (
      _answer(
        "Transfer-Encoding: chunked",
        body=b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n",
      ),
      "at most 100",
    ),
    (
      _answer("Transfer-Encoding: chunked", body=b"-1\r\n" + b"x" * 101),
      "the length of a chunk of .*; got -1",
    ),
    (
      _answer("Transfer-Encoding: chunked", body=b"-5\r\n12345\r\n0\r\n\r\n"),
      "the length of a chunk of .*; got -5",
    ),
    (_answer(status="304 Not Modified"), "304"),
    (
      _answer(
        "Content-Length: 5",
        "Content-Range: bytes 0-4/5",
        body=b"12345",
        status="206 Partial Content",
      ),
      "206",
    ),
    (_answer(status="302 Found"), "302"),
    (_answer(status="204 No Content"), "204"),
  ],
)
def test_an_answer_that_is_no_plain_file_is_refused_and_not_kept(
  server: http_server.Server,
  tmp_path: pathlib.Path,
  answer: bytes,
  message: str,
) -> None:
  server.raw["/file"] = answer
  with pytest.raises(options.InputError, match=message):
    _part(server, tmp_path, 100).complete()
  assert not list(tmp_path.iterdir())
  assert server.asked == ["/file"], "what is refused is not asked for again"


@pytest.mark.parametrize(
  "answer",
  [
    _answer("Content-Length: 10", body=b"12345"),
    _answer("Transfer-Encoding: chunked", body=b"5\r\n12345\r\n"),
    _answer("Transfer-Encoding: chunked", body=b"9\r\n12345"),
    _answer("Content-Length: 10"),
  ],
)
def test_a_body_that_ends_early_is_not_whole(
  server: http_server.Server, tmp_path: pathlib.Path, answer: bytes
) -> None:
  server.raw["/file"] = answer
  with pytest.raises(options.InputError, match=r"the rest of|an answer from"):
    _part(server, tmp_path).complete()
  with pytest.raises(options.InputError, match="an answer from"):
    transfers.small(f"{server.url}/file", 100, "")


def test_a_body_in_chunks_is_whole_at_its_last_chunk(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  body = b"5\r\n12345\r\n0\r\n\r\n"
  server.raw["/file"] = _answer("Transfer-Encoding: chunked", body=body)
  assert _part(server, tmp_path).complete()
  assert (tmp_path / "part").read_bytes() == b"12345"
  assert transfers.small(f"{server.url}/file", 100, "") == b"12345"


def test_a_file_may_not_have_more_bytes_than_the_disk(
  server: http_server.Server,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setattr(storage, "free_bytes", lambda _: 5000)
  with pytest.raises(
    options.InputError, match=r"10,240 free bytes .*; got 5,00"
  ):
    _part(server, tmp_path).complete()
  chunks = b"1000\r\n" + bytes(0x1000) + b"\r\n"
  server.raw["/file"] = _answer("Transfer-Encoding: chunked", body=chunks * 2)
  with pytest.raises(options.InputError, match="or what the disk has room for"):
    _part(server, tmp_path).complete()
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("status", "place"),
  [
    ("206 Partial Content", "bytes 0-10239/10240"),
    ("206 Partial Content", "bytes 99-10239/10240"),
    ("206 Partial Content", ""),
    ("416 Range Not Satisfiable", "bytes */10240"),
    ("416 Range Not Satisfiable", ""),
  ],
)
def test_a_part_that_does_not_follow_is_fetched_anew(
  server: http_server.Server, tmp_path: pathlib.Path, status: str, place: str
) -> None:
  (tmp_path / "part").write_bytes(b"x" * 100)
  (tmp_path / "part.json").write_text('"version"')
  server.raw["/file"] = _answer(
    f"Content-Range: {place}", "Content-Length: 3", body=b"abc", status=status
  )
  with pytest.raises(options.InputError):
    _part(server, tmp_path).complete()
  del server.raw["/file"]
  assert _part(server, tmp_path).complete()
  assert (tmp_path / "part").read_bytes() == CONTENT


@pytest.mark.parametrize(
  "tag", ['"аб"', '"a\\r\\nRange: bytes=0-"', '"\\ud800"', f'"{"x" * 9000}"']
)
def test_an_etag_that_no_request_can_hold_is_not_sent(
  server: http_server.Server, tmp_path: pathlib.Path, tag: str
) -> None:
  (tmp_path / "part").write_bytes(b"x" * 100)
  (tmp_path / "part.json").write_text(tag)
  assert _part(server, tmp_path).complete(known_tag=json.loads(tag))
  assert (tmp_path / "part").read_bytes() == CONTENT
  assert server.asked == ["/file"]
  assert server.ranges == [None]


def test_a_part_whose_end_is_reached_is_whole(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  (tmp_path / "part").write_bytes(CONTENT)
  (tmp_path / "part.json").write_text('"version"')
  server.raw["/file"] = _answer(
    "Content-Range: bytes */10240",
    "Content-Length: 0",
    status="416 Range Not Satisfiable",
  )
  assert _part(server, tmp_path).complete()
  assert (tmp_path / "part").read_bytes() == CONTENT


def test_an_unfinished_file_that_is_a_link_is_not_written_through(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  mine = tmp_path / "mine"
  mine.write_bytes(b"")
  (tmp_path / "part").symlink_to(mine)
  with pytest.raises(OSError, match="symbolic links"):
    _part(server, tmp_path).complete()
  assert mine.read_bytes() == b""


def _generated(draw: random.Random) -> bytes:
  """Returns an answer with headers and a body that may contradict each other."""
  status = draw.choice(
    ["200 OK"] * 6
    + [
      "206 Partial Content",
      "304 Not Modified",
      "416 No",
      "302 Found",
      "500 No",
      "301 x",
      "100 Continue",
      "999 x",
      "200",
    ]
  )
  body = draw.randbytes(draw.choice([0, 1, 99, 100, 101, 5000]))
  size = draw.choice(
    [len(body), len(body) + 1, 0, 50, 10**12, "", "1e3", "0x5"]
  )
  headers = [f"Content-Length: {size}"]
  if draw.random() < 0.3:
    headers.append(
      f"Transfer-Encoding: {draw.choice(['chunked', 'x', 'gzip'])}"
    )
    head = f"{draw.choice([len(body), 5, 2**40]):x}"
    body = head.encode() + b"\r\n" + body + draw.choice([b"", b"\r\n0\r\n\r\n"])
  more = [
    "Content-Encoding: gzip",
    "Content-Range: bytes 0-9/10",
    "ETag: x",
    "Location: http://two.invalid/",
    "Location: /file",
    "Content-Length: 3",
    "Content-Encoding: deflate",
    "Content-Range: bytes 7-1/1",
    "ETag: W/y",
  ]
  headers += [line for line in more if draw.random() < 0.15]
  draw.shuffle(headers)
  return _answer(*headers, body=body, status=status)


def test_generated_answers_give_a_bounded_file_or_one_line(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  draw = random.Random(7)
  whole = refused = 0
  for number in range(200):
    folder = tmp_path / str(number)
    folder.mkdir()
    server.raw["/file"] = _generated(draw)
    try:
      if _part(server, folder, 100).complete():
        whole += 1
    except options.InputError as error:
      refused += 1
      assert len(str(error).splitlines()) == 1
    for path in folder.iterdir():
      assert path.stat().st_size <= 100, server.raw["/file"]
  assert whole > 10
  assert refused > 100
