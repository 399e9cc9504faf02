"""States what decides the content of a corpus: options, sets and program."""

import dataclasses
import functools
import hashlib
import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from data_prep.base import beam_flags, release
from data_prep.corpus import corpus_options
from data_prep.files import manifest, storage

# The rooms of data_prep whose code decides what a corpus holds, and the packages
# that read web pages, wikis and tables for them.
_ROOMS = ("base", "files", "text", "sources", "corpus")
_PACKAGES = ("lxml", "mwparserfromhell", "numpy", "pyarrow", "trafilatura")
_NOT_CONTENT = (
  *(field.name for field in dataclasses.fields(beam_flags.Options)),
  "input_file",
  "output_dir",
  "memory_limit",
)
# Options of what is done with cleaned documents. Of --bad_rows the one value ends
# the work where the other goes on; both clean the same documents alike.
_AFTER_CLEANING = ("near_duplicates", "num_shards", "bad_rows")


def parameters(settings: corpus_options.Settings) -> dict[str, Any]:
  """Returns option → value, of the options that decide the corpus's content.

  The key "program" holds the result of `program`. Options such as the output
  folder or the number of processes are left out.
  """
  made: dict[str, Any] = {}
  for part in (settings.corpus, settings.cleaning, settings.text):
    made |= dataclasses.asdict(part)
  for name in _NOT_CONTENT:
    del made[name]
  if patterns := settings.corpus.decontaminate:
    sets = map(os.path.basename, storage.matching(patterns))
    made["decontaminate"] = ",".join(sets)
  return {**made, "program": program()}


def inputs(
  settings: corpus_options.Settings,
  files: Sequence[str],
  known: Mapping[str, str] | None = None,
) -> dict[str, str]:
  """Returns name → SHA-256 of the input files, and of --decontaminate's files.

  Args:
    settings: the options of the corpus.
    files: the paths of the input files.
    known: the hashes of the input files, if they were read before.
  """
  read = manifest.hashes(files) if known is None else dict(known)
  return read | _evaluation_sets(settings)


def _evaluation_sets(settings: corpus_options.Settings) -> dict[str, str]:
  """Returns name → SHA-256 of the files of --decontaminate."""
  patterns = settings.corpus.decontaminate
  paths = storage.matching(patterns) if patterns else []
  return {
    f"decontaminate: {name}": digest
    for name, digest in manifest.hashes(paths).items()
  }


def of_cleaning(settings: corpus_options.Settings) -> str:
  """Returns a hash of all that decides how the documents of a file are cleaned.

  It is the hexadecimal SHA-256 of the program's code, the options of the
  cleaning and the contents of the evaluation sets, but not of the input files.
  """
  made = parameters(settings)
  for name in _AFTER_CLEANING:
    del made[name]
  content = [made, _evaluation_sets(settings)]
  return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@functools.cache
def program() -> str:
  """Returns a hash of the program's code, as 16 hexadecimal digits.

  Hashed are the source files that decide the content of a corpus, the version
  of Unicode, and the versions of the packages that read input.
  """
  digest = hashlib.sha256(unicodedata.unidata_version.encode())
  for package in _PACKAGES:
    digest.update(f"{package} {_version(package)}\n".encode())
  for room in _ROOMS:
    folder = release.ROOT / "data_prep" / room
    for path in sorted(folder.glob("*.*")):
      if path.suffix in (".py", ".tsv"):
        digest.update(f"{room}/{path.name}\n".encode() + path.read_bytes())
  return digest.hexdigest()[:16]


def _version(package: str) -> str:
  """Returns the version of a package; "" if it is not installed."""
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return ""
