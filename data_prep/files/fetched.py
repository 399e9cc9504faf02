"""Caches files from gs:// and https:// by the hash of their content.

content/SHA256/NAME      a file, or in `unpacked/` the files of an archive
folders/SHA256/NAME      links to files that belong together; one hash for all
addresses/KEY.json       the hash and version of an address when last asked
parts/KEY                unfinished downloads, with a lock for each address

tokenizers/SHA256/NAME   a tokenizer that was made from a file of that hash

A name under content/ or folders/ appears only when it is complete. So any
number of processes may share a cache, and may be killed.

The cache belongs to one user: a folder in it that others own or may write is
refused, and so is a link. A file is hashed before each use.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from urllib import parse

import requests
from absl import logging

from data_prep.base import options
from data_prep.files import archives, gcs, json_files, storage, transfers

_ADVICE = "mend the address"
# Permissions of the files in a cache: the umask of many systems would let a
# group write.
_RIGHTS = 0o644


def is_address(path: str) -> bool:
  """Returns whether a path is an address: gs://, https:// or http://."""
  return path.startswith((gcs.SCHEME, "https://", "http://"))


def default_folder() -> str:
  """Returns the default cache: $ALBERT_MN_CACHE, else ~/.cache/albert-mn.

  If $XDG_CACHE_HOME is set, it takes the place of ~/.cache.
  """
  if named := os.environ.get("ALBERT_MN_CACHE"):
    return named
  home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  return os.path.join(home, "albert-mn")


def name_of(address: str) -> str:
  """Returns the file name in an address, unquoted and without the query.

  Raises:
    options.InputError: for an address without the name of a file.
  """
  path = address if address.startswith(gcs.SCHEME) else _path(address)
  name = posixpath.basename(path.rstrip("/"))
  if name in ("", ".", ".."):
    raise options.InputError("an address of a file", address, _ADVICE)
  return name


def _path(url: str) -> str:
  """Returns the path of a URL, unquoted and without the query."""
  return parse.unquote(parse.urlsplit(url).path)


def beside(address: str, name: str) -> str:
  """Returns the address of the file `name` in a folder.

  The query of the folder's address is kept at the end.

  Args:
    address: the address of the folder.
    name: the unquoted name of the file; in a URL the function quotes it.
  """
  if address.startswith(gcs.SCHEME):
    return f"{address.rstrip('/')}/{name}"
  parts = parse.urlsplit(address)
  path = f"{parts.path.rstrip('/')}/{parse.quote(name)}"
  return parse.urlunsplit(parts._replace(path=path))


class Cache:
  """A folder of files fetched from gs:// and https://.

  Args:
    folder: the path of the cache; "" for `default_folder`. The folder is made
      when it is needed, with rights for this user alone.
  """

  def __init__(self, folder: str = "") -> None:
    self.folder = folder or default_folder()

  def file(
    self, address: str, sha256: str = "", most: int | None = None
  ) -> str:
    """Returns the local path of a file, which is fetched unless it is cached.

    If no https:// connection can be made, the version in the cache is used,
    unless a part of a newer one has been fetched. If another process is
    fetching the same address, the function waits for it.

    Args:
      address: the address of the file.
      sha256: the hash that the file must have. "" accepts any file; the server
        is then asked whether a cached file is still the current version.
      most: the largest size in bytes of a file to fetch; None for any size.

    Raises:
      options.InputError: when the file cannot be fetched, or has another hash;
        for a `sha256` that is no hash, or an address that is not safe; or when
        the cache is not this user's own.
    """
    name = name_of(address)
    if sha256 and not transfers.is_sha256(sha256):
      raise options.InputError(
        "64 hexadecimal digits as a sha256", repr(sha256)[:100], "mend it"
      )
    if sha256 and (kept := self._held(sha256.lower(), name)):
      return kept
    if not address.startswith(gcs.SCHEME):
      transfers.require_safe(address)
    key = hashlib.sha256(address.encode()).hexdigest()
    with self._locked(key, address):
      return self._fetched(address, name, key, sha256.lower(), most)

  def find(self, address: str, most: int, sha256: str = "") -> str:
    """Returns the local path of a file, as `file` does; "" if it is missing.

    The answers 401 and 403 count as "missing", because some servers give them
    for missing files.

    Args:
      address: the address of the file.
      most: the largest size in bytes of a file to fetch.
      sha256: the hash that the file must have; "" for any.

    Raises:
      options.InputError: for any other error of `file`.
    """
    try:
      return self.file(address, sha256, most)
    except options.InputError as error:
      if error.got[:3] in ("401", "403", "404"):
        return ""
      raise

  def together(self, files: Mapping[str, str]) -> str:
    """Returns the path of a folder in the cache with exactly the given files.

    The files in the folder are hard links to the given ones, or copies where
    the disk has no links. A folder whose files were changed is made again.

    Args:
      files: name in the folder → path in this cache.

    Raises:
      options.InputError: for a name that contains a folder.
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
    target = self._inside("folders", key)
    if os.path.exists(target) and not self._are_together(key, files):
      _remove_damaged(target)
    if not os.path.exists(target):
      with self._appearing("folders", key) as folder:
        for name, path in files.items():
          _link(path, os.path.join(folder, name))
    return target

  def _are_together(self, key: str, files: Mapping[str, str]) -> bool:
    """Returns whether folders/KEY holds exactly the given files, unchanged.

    Args:
      key: the name of the folder.
      files: name in the folder → path in this cache.
    """
    if set(os.listdir(self._inside("folders", key))) != files.keys():
      return False
    places = {n: self._inside("folders", key, n) for n in files}
    return all(
      os.path.samefile(places[name], path)
      or storage.sha256(places[name]) == self._hash_of(path)
      for name, path in files.items()
    )

  def unpacked(self, archive: str, compared: bool = False) -> str:
    """Returns the folder of the cache with the unpacked files of an archive.

    The archive is unpacked if this folder does not exist yet.

    Args:
      archive: the path of an archive in this cache, or of any local one, which
        stays where it is.
      compared: whether files that were unpacked earlier are compared with the
        archive, byte by byte.

    Raises:
      options.InputError: when the archive is damaged, or is refused by
        `archives.unpack`, or the cache is not this user's own.
    """
    name = os.path.basename(archive)
    digest = self._hash_of(archive)
    if archive != os.path.join(self.folder, "content", digest, name):
      digest = storage.sha256(archive)
    target = self._inside("content", digest, "unpacked")
    there = os.path.exists(target)
    if there and compared and not archives.is_unpacked(archive, target):
      _remove_damaged(target)
    if not os.path.exists(target):
      with self._appearing("content", digest, "unpacked") as folder:
        archives.unpack(archive, folder)
    return target

  def tokenizer(self, digest: str, name: str, data: bytes) -> str:
    """Returns the path of a tokenizer with these bytes, written if needed.

    Args:
      digest: the hash of the file that the tokenizer was made from.
      name: the name of the tokenizer's file.
      data: its bytes.
    """
    target = self._inside("tokenizers", digest, name)
    if not os.path.exists(target) or storage.read_bytes(target) != data:
      self._made("tokenizers", digest)
      with storage.writing(target, "wb", _RIGHTS) as file:
        file.write(data)
    return target

  def _inside(self, *parts: str) -> str:
    """Returns the path of `parts` in the cache, at which nothing need exist.

    The owner and the permissions of the file or folder and of all folders above
    it in the cache are checked.

    Raises:
      options.InputError: for a link, and for a file or folder that other users
        own or may write to.
    """
    path = self.folder
    _require_own(path, os.stat)  # the user's own name for it may be a link
    for part in parts:
      path = os.path.join(path, part)
      _require_own(path, os.lstat)
    return path

  def _made(self, *parts: str) -> str:
    """Makes a folder in the cache, for this user alone; returns its path.

    Raises:
      options.InputError: for a link, and for a folder that other users own or
        may write to.
    """
    self._inside(*parts)
    os.makedirs(os.path.dirname(os.path.abspath(self.folder)), exist_ok=True)
    for place in range(len(parts) + 1):
      with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.join(self.folder, *parts[:place]), 0o700)
    return self._inside(*parts)

  def _held(self, digest: str, name: str) -> str:
    """Returns the path of a cached file; "" if no cached file has this hash.

    A file whose content no longer has the hash in its path is removed.

    Args:
      digest: the SHA-256 of the file.
      name: the name of the file.
    """
    path = self._inside("content", digest, name)
    if not os.path.exists(path):
      return ""
    if storage.sha256(path) != digest:
      _remove_damaged(path)
      return ""
    return path

  def _hash_of(self, path: str) -> str:
    """Returns the hash of a cached file, which is the name of its folder."""
    return os.path.basename(os.path.dirname(path))

  def _fetched(
    self, address: str, name: str, key: str, sha256: str, most: int | None
  ) -> str:
    """Returns the path of a file, fetched unless the cache has this version.

    Args:
      address: the address.
      name: the name of the file.
      key: the hash of the address.
      sha256: the hash that the file must have; "" for any.
      most: the largest size in bytes; None for any.

    Raises:
      options.InputError: when the file cannot be fetched, or has another hash.
    """
    note = self._inside("addresses", f"{key}.json")
    known: dict[str, str] = json_files.read_note(note, dict[str, str]) or {}
    kept = ""
    if transfers.is_sha256(known.get("sha256", "")):
      kept = self._held(known["sha256"], name)
    part = self._inside("parts", key)
    self._inside("parts", f"{key}.json")
    known_tag = str(known.get("tag", "")) if kept else ""
    tag = _complete(address, part, known_tag, most, bool(kept))
    if tag is None:
      _require(address, known["sha256"], sha256)
      return kept
    digest = storage.sha256(part)
    try:
      _require(address, digest, sha256)
    except options.InputError:
      _discard(part)
      raise
    kept = os.path.join(self._made("content", digest), name)
    os.replace(part, kept)
    _discard(part)
    self._made("addresses")
    with storage.writing(note, rights=_RIGHTS) as file:
      # The query may hold a secret, which must not be written.
      shown = address.split("?")[0]
      json.dump({"address": shown, "tag": tag, "sha256": digest}, file)
    return kept

  @contextlib.contextmanager
  def _locked(self, key: str, address: str) -> Iterator[None]:
    """Holds the lock of an address in the context, after waiting for it.

    While one process holds the lock, no other process fetches the address.

    Args:
      key: the hash of the address.
      address: the address, for messages.
    """
    self._made("parts")
    path = self._inside("parts", f"{key}.lock")
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "r+") as lock:
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        logging.info("%s: another process fetches it; waiting", address)
        fcntl.flock(lock, fcntl.LOCK_EX)
      yield

  @contextlib.contextmanager
  def _appearing(self, *parts: str) -> Iterator[str]:
    """Yields a temporary folder; if the block succeeds, gives it its path.

    If another process has made a folder with this path meanwhile, that folder
    is kept, and the temporary one is removed.

    Args:
      *parts: the path of the folder in the cache.

    Raises:
      options.InputError: when the folder cannot be written.
    """
    above = self._made(*parts[:-1])
    target = os.path.join(above, parts[-1])
    folder = tempfile.mkdtemp(prefix=".", dir=above)
    try:
      yield folder
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


def _require_own(path: str, look: Callable[[str], os.stat_result]) -> None:
  """Raises InputError for a link, and for a path that is not this user's alone.

  Such a path has another owner, or its group or all users may write to it.

  Args:
    path: a file or folder of the cache, which may be missing.
    look: os.stat or os.lstat.
  """
  try:
    state = look(path)
  except FileNotFoundError:
    return
  if not (stat.S_ISDIR(state.st_mode) or stat.S_ISREG(state.st_mode)):
    fault = "a link or a device"
  elif state.st_uid != os.geteuid():
    fault = f"one that user {state.st_uid} owns"
  elif state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
    fault = f"one that others may write, mode {stat.S_IMODE(state.st_mode):o}"
  else:
    return
  raise options.InputError(
    f"a cache that only you can write, {path}",
    fault,
    "name another folder in $ALBERT_MN_CACHE; or, if you trust all that lies "
    "there, take the others' permission: chmod -R go-w",
  )


def _remove_damaged(path: str) -> None:
  """Removes a file or folder of the cache, and logs why."""
  logging.warning("%s was changed after it was fetched; making it again", path)
  if os.path.isdir(path):
    shutil.rmtree(path)
  else:
    os.unlink(path)


def _complete(
  address: str, part: str, known_tag: str, most: int | None, is_held: bool
) -> str | None:
  """Fetches a file unless the cache has its version; returns the new tag.

  The tag is an ETag or, in a bucket, a generation; "" if the server gives no
  ETag. The result is None if the version in the cache is the current one, or if
  it is used because no https:// connection can be made.

  Args:
    address: the address of the file.
    part: the path of the unfinished download.
    known_tag: the tag of the version in the cache; "" if there is no version or
      tag.
    most: the largest size in bytes; None for any.
    is_held: whether the cache has a version, with or without a tag.

  Raises:
    options.InputError: when the file cannot be fetched, or is too large.
  """
  if address.startswith(gcs.SCHEME):
    return _complete_object(address, part, known_tag, most)
  unfinished = transfers.Part(part, address, _ADVICE, most)
  try:
    news = unfinished.complete(known_tag)
  except options.InputError as error:
    if not is_held or not isinstance(error.__cause__, requests.ConnectionError):
      raise
    logging.warning("%s; what was fetched before is used", error)
    return None
  return unfinished.tag if news else None


def _complete_object(
  address: str, part: str, known_tag: str, most: int | None
) -> str | None:
  """Downloads an object of a bucket to the file `part`.

  Nothing is downloaded if the known version is the current one.

  Args:
    address: the gs:// address.
    part: the path of the unfinished download.
    known_tag: the generation of the version in the cache; "" for none.
    most: the largest size in bytes; None for any.

  Returns:
    the generation of the downloaded version; None if nothing was downloaded.
  """
  tag = gcs.version(address)
  if tag == known_tag:
    return None
  note = f"{part}.json"
  begun = storage.read_text(note).strip() if os.path.exists(note) else ""
  if begun != tag:
    _discard(part)
    with storage.writing(note, rights=_RIGHTS) as file:
      file.write(tag)
  logging.info("fetching %s", address)
  gcs.download(address, part, most)
  return tag


def _require(address: str, digest: str, sha256: str) -> None:
  """Raises InputError if a file has another hash than the expected one.

  Args:
    address: the address of the file, for the message.
    digest: the hash of the file.
    sha256: the expected hash; "" for any.
  """
  if sha256 and digest != sha256.lower():
    raise options.InputError(
      f"the sha256 {sha256} of {address}",
      digest,
      "run it again; if that does not help, it is another file",
    )


def _discard(part: str) -> None:
  """Removes an unfinished download, and the file that notes its version."""
  for path in (part, f"{part}.json"):
    with contextlib.suppress(FileNotFoundError):
      os.unlink(path)


def _link(path: str, target: str) -> None:
  """Makes a hard link to a file, or a copy where links are impossible.

  Args:
    path: the file.
    target: the path of the link or copy.
  """
  try:
    os.link(path, target)
  except OSError:  # the file system has no links
    shutil.copyfile(path, target)
