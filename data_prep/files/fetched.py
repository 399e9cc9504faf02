"""Caches files from gs:// and https:// by the hash of their content.

content/SHA256/NAME      a file, or in `unpacked/` the files of an archive
folders/SHA256/NAME      links to files that belong together; one hash for all
addresses/KEY.json       the hash and version of an address when last asked
parts/KEY                unfinished downloads, with a lock for each address

A name under content/ or folders/ appears only when it is complete. So any
number of processes may share a cache, and may be killed.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from urllib import parse

import requests
from absl import logging

from data_prep.base import options
from data_prep.files import archives, gcs, json_files, storage, transfers

_ADVICE = "mend the address"


def is_address(path: str) -> bool:
  """Returns whether a path is an address: gs://, https:// or http://."""
  return path.startswith((gcs.SCHEME, "https://", "http://"))


def default_folder() -> str:
  """Returns the default cache: $ALBERT_MN_CACHE, else ~/.cache/albert-mn.

  $XDG_CACHE_HOME, where it is set, takes the place of ~/.cache.
  """
  if named := os.environ.get("ALBERT_MN_CACHE"):
    return named
  home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  return os.path.join(home, "albert-mn")


def name_of(address: str) -> str:
  """Returns the name of the file at an address, without the query.

  Raises:
    options.InputError: for an address without the name of a file.
  """
  path = address if address.startswith(gcs.SCHEME) else _path(address)
  name = posixpath.basename(path.rstrip("/"))
  if name in ("", ".", ".."):
    raise options.InputError("an address of a file", address, _ADVICE)
  return name


def _path(url: str) -> str:
  return parse.unquote(parse.urlsplit(url).path)


def beside(address: str, name: str) -> str:
  """Returns the address of a file in a folder; the folder's query is kept."""
  if address.startswith(gcs.SCHEME):
    return f"{address.rstrip('/')}/{name}"
  parts = parse.urlsplit(address)
  path = f"{parts.path.rstrip('/')}/{parse.quote(name)}"
  return parse.urlunsplit(parts._replace(path=path))


class Cache:
  """A folder of fetched files.

  Args:
    folder: its path; "" for `default_folder`. It is made when needed.
  """

  def __init__(self, folder: str = ""):
    self.folder = folder or default_folder()

  def file(self, address: str, sha256: str = "") -> str:
    """Returns the local path of a file, which is fetched unless it is cached.

    Args:
      address: of the file.
      sha256: the hash that the file must have. "" accepts any file; the server
        is then asked whether a cached file is still the current version.

    Raises:
      options.InputError: when the file cannot be fetched, or has another hash.
    """
    name = name_of(address)
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
      raise options.InputError(
        "64 hexadecimal digits as a sha256", repr(sha256)[:100], "mend it"
      )
    if sha256 and os.path.exists(kept := self._kept(sha256, name)):
      return kept
    if not address.startswith(gcs.SCHEME):
      transfers.require_safe(address)
    key = hashlib.sha256(address.encode()).hexdigest()
    with self._locked(key, address):
      return self._fetched(address, name, key, sha256)

  def find(self, address: str) -> str:
    """Returns the local path of a file as `file` does; "" where there is none.

    The answers 401 and 403 count as "there is none", because some servers give
    them for missing files.
    """
    try:
      return self.file(address)
    except options.InputError as error:
      if error.got[:3] in ("401", "403", "404"):
        return ""
      raise

  def together(self, files: Mapping[str, str]) -> str:
    """Returns a folder in which links to files lie side by side.

    Args:
      files: name in the folder → path in this cache.

    Raises:
      options.InputError: for a name that holds a folder.
    """
    for name in files:
      if os.path.basename(name) != name or name in ("", ".", ".."):
        raise options.InputError(
          "names of files", repr(name), "do not trust where they come from"
        )
    listed = "\n".join(
      f"{name} {self._hash_of(path)}" for name, path in sorted(files.items())
    )
    key = hashlib.sha256(listed.encode()).hexdigest()
    target = os.path.join(self.folder, "folders", key)
    if not os.path.exists(target):
      with self._appearing(target) as folder:
        for name, path in files.items():
          _link(path, os.path.join(folder, name))
    return target

  def unpacked(self, archive: str) -> str:
    """Unpacks an archive unless it is unpacked already; returns the folder.

    Args:
      archive: in this cache, or any local archive, which stays where it is.
    """
    name = os.path.basename(archive)
    digest = self._hash_of(archive)
    if archive != self._kept(digest, name):
      digest = storage.sha256(archive)
    target = self._kept(digest, "unpacked")
    if not os.path.exists(target):
      with self._appearing(target) as folder:
        archives.unpack(archive, folder)
    return target

  def _kept(self, digest: str, name: str) -> str:
    return os.path.join(self.folder, "content", digest.lower(), name)

  def _hash_of(self, path: str) -> str:
    """Returns the hash of a cached file, which is the name of its folder."""
    return os.path.basename(os.path.dirname(path))

  def _fetched(self, address: str, name: str, key: str, sha256: str) -> str:
    note = os.path.join(self.folder, "addresses", f"{key}.json")
    known: dict[str, str] = json_files.read_note(note, dict[str, str]) or {}
    kept = self._kept(known.get("sha256", ""), name)
    if not known or not os.path.exists(kept):
      known = {}
    part = os.path.join(self.folder, "parts", key)
    tag = _complete(address, part, str(known.get("tag", "")))
    if tag is None:
      digest = str(known["sha256"])
      _require(address, digest, sha256)
      return kept
    digest = storage.sha256(part)
    try:
      _require(address, digest, sha256)
    except options.InputError:
      _discard(part)
      raise
    kept = self._kept(digest, name)
    os.makedirs(os.path.dirname(kept), exist_ok=True)
    os.replace(part, kept)
    _discard(part)
    with storage.writing(note) as file:
      # The query may hold a secret, which must not be written.
      shown = address.split("?")[0]
      json.dump({"address": shown, "tag": tag, "sha256": digest}, file)
    return kept

  @contextlib.contextmanager
  def _locked(self, key: str, address: str) -> Iterator[None]:
    """Lets one process at a time fetch from an address."""
    folder = os.path.join(self.folder, "parts")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"{key}.lock"), "w") as lock:
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        logging.info("%s: another process fetches it; waiting", address)
        fcntl.flock(lock, fcntl.LOCK_EX)
      yield

  @contextlib.contextmanager
  def _appearing(self, target: str) -> Iterator[str]:
    """Yields a temporary folder, which becomes `target` if the block succeeds.

    Raises:
      options.InputError: when the folder cannot be written.
    """
    above = os.path.dirname(target)
    os.makedirs(above, exist_ok=True)
    folder = tempfile.mkdtemp(prefix=".", dir=above)
    try:
      yield folder
      os.chmod(folder, 0o755)
      # Where another process was faster, its folder has the same content.
      with contextlib.suppress(OSError):
        os.rename(folder, target)
    finally:
      shutil.rmtree(folder, ignore_errors=True)
    if not os.path.exists(target):
      raise options.InputError(
        f"to write in {above}",
        "no permission",
        "name another folder in $ALBERT_MN_CACHE",
      )


def _complete(address: str, part: str, known_tag: str) -> str | None:
  """Fetches a file unless its version is the known one.

  It returns the tag of the fetched version. It returns None where the known
  version is the current one, or is used because no https:// connection can be
  made.
  """
  if address.startswith(gcs.SCHEME):
    return _complete_object(address, part, known_tag)
  unfinished = transfers.Part(part, address, _ADVICE)
  try:
    news = unfinished.complete(known_tag)
  except options.InputError as error:
    if not known_tag or not isinstance(
      error.__cause__, requests.ConnectionError
    ):
      raise
    logging.warning("%s; what was fetched before is used", error)
    return None
  return unfinished.tag if news else None


def _complete_object(address: str, part: str, known_tag: str) -> str | None:
  tag = gcs.version(address)
  if tag == known_tag:
    return None
  note = f"{part}.json"
  begun = storage.read_text(note).strip() if os.path.exists(note) else ""
  if begun != tag:
    _discard(part)
    with storage.writing(note) as file:
      file.write(tag)
  logging.info("fetching %s", address)
  gcs.download(address, part)
  return tag


def _require(address: str, digest: str, sha256: str) -> None:
  if sha256 and digest != sha256.lower():
    raise options.InputError(
      f"the sha256 {sha256} of {address}",
      digest,
      "run it again; if that does not help, it is another file",
    )


def _discard(part: str) -> None:
  for path in (part, f"{part}.json"):
    with contextlib.suppress(FileNotFoundError):
      os.unlink(path)


def _link(path: str, target: str) -> None:
  try:
    os.link(path, target)
  except OSError:  # the file system has no links
    shutil.copyfile(path, target)
