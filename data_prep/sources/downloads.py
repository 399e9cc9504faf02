"""Downloads the known corpora, and checks their checksums.

  corpus     host                                             licence
  wikipedia  dumps.wikimedia.org, with SHA-1 of each dump     CC BY-SA 4.0
  news       Yandex Disk: 700 million words, collected by     not stated: for
             tugstugi/mongolian-nlp                           use, not for
                                                              redistribution

The checksums come from the hosts of the files: they show damage, but not who
made a file. --download_sha256 is a checksum from elsewhere.
"""

import dataclasses
import hashlib
import os
import re
from urllib import parse

from absl import logging

from data_prep.base import options
from data_prep.files import json_files, transfers

WIKIPEDIA_HOST = "https://dumps.wikimedia.org"
NEWS_HOST = "https://cloud-api.yandex.net"
# From the README of tugstugi/mongolian-nlp.
_NEWS_KEY = "https://yadi.sk/d/z5e3MVnKvFvF6w"

_MOST_DESCRIPTION = 1 << 20  # bytes of a checksum list or an API's answer


_ADVICE = (
  "it may have moved or been taken down: try --dump_date=latest or "
  "--download_host, or download by hand and give --input_file"
)


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Download of a known corpus."""

  download: bool = options.option(
    False,
    "Download the known corpus of --source=wikipedia or --source=news "
    "first, and read the download.",
  )
  download_dir: str = options.option(
    "downloads",
    "Folder for downloaded files, where later runs find the files again.",
  )
  dump_date: str = options.option(
    "latest",
    "Date of the Wikipedia dump, such as 20261101, or latest.",
  )
  wiki: str = options.option(
    "mnwiki",
    "Name of the Wikipedia, such as mnwiki for the Mongolian one.",
  )
  download_host: str = options.option(
    "",
    "Mirror to download from, such as https://HOST. By default the host "
    "of the corpus.",
  )
  download_sha256: str = options.option(
    "",
    "SHA-256 hash that the download must have. By default the checksum that "
    "the host of the file gives, which shows damage, not who made the file.",
  )

  def check(self) -> None:
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
    given = self.download_sha256
    if given and not transfers.is_sha256(given):
      raise options.InputError(
        "--download_sha256 of 64 hexadecimal digits",
        repr(given),
        "mend it",
      )


@dataclasses.dataclass(frozen=True)
class Located:
  """A file to download, with its checksum.

  Attributes:
    url: the address.
    name: the name of the downloaded file.
    algorithm: hashlib's name of the checksum's algorithm.
    checksum: the expected checksum, hexadecimal in lower case.
    named: the address of the host that --download_host names, or of the
      corpus's own host.
  """

  url: str
  name: str
  algorithm: str
  checksum: str
  named: str


def fetch(source: str, settings: Options) -> str:
  """Downloads a source's corpus unless it is there; returns the local path.

  Args:
    source: the value of --source.
    settings: the options.

  Raises:
    options.InputError: for a source without a known corpus, a failed download,
      or a wrong checksum.
  """
  locate = {"wikipedia": _wikipedia, "news": _news}.get(source)
  if locate is None:
    raise options.InputError(
      "--download with --source=wikipedia or news",
      f"--source={source}",
      "leave --download out and give --input_file",
    )
  located = locate(settings)
  if settings.download_sha256:
    located = dataclasses.replace(
      located, algorithm="sha256", checksum=settings.download_sha256.lower()
    )
  path = os.path.join(settings.download_dir, located.name)
  if os.path.exists(path) and _checksum(path, located) == located.checksum:
    logging.info("%s is here already", path)
    return path
  os.makedirs(settings.download_dir, exist_ok=True)
  part = transfers.Part(
    f"{path}.part", located.url, _ADVICE, named=located.named
  )
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
  """Returns the address and SHA-1 of a dump, from the dump's list of checksums.

  For --dump_date=latest the list states the date.

  Raises:
    options.InputError: when the list has no such dump.
  """
  host = settings.download_host or WIKIPEDIA_HOST
  base = f"{host}/{settings.wiki}"
  date = settings.dump_date
  sums = _small(f"{base}/{date}/{settings.wiki}-{date}-sha1sums.txt")
  dump = rf"{re.escape(settings.wiki)}-(\d{{8}})-pages-articles\.xml\.bz2"
  pattern = rf"([0-9a-f]{{40}})\s+({dump})$"
  match = re.search(pattern, sums, re.MULTILINE)
  if not match:
    raise options.InputError(
      f"pages-articles.xml.bz2 among the checksums in {base}/{date}",
      "no such line",
      "the dump may still be running: give an earlier --dump_date",
    )
  checksum, name, dated = match.groups()
  return Located(f"{base}/{dated}/{name}", name, "sha1", checksum, host)


def _news(settings: Options) -> Located:
  """Returns the address and SHA-256 of the news, from Yandex Disk's public API.

  Raises:
    options.InputError: for an answer without an address or a SHA-256.
  """
  host = settings.download_host or NEWS_HOST
  key = parse.quote(_NEWS_KEY, safe="")
  answer = _small(f"{host}/v1/disk/public/resources?public_key={key}")
  try:
    entry = json_files.parsed(answer)
    name = os.path.basename(entry["name"])
    if name.startswith(".") or not (name and name.isprintable()):
      raise ValueError(f"a name of a file: {name!r}")
    checksum = entry["sha256"].lower()
    if not transfers.is_sha256(checksum) or not isinstance(entry["file"], str):
      raise ValueError("a checksum and an address")
    return Located(entry["file"], name, "sha256", checksum, host)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise options.InputError(
      f"the address of the news archive from {host}",
      f"an answer without {error}",
      f"download {_NEWS_KEY} by hand and give it as --input_file",
    ) from error


def _small(url: str) -> str:
  """Downloads a file of at most _MOST_DESCRIPTION bytes; returns its text.

  Raises:
    options.InputError: for a larger file, and when the download fails.
  """
  text = transfers.small(url, _MOST_DESCRIPTION, _ADVICE)
  return text.decode("utf-8", "replace")


def _checksum(path: str, located: Located) -> str:
  """Returns the hexadecimal checksum of a file, by `located`'s algorithm."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, located.algorithm).hexdigest()
