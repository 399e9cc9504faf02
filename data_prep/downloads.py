"""The known corpora: where they lie, and how they get here whole.

| corpus | where | licence |
| --- | --- | --- |
| wikipedia | dumps.wikimedia.org, SHA-1 beside each dump | CC BY-SA 4.0 |
| news | 700 million words collected by tugstugi/mongolian-nlp, on Yandex Disk | \
not stated: for use, not for redistribution |
"""

import dataclasses
import hashlib
import json
import os
import re
import time
from typing import IO
from urllib import parse

import requests
from absl import logging

from data_prep import options, storage

WIKIPEDIA_HOST = "https://dumps.wikimedia.org"
NEWS_HOST = "https://cloud-api.yandex.net"
# As tugstugi/mongolian-nlp's README names it.
_NEWS_KEY = "https://yadi.sk/d/z5e3MVnKvFvF6w"

_TIMEOUT = (30, 60)  # seconds to connect, and between two bytes
_CHUNK = 1 << 20
_MOST_TRIES = 5  # without a byte of progress between them
_MOST_DESCRIPTION = 1 << 20  # bytes of a checksum list or an API's answer


@dataclasses.dataclass(frozen=True)
class Options:
  """What to fetch, from where."""

  download: bool = options.option(
    False, "fetch the --source's known corpus first (wikipedia, news)"
  )
  download_dir: str = options.option(
    "downloads", "where downloads go, and stay for the next run"
  )
  dump_date: str = options.option(
    "latest", "which Wikipedia dump: latest, or a date such as 20261101"
  )
  wiki: str = options.option("mnwiki", "which Wikipedia")
  download_host: str = options.option(
    "", "a mirror, instead of the corpus' own host, as https://HOST"
  )

  def __post_init__(self) -> None:
    if not re.fullmatch(r"latest|\d{8}", self.dump_date):
      raise options.InputError(
        "--dump_date=latest or eight digits",
        repr(self.dump_date),
        "write it as 20261101",
      )
    if not re.fullmatch(r"[a-z_]+", self.wiki):
      raise options.InputError(
        "--wiki in small letters", repr(self.wiki), "write it as mnwiki"
      )


@dataclasses.dataclass(frozen=True)
class Located:
  """A file to fetch, and how to know that it came whole.

  Attributes:
    url: where.
    name: the file's name here.
    algorithm: of the checksum, as hashlib names it.
    checksum: hexadecimal.
  """

  url: str
  name: str
  algorithm: str
  checksum: str


def fetch(source: str, settings: Options) -> str:
  """Returns the path of a source's corpus, downloaded if it is not there.

  Raises:
    options.InputError: when it cannot be had, or came damaged.
  """
  locate = {"wikipedia": _wikipedia, "news": _news}.get(source)
  if locate is None:
    raise options.InputError(
      "--download with --source=wikipedia or news",
      f"--source={source}",
      "leave --download out and give --input_file",
    )
  located = locate(settings)
  path = os.path.join(settings.download_dir, located.name)
  if os.path.exists(path) and _checksum(path, located) == located.checksum:
    logging.info("%s is here already", path)
    return path
  os.makedirs(settings.download_dir, exist_ok=True)
  part = _Part(f"{path}.part", located)
  part.complete()
  if _checksum(part.path, located) != located.checksum:
    part.discard()
    raise options.InputError(
      f"{located.algorithm} {located.checksum} of {located.url}",
      "another",
      "run it again; if that does not help, the file on the server is damaged",
    )
  os.replace(part.path, path)
  part.discard()
  return path


def _wikipedia(settings: Options) -> Located:
  """Finds a dump, `latest` by the date that its list of checksums names."""
  host = settings.download_host or WIKIPEDIA_HOST
  base = f"{host}/{settings.wiki}"
  date = settings.dump_date
  sums = _small(f"{base}/{date}/{settings.wiki}-{date}-sha1sums.txt")
  pattern = (
    rf"([0-9a-f]{{40}})\s+({settings.wiki}-(\d{{8}})-pages-articles\.xml\.bz2)$"
  )
  found = re.search(pattern, sums, re.MULTILINE)
  if not found:
    raise options.InputError(
      f"pages-articles.xml.bz2 among the checksums in {base}/{date}",
      "no such line",
      "the dump may still be running: give an earlier --dump_date",
    )
  checksum, name, dated = found.groups()
  return Located(f"{base}/{dated}/{name}", name, "sha1", checksum)


def _news(settings: Options) -> Located:
  """Asks Yandex Disk's public API for the file's address and SHA-256."""
  host = settings.download_host or NEWS_HOST
  key = parse.quote(_NEWS_KEY, safe="")
  answer = _small(f"{host}/v1/disk/public/resources?public_key={key}")
  try:
    entry = json.loads(answer)
    name = os.path.basename(entry["name"])
    return Located(entry["file"], name, "sha256", entry["sha256"])
  except (json.JSONDecodeError, KeyError, TypeError) as error:
    raise options.InputError(
      f"the address of the news archive from {host}",
      f"an answer without {error}",
      f"download {_NEWS_KEY} by hand and give it as --input_file",
    ) from error


def _small(url: str) -> str:
  """Returns the text of a short file."""
  with _opened(url, {}) as response:
    text = b""
    for chunk in response.iter_content(_CHUNK):
      text += chunk
      if len(text) > _MOST_DESCRIPTION:
        raise options.InputError(
          f"at most {_MOST_DESCRIPTION:,} bytes from {url}",
          "more",
          "check --download_host",
        )
  return text.decode("utf-8", "replace")


def _opened(url: str, headers: dict[str, str]) -> requests.Response:
  """Opens a URL; what the server or the network refuses is said in a line."""
  try:
    response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
  except requests.RequestException as error:
    raise options.InputError(
      f"an answer from {parse.urlsplit(url).netloc}",
      type(error).__name__,
      f"check the network, or download {url} by hand and give --input_file",
    ) from error
  if response.status_code not in (200, 206, 416):
    response.close()
    raise options.InputError(
      f"{url}",
      f"{response.status_code} {response.reason}",
      "it may have moved or been taken down: try --dump_date=latest or "
      "--download_host, or download by hand and give --input_file",
    )
  return response


class _Part:
  """A download that goes on where it stopped.

  The server's ETag is kept beside it, so that two halves of different files
  are never joined.
  """

  def __init__(self, path: str, located: Located):
    self.path, self._located = path, located
    self._note = f"{path}.json"

  def complete(self) -> None:
    """Fetches what is missing; a cut connection is taken up again."""
    tries = 0
    while tries < _MOST_TRIES:
      before = self._size()
      try:
        if self._more():
          return
      except (requests.RequestException, OSError) as error:
        if not isinstance(error, requests.RequestException):
          raise
        logging.warning("%s: %s", self._located.url, type(error).__name__)
      tries = 0 if self._size() > before else tries + 1
      time.sleep(min(2.0**tries / 8, 10))
    raise options.InputError(
      f"the rest of {self._located.url} after {self._size():,} bytes",
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

  def _more(self) -> bool:
    """Takes one connection as far as it goes; says whether that is the end."""
    have, headers = self._size(), {}
    if have and os.path.exists(self._note):
      tag = json.loads(storage.read_text(self._note))
      headers = {"Range": f"bytes={have}-", "If-Range": tag}
    with _opened(self._located.url, headers) as response:
      if response.status_code == 416:  # nothing beyond what is here
        return True
      if response.status_code == 200:  # another file now, or no ranges there
        have = 0
      self._remember(response)
      total = have + int(response.headers.get("Content-Length", 0))
      with open(self.path, "ab" if have else "wb") as file:
        self._copy(response, file, have, total)
    return self._size() >= total

  def _remember(self, response: requests.Response) -> None:
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
      with storage.writing(self._note) as file:
        json.dump(tag, file)
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
          self._located.name, have / 1e6, total / 1e6, rate / 1e6,
        )  # fmt: skip


def _checksum(path: str, located: Located) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, located.algorithm).hexdigest()
