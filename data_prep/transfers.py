"""Files over http(s), taken up again where a connection broke.

What helps to be tried again (429, 5xx, a cut connection) is, with back-off;
what does not ends in one clear line.
"""

import json
import os
import time
from typing import IO
from urllib import parse

import requests
from absl import logging

from data_prep import json_files, options, storage

_TIMEOUT = (30, 60)  # seconds to connect, and between two bytes
_CHUNK = 1 << 16  # what a cut connection loses at most
_MOST_TRIES = 5  # without a byte of progress between them
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _Busy(requests.RequestException):
  """An answer after which it helps to wait."""


def opened(url: str, headers: dict[str, str], advice: str) -> requests.Response:
  """Opens a URL.

  Args:
    url: of a file.
    headers: of the request.
    advice: what to do where there is no such file.

  Raises:
    options.InputError: for what the server refuses for good.
    requests.RequestException: for what may be tried again.
  """
  # Sizes and ranges are of the file, not of a compressed answer.
  headers = {"Accept-Encoding": "identity", **headers}
  response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
  if url.startswith("https://"):
    require_safe(response.url)  # it may have led elsewhere
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
  """Refuses plain http, which anybody on the way may change, but on loopback.

  Raises:
    options.InputError: for it.
  """
  parts = parse.urlsplit(url)
  if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
    raise options.InputError(
      "https://", url, "write https, or download it by hand"
    )


def small(url: str, most: int, advice: str, tries: int = _MOST_TRIES) -> bytes:
  """Returns the content of a file of at most `most` bytes."""
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
  """A download that goes on where it stopped.

  What tells the server's versions apart, its ETag, is kept beside it, so that
  two halves of different files are never joined.

  Args:
    path: of the unfinished file.
    url: of the whole one.
    advice: what to do where there is none.

  Attributes:
    path: the same.
    tag: of the version that was fetched; "" where the server names none.
  """

  def __init__(self, path: str, url: str, advice: str):
    self.path, self.tag = path, ""
    self._url, self._advice = url, advice
    self._note = f"{path}.json"

  def complete(self, known_tag: str = "") -> bool:
    """Fetches what is missing; a cut connection is taken up again.

    Args:
      known_tag: of a version that need not be fetched again.

    Returns:
      False where the server still has that version.

    Raises:
      options.InputError: when it cannot be had.
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
    """Removes what is left of it."""
    for path in (self.path, self._note):
      if os.path.exists(path):
        os.unlink(path)

  def _size(self) -> int:
    return os.path.getsize(self.path) if os.path.exists(self.path) else 0

  def _more(self, known_tag: str) -> bool | None:
    """Takes one connection as far as it goes.

    Returns:
      Whether there was something to fetch; None where it was cut.
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
      if response.status_code == 200:  # another file now, or no ranges there
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
