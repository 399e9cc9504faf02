"""Downloads files over https, and resumes where a connection broke.

Errors that may pass (429, 5xx, a cut connection) are retried with back-off. Any
other error ends in an InputError of one line.

The other side is not trusted. Each address of a redirect is checked before it
is asked for. A body may have as many bytes as were announced, at most as many
as the caller and the free disk allow, and is whole only if all of them came.
"""

import ipaddress
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from typing import IO, Any
from urllib import parse

import requests
from absl import logging

from data_prep.base import options
from data_prep.files import json_files, storage

_TIMEOUT = (30, 60)  # seconds to connect, and between two bytes
_CHUNK = 1 << 16  # bytes that a cut connection loses at most
_MOST_TRIES = 5  # consecutive tries without a byte of progress
_MOST_REDIRECTS = 10
# Largest file whose size neither the server nor the caller states.
_MOST_UNANNOUNCED = 16 << 30
_LONGEST_TAG = 1000  # letters; servers refuse headers of some 8,000
_BY_HAND = "download it by hand and give the local path"


class _Busy(requests.RequestException):
  """Raised for a failed answer after which a retry may succeed."""


def opened(
  url: str, headers: dict[str, str], advice: str, named: str = ""
) -> requests.Response:
  """Opens a URL, and follows its redirects; returns the last response.

  The caller reads the body and closes the response. The bodies of redirects are
  not read.

  Args:
    url: the URL of a file.
    headers: the headers of the request.
    advice: what the user should do if there is no such file.
    named: the address that the user named, if `url` came from elsewhere.

  Raises:
    options.InputError: for an error that no retry mends, and for an address
      that `require_safe` refuses, which is never asked for.
    requests.RequestException: for an error after which a retry may help.
  """
  # Sizes and ranges are of the file, not of a compressed answer.
  headers = {"Accept-Encoding": "identity", **headers}
  target = url
  for _ in range(_MOST_REDIRECTS + 1):
    target = _prepared(target)
    require_safe(target, named or url)
    response = _asked(target, headers)
    if not response.is_redirect:
      return _accepted(response, url, headers, advice)
    response.close()
    target = _redirected(response)
  raise options.InputError(
    f"at most {_MOST_REDIRECTS} redirects from {url}", "more", advice
  )


def _prepared(url: str) -> str:
  """Returns a URL as requests will send it.

  `require_safe` then checks the very host that is asked: two parsers may read
  different hosts in one text.

  Raises:
    options.InputError: for a URL that requests cannot read.
  """
  try:
    return str(requests.Request("GET", url).prepare().url)
  except (requests.RequestException, ValueError) as error:
    raise options.InputError(
      "an address of a file", _without_query(url), "mend the address"
    ) from error


def _asked(url: str, headers: dict[str, str]) -> requests.Response:
  """Sends one request; returns the response, with its body unread.

  A redirect is returned, not followed. requests.get would read the body of a
  redirect whole, however long it is.
  """
  with requests.Session() as session:
    request = session.prepare_request(requests.Request("GET", url, headers))
    settings = session.merge_environment_settings(url, {}, True, None, None)
    adapter = session.get_adapter(url)
    return adapter.send(request, timeout=_TIMEOUT, **settings)


def _redirected(response: requests.Response) -> str:
  """Returns the absolute address to which a redirect leads.

  A Location that is no valid address is returned as it is.
  """
  location = response.headers["Location"]
  # http.client decodes headers as Latin-1; an address may be UTF-8.
  location = location.encode("latin-1", "replace").decode("utf-8", "replace")
  try:
    return parse.urljoin(response.url, location)
  except ValueError:  # such as https://[
    return location


def _accepted(
  response: requests.Response, url: str, headers: dict[str, str], advice: str
) -> requests.Response:
  """Returns the response if its status answers the request.

  The status 200 answers every request, 206 and 416 answer a request with the
  header Range, and 304 a request with If-None-Match. A body with a
  Content-Encoding is refused.

  Args:
    response: the response.
    url: the URL that was asked for, for messages.
    headers: the headers of the request.
    advice: what the user should do if there is no such file.

  Raises:
    options.InputError: for another status, or a Content-Encoding.
    _Busy: for a status after which a retry may succeed.
  """
  status = response.status_code
  expected = {
    200: True,
    206: "Range" in headers,
    304: "If-None-Match" in headers,
    416: "Range" in headers,
  }
  encoding = response.headers.get("Content-Encoding", "identity")
  if expected.get(status, False):
    if encoding.strip().lower() in ("", "identity"):
      return response
    response.close()
    raise options.InputError(
      f"{url} without a Content-Encoding", encoding[:50], _BY_HAND
    )
  answer = f"{status} {response.reason}"
  response.close()
  if status == 429 or status >= 500:
    raise _Busy(answer)
  if status in (401, 403):
    raise options.InputError(
      f"permission for {url}", answer, f"get access, or {_BY_HAND}"
    )
  raise options.InputError(url, answer, advice)


def is_sha256(text: str) -> bool:
  """Returns whether a text has the form of a SHA-256: 64 hexadecimal digits."""
  return bool(re.fullmatch("[0-9a-fA-F]{64}", text))


def require_safe(url: str, named: str = "") -> None:
  """Raises InputError for an address that must not be asked for.

  Two kinds are refused: an address on this machine (loopback) whose scheme,
  host and port are not those of `named`; and any scheme but https. Plain http,
  which can be tampered with on its way, is accepted on loopback.

  Args:
    url: an address, perhaps from an answer.
    named: the address that the user named; "" for `url` itself.

  Raises:
    options.InputError: for such an address.
  """
  parts, own = parse.urlsplit(url), parse.urlsplit(named or url)
  near = _is_loopback(parts.hostname or "")
  if near and _server(parts) != _server(own):
    raise options.InputError(
      f"{_without_query(named)} to stay away from this machine's own servers",
      _without_query(url),
      _BY_HAND,
    )
  if parts.scheme != "https" and not (parts.scheme == "http" and near):
    raise options.InputError(
      "https://", _without_query(url), "write https, or download it by hand"
    )


def _is_loopback(host: str) -> bool:
  """Returns whether a host name or number means this machine.

  Such hosts are localhost, loopback addresses, also in a short form such as
  127.1, which the system understands, and 0.0.0.0. Other names are not
  resolved.
  """
  if host.rstrip(".").lower() == "localhost":
    return True
  try:
    address = ipaddress.ip_address(host.split("%")[0])
  except ValueError:
    try:
      address = ipaddress.ip_address(socket.inet_aton(host))
    except (OSError, ValueError):
      return False
  address = getattr(address, "ipv4_mapped", None) or address
  return address.is_loopback or address.is_unspecified


def _server(parts: parse.SplitResult) -> tuple[str, str, int | None]:
  """Returns (scheme, host, port) of an address; the port is None if missing."""
  try:
    return parts.scheme, parts.hostname or "", parts.port
  except ValueError:  # a port above 65535
    return parts.scheme, parts.netloc, None


def _without_query(url: str) -> str:
  """Returns an address for a message, without its query.

  The query may hold a secret.
  """
  return url.split("?")[0]


def _length(response: requests.Response, url: str) -> int | None:
  """Returns the announced size of a body in bytes; None for a body in chunks.

  Raises:
    options.InputError: when the answer does not state the end of its body.
  """
  announced = response.headers.get("Content-Length", "")
  if re.fullmatch(r"\d{1,15}", announced, re.ASCII):
    return int(announced)
  coding = response.headers.get("Transfer-Encoding", "").lower()
  if not announced and coding == "chunked":
    return None
  raise options.InputError(
    f"the length of {url}", announced[:50] or "none announced", _BY_HAND
  )


def _body(
  response: requests.Response, url: str, most: int, limit: str
) -> Iterator[bytes]:
  """Yields the bytes of a body, part by part.

  Args:
    response: an answer whose body is unread.
    url: the address, for messages.
    most: the largest number of bytes.
    limit: the reason for this limit in words, for messages.

  Raises:
    options.InputError: for more bytes than `most`, announced or not.
    requests.RequestException: for fewer bytes than were announced.
  """
  length = _length(response, url)
  if length is not None and length > most:
    raise _too_large(url, f"{length:,}", most, limit)
  if length is None:
    _refuse_negative_chunks(response, url)
  most = most if length is None else length
  size = 0
  for chunk in response.iter_content(_CHUNK):
    size += len(chunk)
    if size > most:
      raise _too_large(url, "more", most, limit)
    yield chunk
  if size < (length or 0):
    raise _Busy(f"{size:,} of {length:,} bytes")


def _refuse_negative_chunks(response: requests.Response, url: str) -> None:
  """Makes the reads of a body raise InputError for a chunk of negative length.

  urllib3 2.8 takes the length -1 for all bytes that come, without a limit, and
  -5 ends in a ValueError.
  """
  inner: Any = getattr(response.raw, "_fp", None)
  if not hasattr(inner, "_safe_read"):
    return
  read = inner._safe_read

  def checked(size: int) -> Any:
    if size < 0:
      raise options.InputError(
        f"the length of a chunk of {url}", str(size), _BY_HAND
      )
    return read(size)

  inner._safe_read = checked


def _too_large(url: str, got: str, most: int, limit: str) -> options.InputError:
  """Returns the error for a file that is too large.

  Args:
    url: the URL of the file.
    got: the size in words.
    most: the largest number of bytes.
    limit: the reason for this limit in words.
  """
  return options.InputError(
    f"at most {most:,} bytes from {url}, {limit}", got, "check the address"
  )


def small(url: str, most: int, advice: str, named: str = "") -> bytes:
  """Downloads a file of at most `most` bytes; returns its content.

  Args:
    url: the URL of the file.
    most: the largest number of bytes.
    advice: what the user should do if there is no such file.
    named: the address that the user named, if `url` came from elsewhere.

  Raises:
    options.InputError: for a larger file, when the server refuses, and when
      _MOST_TRIES (5) tries have failed.
  """
  for left in reversed(range(_MOST_TRIES)):
    try:
      with opened(url, {}, advice, named) as response:
        return b"".join(_body(response, url, most, "a short file"))
    except requests.RequestException as error:
      if not left:
        raise _silent(url, error) from error
      _wait(url, error, _MOST_TRIES - left)
  raise AssertionError("the last try returned or raised")


def _silent(url: str, error: Exception) -> options.InputError:
  """Returns the InputError for a server that does not answer.

  Args:
    url: the URL that was asked for.
    error: the error of the last try.
  """
  reason = str(error) if isinstance(error, _Busy) else type(error).__name__
  return options.InputError(
    f"an answer from {parse.urlsplit(url).netloc}",
    reason,
    f"check the network, or download {url} by hand and give --input_file or "
    "the local path",
  )


def _wait(url: str, error: Exception, tries: int) -> None:
  """Logs that a download is tried again; waits 2^tries / 8 s, at most 10 s.

  Args:
    url: the URL, for the message.
    error: why the last try failed.
    tries: the number of consecutive failed tries without progress.
  """
  reason = str(error) if isinstance(error, _Busy) else type(error).__name__
  logging.warning("%s: %s; trying again", url, reason)
  time.sleep(min(2.0**tries / 8, 10))


class Part:
  """A download that can be resumed where it stopped.

  The ETag of the server's version is kept beside the unfinished file, so that
  parts of two different versions are never combined.

  Args:
    path: the path of the unfinished file.
    url: the URL of the whole file.
    advice: what the user should do if there is no such file.
    most: the largest number of bytes that the whole file may have; None if only
      the server knows its size.
    named: the address that the user named, if `url` came from elsewhere.

  Attributes:
    path: the path of the unfinished file.
    tag: the ETag of the fetched version; "" if the server gives no ETag.
  """

  def __init__(
    self,
    path: str,
    url: str,
    advice: str,
    most: int | None = None,
    named: str = "",
  ) -> None:
    self.path, self.tag = path, ""
    self._url, self._advice, self._named = url, advice, named
    self._most = most
    self._note = f"{path}.json"

  def complete(self, known_tag: str = "") -> bool:
    """Downloads the part of the file that is missing.

    After a cut connection the download is resumed, until _MOST_TRIES (5) tries
    in a row have brought no byte.

    Args:
      known_tag: the ETag of a version that need not be fetched again.

    Returns:
      True if the file is now complete; False if the server still has the known
      version, so that nothing was downloaded.

    Raises:
      options.InputError: when the download fails; a file that is too large is
        not kept.
    """
    known_tag = _sendable(known_tag)
    tries, reached = 0, self._size()
    while True:
      try:
        ended = self._more(known_tag)
        if ended is not None:
          return ended
        error: Exception = EOFError("cut")
      except requests.RequestException as refused:
        error = refused
      tries = 0 if self._size() > reached else tries + 1
      reached = max(reached, self._size())
      if tries >= _MOST_TRIES:
        break
      _wait(self._url, error, tries)
    if not self._size():
      raise _silent(self._url, error) from error
    raise options.InputError(
      f"the rest of {self._url} after {self._size():,} bytes",
      f"nothing in {_MOST_TRIES} tries",
      "run it again later: it goes on from there",
    )

  def discard(self) -> None:
    """Removes the unfinished file and its ETag."""
    for path in (self.path, self._note):
      if os.path.lexists(path):
        os.unlink(path)

  def _size(self) -> int:
    """Returns the size of the unfinished file; 0 if there is none."""
    return os.path.getsize(self.path) if os.path.exists(self.path) else 0

  def _more(self, known_tag: str) -> bool | None:
    """Downloads as much as one connection delivers; returns the state.

    Returns:
      True: the file is complete; False: the server still has the known version;
      None: the connection was cut.

    Raises:
      options.InputError, requests.RequestException: as `opened`, `_total` and
        `_copy` do.
    """
    have, headers = self._size(), {}
    noted = json_files.read_note(self._note, str) if have else None
    if noted and _sendable(noted):
      self.tag = noted
      headers = {"Range": f"bytes={have}-", "If-Range": self.tag}
    elif known_tag:
      headers = {"If-None-Match": known_tag}
    with opened(self._url, headers, self._advice, self._named) as response:
      tag = response.headers.get("ETag", "")
      if response.status_code == 304 or (known_tag and tag == known_tag):
        self.tag = known_tag
        return False
      if response.status_code == 200:  # a new version, or ranges are unknown
        have = 0
      total = self._total(response, have, tag)
      if response.status_code == 416:  # nothing beyond what is here
        return True
      self._remember(tag or self.tag if have else tag)
      self._copy(response, have, total)
    return True if total is None or self._size() >= total else None

  def _total(
    self, response: requests.Response, have: int, tag: str
  ) -> int | None:
    """Returns the number of bytes of the whole file; None if it is unknown.

    Args:
      response: an answer of status 200, 206 or 416.
      have: the number of bytes of the unfinished file.
      tag: the ETag of the answer; "" if it has none.

    Raises:
      requests.RequestException: for a part that does not follow the first
        `have` bytes, or is of another version; the bytes here are discarded.
    """
    if response.status_code == 200:
      return _length(response, self._url)
    place = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", place, re.ASCII)
    first = str(have) if response.status_code == 206 else None
    if not match or match[1] != first or tag not in ("", self.tag):
      self.discard()
      raise _Busy(f"another part than was asked for: {place[:50]}")
    if first is None and match[2] != str(have):
      self.discard()
      raise _Busy(f"{have:,} bytes here, {match[2][:20]} there")
    return int(match[2]) if match[2] != "*" else None

  def _remember(self, tag: str) -> None:
    """Keeps the ETag of the version that is being fetched, on disk too.

    A weak ETag (W/…), or one that no header may contain, is not kept.
    """
    self.tag = "" if tag.startswith("W/") else _sendable(tag)
    if self.tag:
      with storage.writing(self._note, rights=0o644) as file:
        json.dump(self.tag, file)
    elif os.path.exists(self._note):
      os.unlink(self._note)

  def _copy(
    self, response: requests.Response, have: int, total: int | None
  ) -> None:
    """Writes a body after the first `have` bytes of the file.

    Args:
      response: the answer.
      have: number of bytes of the unfinished file, which are kept.
      total: bytes of the whole file; None if unknown.

    Raises:
      options.InputError: when the file is larger than allowed, which removes
        it; and when it is larger than the free disk, before a byte is written.
      requests.RequestException: when the connection is cut; the bytes that came
        are kept.
    """
    allowed = total if self._most is None else self._most
    allowed = _MOST_UNANNOUNCED if allowed is None else allowed
    if total is not None and total > allowed:
      self.discard()
      raise _too_large(self._url, f"{total:,}", allowed, "as its size is known")
    folder = os.path.dirname(self.path) or "."
    free = storage.free_bytes(folder) or 0
    if (total or have) - have > free:
      raise options.InputError(
        f"{(total or have) - have:,} free bytes in {folder}, for {self._url}",
        f"{free:,}",
        "make room, then run it again: it goes on from there",
      )
    mode = "ab" if have else "wb"
    most, limit = min(allowed - have, free), "or what the disk has room for"
    try:
      with (
        options.naming(self.path),
        open(self.path, mode, opener=_without_links) as file,
      ):
        self._write(_body(response, self._url, most, limit), file, have, total)
    except options.InputError:
      self.discard()
      raise

  def _write(
    self, body: Iterator[bytes], file: IO[bytes], have: int, total: int | None
  ) -> None:
    """Appends a body to a file, and logs the progress every ten seconds.

    Args:
      body: the parts of the body.
      file: the open file.
      have: the number of bytes that the file has already.
      total: bytes of the whole file, for the log; None if unknown.
    """
    began, first = time.monotonic(), have
    last_logged = began
    for chunk in body:
      file.write(chunk)
      have += len(chunk)
      if time.monotonic() - last_logged > 10:
        last_logged = time.monotonic()
        rate = (have - first) / (last_logged - began)
        logging.info(
          "%s: %.0f of %s MB, %.1f MB/s",
          os.path.basename(parse.urlsplit(self._url).path),
          have / 1e6,
          "?" if total is None else f"{total / 1e6:.0f}",
          rate / 1e6,
        )


def _sendable(tag: str) -> str:
  """Returns an ETag unchanged; "" for one that no request header may contain.

  A header may contain printable ASCII, here at most _LONGEST_TAG characters.
  """
  fits = tag.isascii() and tag.isprintable() and len(tag) <= _LONGEST_TAG
  return tag if fits else ""


def _without_links(path: str, flags: int) -> int:
  """Opens a file, but not through a symbolic link; returns its descriptor.

  An opener for `open`.

  Args:
    path: the path of the file.
    flags: the flags of os.open.

  Raises:
    OSError: when the file is a link or cannot be opened.
  """
  return os.open(path, flags | os.O_NOFOLLOW, 0o644)
