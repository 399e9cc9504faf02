"""Reads and writes objects on Google Cloud Storage.

Errors that may pass (429, 5xx, a cut connection) are retried with back-off, and
each retry is logged. Any other error ends in an InputError of one line. An
object that exists is complete: it is uploaded from a finished file, with its
checksum, and only if no other process has written it meanwhile. Only `storage`,
`fetched` and `ownership` call this module.

The environment variable STORAGE_EMULATOR_HOST names another server, such as a
test's.
"""

import base64
import contextlib
import fnmatch
import functools
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import google_crc32c
import requests
from absl import logging

from data_prep.base import options

if TYPE_CHECKING:
  from google.cloud import storage

SCHEME = "gs://"

_CHUNK = 8 << 20  # bytes of a request; uploads need a multiple of 256 KiB
_PATIENCE = 120.0  # seconds of retries


@functools.cache
def _client() -> "storage.Client":
  """Returns the client of Google Cloud Storage, made at the first call.

  Raises:
    options.InputError: when there are no credentials.
  """
  # Imported here, since a run on local files should not wait for it.
  from google.auth import credentials, exceptions
  from google.cloud import storage

  if os.environ.get("STORAGE_EMULATOR_HOST"):
    return storage.Client(
      project="local", credentials=credentials.AnonymousCredentials()
    )
  try:
    return storage.Client()
  except (exceptions.DefaultCredentialsError, OSError) as error:
    raise options.InputError(
      "credentials for Google Cloud Storage",
      "none",
      "run `gcloud auth application-default login`, or set "
      "GOOGLE_APPLICATION_CREDENTIALS",
    ) from error


def _errors() -> Any:
  """Returns the module google.api_core.exceptions, imported when needed."""
  from google.api_core import exceptions

  return exceptions


def _corruption() -> Any:
  """Returns the exception class that the client raises for damaged content."""
  from google.cloud.storage import exceptions

  return exceptions.DataCorruption


@functools.cache
def _retry() -> Any:
  """Returns the client's default policy of retries, made to log each retry."""
  from google.cloud.storage import retry

  def say(error: Exception) -> None:
    logging.warning("Google Cloud Storage: %s; trying again", _short(error))

  policy = retry.DEFAULT_RETRY.with_timeout(_PATIENCE).with_delay(0.2, 20.0)
  policy._on_error = say  # its with_… methods do not offer it
  return policy


def _short(error: BaseException) -> str:
  """Returns the message of an exception as one line.

  The messages of the service have many lines.
  """
  return f"{type(error).__name__} {str(error)[:120]}".split("\n")[0].strip()


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
  """Turns errors of the service in the context into InputErrors.

  Args:
    path: the path of the object, for messages.
  """
  try:
    yield
  except _errors().NotFound as error:
    raise options.InputError(
      f"an object or bucket at {path}", "404 not found", "mend the path"
    ) from error
  except (_errors().Forbidden, _errors().Unauthorized) as error:
    raise options.InputError(
      f"permission for {path}",
      f"{error.code} {error.__class__.__name__.lower()}",
      "ask for the role Storage Object Admin on the bucket, or log in as "
      "somebody who has it",
    ) from error
  except _errors().PreconditionFailed as error:
    raise options.InputError(
      f"nobody else to write {path} at the same time",
      "another writer",
      "let one run end, or give another --output_dir",
    ) from error
  except (
    _errors().GoogleAPIError,
    requests.RequestException,
    ConnectionError,
  ) as error:
    raise options.InputError(
      f"an answer of Google Cloud Storage about {path}",
      _short(error),
      "check the network and run it again",
    ) from error


def _parts(path: str) -> tuple[str, str]:
  """Returns the bucket and the object's name of a gs:// path.

  Raises:
    options.InputError: for a path without a bucket.
  """
  bucket, _, name = path.removeprefix(SCHEME).partition("/")
  if not bucket:
    raise options.InputError("gs://BUCKET/NAME", repr(path), "name the bucket")
  return bucket, name


def _blob(path: str) -> "storage.Blob":
  """Returns the client's handle of an object, which need not exist."""
  bucket, name = _parts(path)
  return _client().bucket(bucket).blob(name, chunk_size=_CHUNK)


def find(pattern: str) -> list[str]:
  """Returns the paths of the objects that match a glob, sorted.

  `*` matches no slash. If a part of the glob is itself the name of an object or
  a folder, that part matches only this name. The list is empty if nothing
  matches.

  Raises:
    options.InputError: when the bucket cannot be listed.
  """
  bucket, name = _parts(pattern)
  *folders, last = name.split("/")
  prefixes = [""]
  with _explained(pattern):
    for part in folders:
      prefixes = [
        f"{prefix}{folder}/"
        for prefix in prefixes
        for folder in _expanded(bucket, prefix, part)[1]
      ]
    return sorted(
      f"{SCHEME}{bucket}/{prefix}{entry}"
      for prefix in prefixes
      for entry in _expanded(bucket, prefix, last)[0]
    )


def _expanded(
  bucket: str, prefix: str, part: str
) -> tuple[list[str], list[str]]:
  """Returns (objects, folders): the names in a folder that match a glob.

  A glob without wildcards is returned as a folder, whether or not there is such
  a folder; and as an object if there is one.

  Args:
    bucket: the name of the bucket.
    prefix: the name of the folder to look in, with a final slash, or "".
    part: the glob for a single name, without slashes.
  """
  start = re.split(r"[*?\[]", part)[0]
  if start == part:
    there = part and size(f"{SCHEME}{bucket}/{prefix}{part}") is not None
    return [part] if there else [], [part]
  objects, folders = _children(bucket, prefix, start)
  return matched(objects, part), matched(folders, part)


def matched(names: Sequence[str], pattern: str) -> list[str]:
  """Returns the names that match a glob.

  If a name equals the glob, that name alone is returned. As in a shell, `*` and
  `?` do not match the first dot of a hidden name.
  """
  if pattern in names:
    return [pattern]
  hidden = pattern.startswith(".")
  return [
    name
    for name in fnmatch.filter(names, pattern)
    if hidden or not name.startswith(".")
  ]


def names(folder: str) -> list[str]:
  """Returns the names of the objects directly in a folder, sorted.

  The list is empty if there is no such folder.

  Raises:
    options.InputError: when the bucket cannot be listed.
  """
  bucket, name = _parts(folder)
  prefix = _prefix(name)
  with _explained(folder):
    return _children(bucket, prefix)[0]


def _prefix(name: str) -> str:
  """Returns the prefix that the names of all objects in a folder have.

  Args:
    name: the name of the folder in its bucket; "" for the whole bucket, whose
      prefix is "".
  """
  return f"{name.rstrip('/')}/" if name else ""


def _children(
  bucket: str, prefix: str, start: str = ""
) -> tuple[list[str], list[str]]:
  """Returns (objects, folders): the names directly in a folder, sorted.

  Args:
    bucket: the name of the bucket.
    prefix: the name of the folder with a final slash; "" for the whole bucket.
    start: the characters with which the names begin.
  """
  listing = _client().list_blobs(
    bucket, prefix=prefix + start, delimiter="/", retry=_retry()
  )
  objects = [blob.name.removeprefix(prefix) for blob in listing]
  # The folders are known when the objects have been listed.
  folders = sorted(
    name.removeprefix(prefix).removesuffix("/") for name in listing.prefixes
  )
  return [name for name in objects if name], folders


def below(folder: str) -> list[str]:
  """Returns the names of the objects under gs://BUCKET/FOLDER/, sorted.

  The names are relative to the folder, or to the bucket if only the bucket is
  named; objects of subfolders are included. The list is empty if there is no
  such folder.

  Raises:
    options.InputError: when the bucket cannot be listed.
  """
  bucket, name = _parts(folder)
  prefix = _prefix(name)
  with _explained(folder):
    blobs = _client().list_blobs(bucket, prefix=prefix, retry=_retry())
    return sorted(blob.name.removeprefix(prefix) for blob in blobs)


def check(folder: str) -> None:
  """Raises InputError if the bucket of a folder is missing or not readable."""
  bucket, name = _parts(folder)
  with _explained(folder):
    first = _client().list_blobs(
      bucket, prefix=name, max_results=1, retry=_retry()
    )
    next(iter(first), None)


def size(path: str) -> int | None:
  """Returns the size of an object in bytes; None if it does not exist.

  Raises:
    options.InputError: when access is refused, or the service does not answer.
  """
  blob = _blob(path)
  with _explained(path):
    try:
      blob.reload(retry=_retry())
    except _errors().NotFound:
      return None
  return int(blob.size)


@contextlib.contextmanager
def reading(path: str) -> Iterator[IO[bytes]]:
  """Yields an object as a binary file; its errors become InputErrors.

  All bytes are of the generation that was opened. If they are read from the
  first one to the last, without a seek, they are compared with the checksum.

  Raises:
    options.InputError: when the object is missing or cannot be read, and when
      the checksum differs.
  """
  with _explained(path):
    blob = _blob(path)
    blob.reload(retry=_retry())
    stream = blob.open(
      "rb", retry=_retry(), if_generation_match=blob.generation
    )
    with io.BufferedReader(
      _Compared(stream, path, blob.crc32c), _CHUNK
    ) as file:
      yield file


class _Compared(io.RawIOBase):
  """An object as a file, which compares the checksum at its end.

  Args:
    stream: the object's content, unread.
    path: the path of the object, for messages.
    expected: its CRC32C in base64.
  """

  def __init__(self, stream: Any, path: str, expected: str) -> None:
    self._stream, self._path, self._expected = stream, path, expected
    self._checksum: Any = google_crc32c.Checksum()

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def tell(self) -> int:
    return int(self._stream.tell())

  def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
    before = self.tell()
    place = int(self._stream.seek(offset, whence))
    if place != before:
      self._checksum = None  # of what is not read, none can be computed
    return place

  def readinto(self, buffer: Any) -> int:
    content = self._stream.read(len(buffer))
    buffer[: len(content)] = content
    if self._checksum is not None:
      self._checksum.update(content)
      if not content and _encoded(self._checksum) != self._expected:
        raise _damaged(self._path)
    return len(content)

  def close(self) -> None:
    self._stream.close()
    super().close()


def _damaged(path: str) -> options.InputError:
  """Returns the error for an object with a wrong checksum."""
  return options.InputError(
    f"{path} with its checksum", "another one", "run it again"
  )


def version(path: str) -> str:
  """Returns an object's generation as text; each version has another number.

  Raises:
    options.InputError: when the object is missing or cannot be read.
  """
  blob = _blob(path)
  with _explained(path):
    blob.reload(retry=_retry())
  return str(blob.generation)


def download(path: str, target: str, most: int | None = None) -> None:
  """Downloads an object, or the part of it that a local file lacks.

  `target` may be the beginning of the same version of the object. A target with
  a wrong checksum is removed; after another error, the next call goes on from
  the bytes that came.

  Args:
    path: the path of the object.
    target: the local file; a link there is not followed.
    most: the largest size of the object in bytes; None for any size.

  Raises:
    options.InputError: when the download fails, the checksum differs, the
      object is too large or compressed for the transfer.
  """
  blob = _blob(path)
  with _explained(path):
    blob.reload(retry=_retry())
    have = os.path.getsize(target) if os.path.exists(target) else 0
    _require_room(path, blob, have, os.path.dirname(target) or ".", most)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with (
      blob.open(
        "rb", retry=_retry(), if_generation_match=blob.generation
      ) as stream,
      options.naming(target),
      os.fdopen(os.open(target, flags, 0o644), "ab") as file,
    ):
      stream.seek(have)
      shutil.copyfileobj(stream, file, _CHUNK)
  if _crc32c(target) != blob.crc32c:
    os.unlink(target)
    raise _damaged(path)


def _require_room(
  path: str, blob: Any, have: int, folder: str, most: int | None
) -> None:
  """Raises InputError for an object that must not be downloaded.

  Such an object is larger than `most`, does not fit on the disk, or has a
  Content-Encoding.

  Args:
    path: the path of the object, for messages.
    blob: the object as the service describes it: size and Content-Encoding.
    have: number of the object's bytes that were downloaded earlier.
    folder: the folder to which the object would be downloaded.
    most: the largest size of the object in bytes; None for any size.
  """
  if blob.content_encoding:
    raise options.InputError(
      f"{path} without a Content-Encoding",
      f"{blob.content_encoding}"[:50],
      "store it again as it is: gcloud storage cp without --gzip-in-flight",
    )
  if most is not None and blob.size > most:
    raise options.InputError(
      f"at most {most:,} bytes of {path}, as its size is known",
      f"{blob.size:,}",
      "check the address",
    )
  free = shutil.disk_usage(folder).free
  if blob.size - have > free:
    raise options.InputError(
      f"{blob.size - have:,} free bytes in {folder}, for {path}",
      f"{free:,}",
      "make room, then run it again: it goes on from there",
    )


def upload(source: str, path: str) -> None:
  """Uploads a local file to an object, whole or not at all.

  An earlier object at `path` is replaced.

  Raises:
    options.InputError: when the upload fails, when another process writes the
      object at the same time, and when the service received other bytes, which
      are deleted.
  """
  blob = _blob(path)
  checksum = _crc32c(source)
  with _explained(path):
    generation = _generation(path)
    try:
      blob.upload_from_filename(
        source,
        checksum="crc32c",
        if_generation_match=generation,
        retry=_retry(),
      )
    except _errors().PreconditionFailed:
      # Another process wrote the object, or we did and the answer was lost.
      blob.reload(retry=_retry())
      if blob.crc32c != checksum:
        raise
    except _corruption():  # of several requests; the client deletes it
      raise _damaged(path) from None
  if blob.crc32c != checksum:
    delete(path, blob.generation)
    raise _damaged(path)


def move(source: str, path: str) -> None:
  """Moves an object inside its bucket, and replaces an object at `path`.

  The service copies the bytes, then the source is deleted.

  Raises:
    options.InputError: when the source is missing, access is refused, or the
      service does not answer.
  """
  old, new = _blob(source), _blob(path)
  with _explained(path):
    token, _, _ = new.rewrite(old, retry=_retry())
    while token:  # the service copies large objects in several requests
      token, _, _ = new.rewrite(old, token=token, retry=_retry())
  delete(source)


def put(path: str, content: bytes, generation: int) -> int:
  """Writes a small object, if the present generation is the given one.

  Args:
    path: the path of the object.
    content: bytes that no other process would write there.
    generation: the generation to replace; 0 for no object.

  Returns:
    the new generation; 0 if nothing was written, because the object had another
      generation than the given one.
  """
  blob = _blob(path)
  with _explained(path):
    try:
      blob.upload_from_string(
        content,
        checksum="crc32c",
        if_generation_match=generation,
        retry=_retry(),
      )
    except _errors().PreconditionFailed:
      there = get(path)  # our own object if the answer was lost
      return there[1] if there and there[0] == content else 0
  return int(blob.generation)


def get(path: str) -> tuple[bytes, int] | None:
  """Returns a small object's content and generation; None if it is missing.

  Raises:
    options.InputError: when access is refused, or the service does not answer.
  """
  blob = _blob(path)
  while True:
    with _explained(path):
      try:
        blob.reload(retry=_retry())
        content = blob.download_as_bytes(
          if_generation_match=blob.generation, retry=_retry()
        )
      except _errors().NotFound:
        return None
      except _errors().PreconditionFailed:
        continue  # replaced between the two requests
    return content, int(blob.generation)


def _generation(path: str) -> int:
  """Returns the generation of an object; 0 if it does not exist.

  All other errors of the service are raised; callers turn them into InputErrors
  by `_explained`.
  """
  blob = _blob(path)
  try:
    blob.reload(retry=_retry())
  except _errors().NotFound:
    return 0
  return int(blob.generation)


def _crc32c(path: str) -> str:
  """Returns a file's CRC32C in base64, as the service writes it."""
  checksum = google_crc32c.Checksum()
  with open(path, "rb") as file:
    while chunk := file.read(_CHUNK):
      checksum.update(chunk)
  return _encoded(checksum)


def _encoded(checksum: Any) -> str:
  """Returns a google_crc32c checksum in base64, as text."""
  return base64.b64encode(checksum.digest()).decode()


def delete(path: str, generation: int | None = None) -> None:
  """Deletes an object; does nothing if there is no such object or generation.

  Args:
    path: the path of the object.
    generation: the generation to delete; None for any.
  """
  gone = (_errors().NotFound, _errors().PreconditionFailed)
  with _explained(path), contextlib.suppress(*gone):
    _blob(path).delete(if_generation_match=generation, retry=_retry())
