"""Downloads files over http(s), and resumes where a connection broke.

Errors that may pass (429, 5xx, a cut connection) are retried with back-off. Any
other error ends in an InputError of one line.
"""

import json
import os
import time
from typing import IO
from urllib import parse

import requests
from absl import logging

from data_prep.base import options
from data_prep.files import json_files, storage

_TIMEOUT = (30, 60)  # seconds to connect, and between two bytes
_CHUNK = 1 << 16  # bytes that a cut connection loses at most
_MOST_TRIES = 5  # in a row, without a byte of progress
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _Busy(requests.RequestException):
  """Raised for an answer that may change after a while."""


def opened(url: str, headers: dict[str, str], advice: str) -> requests.Response:
  """Opens a URL; returns the response.

  Args:
    url: of a file.
    headers: of the request.
    advice: what the user should do where there is no such file.

  Raises:
    options.InputError: for an error that no retry mends.
    requests.RequestException: for an error after which a retry may help.
  """
  # Sizes and ranges are of the file, not of a compressed answer.
  headers = {"Accept-Encoding": "identity", **headers}
  response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
  if url.startswith("https://"):
    require_safe(response.url)  # a redirect may have led to another URL
  status = response.status_code
  if status in (200, 206, 304, 416):
    return response
  answer = f"{status} {response.reason}"
  response.close()
  if status == 429 or status >= 500:
    raise _Busy(answer)
  if status in (401, 403):
    raise options.InputError(
      f"permission for {url}",
      answer,
      "get access, or download it by hand and give the local path",
    )
  raise options.InputError(url, answer, advice)


def require_safe(url: str) -> None:
  """Raises InputError for plain http, which can be tampered with on its way.

  Loopback is allowed.

  Raises:
    options.InputError: for http to another machine.
  """
  parts = parse.urlsplit(url)
  if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
    raise options.InputError(
      "https://", url, "write https, or download it by hand"
    )


def small(url: str, most: int, advice: str, tries: int = _MOST_TRIES) -> bytes:
  """Downloads a file of at most `most` bytes; returns its content.

  Raises:
    options.InputError: for a larger file, and when the download fails.
  """
  for left in reversed(range(tries)):
    try:
      with opened(url, {}, advice) as response:
        content = b""
        for chunk in response.iter_content(_CHUNK):
          content += chunk
          if len(content) > most:
            raise options.InputError(
              f"at most {most:,} bytes from {url}", "more", "check the address"
            )
        return content
    except requests.RequestException as error:
      if not left:
        raise _silent(url, error) from error
      _wait(url, error, tries - left)
  raise AssertionError("the last try returned or raised")


def _silent(url: str, error: Exception) -> options.InputError:
  reason = str(error) if isinstance(error, _Busy) else type(error).__name__
  return options.InputError(
    f"an answer from {parse.urlsplit(url).netloc}",
    reason,
    f"check the network, or download {url} by hand and give --input_file or "
    "the local path",
  )


def _wait(url: str, error: Exception, tries: int) -> None:
  reason = str(error) if isinstance(error, _Busy) else type(error).__name__
  logging.warning("%s: %s; trying again", url, reason)
  time.sleep(min(2.0**tries / 8, 10))


class Part:
  """A download that can be resumed where it stopped.

  The ETag of the server's version is kept beside the unfinished file, so that
  halves of two different versions are never joined.

  Args:
    path: of the unfinished file.
    url: of the whole file.
    advice: what the user should do where there is no such file.

  Attributes:
    path: of the unfinished file.
    tag: of the version that was fetched; "" where the server names none.
  """

  def __init__(self, path: str, url: str, advice: str):
    self.path, self.tag = path, ""
    self._url, self._advice = url, advice
    self._note = f"{path}.json"

  def complete(self, known_tag: str = "") -> bool:
    """Downloads the missing rest; a cut connection is resumed.

    Args:
      known_tag: of a version that need not be fetched again.

    Returns:
      False where the server still has the known version, else True.

    Raises:
      options.InputError: when the download fails.
    """
    tries = 0
    while True:
      before = self._size()
      try:
        ended = self._more(known_tag)
        if ended is not None:
          return ended
        error: Exception = EOFError("cut")
      except requests.RequestException as refused:
        error = refused
      tries = 0 if self._size() > before else tries + 1
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
      if os.path.exists(path):
        os.unlink(path)

  def _size(self) -> int:
    return os.path.getsize(self.path) if os.path.exists(self.path) else 0

  def _more(self, known_tag: str) -> bool | None:
    """Downloads as much as one connection delivers.

    Returns:
      True: the file is complete; False: the server still has the known version;
      None: the connection was cut.
    """
    have, headers = self._size(), {}
    noted = json_files.read_note(self._note, str) if have else None
    if noted:
      self.tag = noted
      headers = {"Range": f"bytes={have}-", "If-Range": self.tag}
    elif known_tag:
      headers = {"If-None-Match": known_tag}
    with opened(self._url, headers, self._advice) as response:
      if response.status_code == 416:  # nothing beyond what is here
        return True
      tag = response.headers.get("ETag", "")
      if response.status_code == 304 or (known_tag and tag == known_tag):
        self.tag = known_tag
        return False
      if response.status_code == 200:  # a new version, or ranges are unknown
        have = 0
      self._remember(tag)
      total = have + int(response.headers.get("Content-Length", 0))
      mode = "ab" if have else "wb"
      with options.naming(self.path), open(self.path, mode) as file:
        self._copy(response, file, have, total)
    return True if self._size() >= total else None

  def _remember(self, tag: str) -> None:
    self.tag = "" if tag.startswith("W/") else tag
    if self.tag:
      with storage.writing(self._note) as file:
        json.dump(self.tag, file)
    elif os.path.exists(self._note):
      os.unlink(self._note)

  def _copy(
    self, response: requests.Response, file: IO[bytes], have: int, total: int
  ) -> None:
    began, first = time.monotonic(), have
    said = began
    for chunk in response.iter_content(_CHUNK):
      file.write(chunk)
      have += len(chunk)
      if time.monotonic() - said > 10:
        said = time.monotonic()
        rate = (have - first) / (said - began)
        logging.info(
          "%s: %.0f of %.0f MB, %.1f MB/s",
          os.path.basename(parse.urlsplit(self._url).path),
          have / 1e6, total / 1e6, rate / 1e6,
        )  # fmt: skip
