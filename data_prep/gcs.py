"""Objects on Google Cloud Storage, through google-cloud-storage.

What helps to be tried again (429, 5xx, a cut connection) is, with back-off
and a line each time; what does not ends in one clear line. An object that
exists is whole: it is uploaded from a finished file, with its checksum, and
only if nobody else has written it meanwhile. Only `storage`, `fetched` and
`ownership` call this.

The client honours STORAGE_EMULATOR_HOST, for a server of one's own.
"""

import base64
import contextlib
import fnmatch
import functools
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import google_crc32c
import requests
from absl import logging

from data_prep import options

if TYPE_CHECKING:
  from google.cloud import storage

SCHEME = "gs://"

_CHUNK = 8 << 20  # bytes a request; a multiple of 256 KiB, as uploads ask
_PATIENCE = 120.0  # seconds of trying again


@functools.cache
def _client() -> "storage.Client":
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
  """google-api-core's exceptions, imported as late as the client."""
  from google.api_core import exceptions

  return exceptions


@functools.cache
def _retry() -> Any:
  """The client's own policy on what to try again, made to speak."""
  from google.cloud.storage import retry

  def say(error: Exception) -> None:
    logging.warning("Google Cloud Storage: %s; trying again", _short(error))

  policy = retry.DEFAULT_RETRY.with_timeout(_PATIENCE).with_delay(0.2, 20.0)
  policy._on_error = say  # its with_… methods do not offer it
  return policy


def _short(error: BaseException) -> str:
  """An exception in a line: the server's answers run over many."""
  return f"{type(error).__name__} {str(error)[:120]}".split("\n")[0].strip()


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
  """Says in a line what the server refuses for good."""
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
  """Returns bucket and object name."""
  bucket, _, name = path.removeprefix(SCHEME).partition("/")
  if not bucket:
    raise options.InputError("gs://BUCKET/NAME", repr(path), "name the bucket")
  return bucket, name


def _blob(path: str) -> "storage.Blob":
  bucket, name = _parts(path)
  return _client().bucket(bucket).blob(name, chunk_size=_CHUNK)


def find(pattern: str) -> list[str]:
  """Returns the objects that a glob names, sorted; `*` stops at a slash.

  An object or folder of the very name of a part wins over what it matches.
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
  """Returns the objects and the folders that a part of a glob stands for."""
  start = re.split(r"[*?\[]", part)[0]
  if start == part:
    there = part and size(f"{SCHEME}{bucket}/{prefix}{part}") is not None
    return [part] if there else [], [part]
  objects, folders = _children(bucket, prefix, start)
  return matched(objects, part), matched(folders, part)


def matched(names: Sequence[str], pattern: str) -> list[str]:
  """Returns the name that a glob spells, where it is there, or its matches.

  As in a shell, `*` and `?` do not stand for the dot of a hidden name.
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
  """Returns the names of the objects in a folder, without its subfolders."""
  bucket, name = _parts(folder)
  prefix = f"{name.rstrip('/')}/" if name else ""
  with _explained(folder):
    return _children(bucket, prefix)[0]


def _children(
  bucket: str, prefix: str, start: str = ""
) -> tuple[list[str], list[str]]:
  """Returns the names of the objects and folders that are right in a folder.

  Args:
    bucket: its name.
    prefix: that of the folder, with a final slash, or "".
    start: what the names begin with.
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
  """Returns the objects under gs://BUCKET/FOLDER/, relative to it, sorted."""
  bucket, name = _parts(folder)
  prefix = name.rstrip("/") + "/"
  with _explained(folder):
    blobs = _client().list_blobs(bucket, prefix=prefix, retry=_retry())
    return sorted(blob.name.removeprefix(prefix) for blob in blobs)


def check(folder: str) -> None:
  """Sees that the bucket is there and may be listed."""
  bucket, name = _parts(folder)
  with _explained(folder):
    first = _client().list_blobs(
      bucket, prefix=name, max_results=1, retry=_retry()
    )
    next(iter(first), None)


def size(path: str) -> int | None:
  """Returns an object's bytes, or None where there is none."""
  blob = _blob(path)
  with _explained(path):
    try:
      blob.reload(retry=_retry())
    except _errors().NotFound:
      return None
  return int(blob.size)


def read(path: str) -> IO[bytes]:
  """Opens an object; what is read is of the generation that was opened."""
  blob = _blob(path)
  with _explained(path):
    blob.reload(retry=_retry())
  stream: IO[bytes] = blob.open(
    "rb", retry=_retry(), if_generation_match=blob.generation
  )
  return stream


@contextlib.contextmanager
def reading(path: str) -> Iterator[IO[bytes]]:
  """Gives an object's bytes as a file."""
  with _explained(path), read(path) as stream:
    yield stream


def version(path: str) -> str:
  """Returns what tells an object's versions apart: its generation."""
  blob = _blob(path)
  with _explained(path):
    blob.reload(retry=_retry())
  return str(blob.generation)


def download(path: str, target: str) -> None:
  """Fetches an object to a local file, or what is missing of it there.

  `target` may be the beginning of the same version of the object.

  Raises:
    options.InputError: when it cannot be had, or came damaged.
  """
  blob = _blob(path)
  with _explained(path):
    blob.reload(retry=_retry())
    have = os.path.getsize(target) if os.path.exists(target) else 0
    with (
      blob.open(
        "rb", retry=_retry(), if_generation_match=blob.generation
      ) as stream,
      options.naming(target),
      open(target, "ab") as file,
    ):
      stream.seek(have)
      shutil.copyfileobj(stream, file, _CHUNK)
  if _crc32c(target) != blob.crc32c:
    os.unlink(target)
    raise options.InputError(
      f"{path} with its checksum", "another one", "run it again"
    )


def upload(source: str, path: str) -> None:
  """Writes a local file to an object, whole or not at all."""
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
      # Either somebody else wrote it, or an answer was lost after ours had.
      blob.reload(retry=_retry())
      if blob.crc32c != checksum:
        raise


def move(source: str, path: str) -> None:
  """Moves an object inside its bucket, by a copy of the service's own."""
  old, new = _blob(source), _blob(path)
  with _explained(path):
    token, _, _ = new.rewrite(old, retry=_retry())
    while token:  # the service copies large objects in several requests
      token, _, _ = new.rewrite(old, token=token, retry=_retry())
  delete(source)


def put(path: str, content: bytes, generation: int) -> int:
  """Writes a small object in the place of one generation of it.

  Args:
    path: of the object.
    content: other bytes than what anybody else may write there.
    generation: what is to be replaced; 0 for no object.

  Returns:
    The new generation; 0 where there is another one than `generation`.
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
      there = get(path)  # ours, where an answer was lost
      return there[1] if there and there[0] == content else 0
  return int(blob.generation)


def get(path: str) -> tuple[bytes, int] | None:
  """Returns a small object and its generation, None where there is none."""
  blob = _blob(path)
  with _explained(path):
    try:
      blob.reload(retry=_retry())
      content = blob.download_as_bytes(
        if_generation_match=blob.generation, retry=_retry()
      )
    except (_errors().NotFound, _errors().PreconditionFailed):
      return None  # gone, or replaced between the two requests
  return content, int(blob.generation)


def _generation(path: str) -> int:
  """Returns which version of an object is there; 0 is none."""
  blob = _blob(path)
  try:
    blob.reload(retry=_retry())
  except _errors().NotFound:
    return 0
  return int(blob.generation)


def _crc32c(path: str) -> str:
  """Returns a file's checksum as the service writes it."""
  checksum = google_crc32c.Checksum()
  with open(path, "rb") as file:
    while chunk := file.read(_CHUNK):
      checksum.update(chunk)
  return base64.b64encode(checksum.digest()).decode()


def delete(path: str, generation: int | None = None) -> None:
  """Removes an object, or one generation of it, if it is there."""
  gone = (_errors().NotFound, _errors().PreconditionFailed)
  with _explained(path), contextlib.suppress(*gone):
    _blob(path).delete(if_generation_match=generation, retry=_retry())
