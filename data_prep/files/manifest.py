"""Writes and checks manifest.json: an artefact's options, inputs and hashes.

`manifest.json` is written after the files that it describes, so its presence
means that they are complete. It holds no time, host or absolute path: the
same input and seed give the same manifest.

A manifest that is read is checked first, by the rule of json_files.py. Missing
parameters, counts and inputs are allowed: earlier versions did not write them.
Unknown ones are kept and have no effect. A value of another type ends in an
InputError.
"""

import collections
import concurrent.futures
import json
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_prep.base import options
from data_prep.files import json_files, manifest_fields, storage

NAME = "manifest.json"
CORPUS = "corpus"  # the kind of a corpus
FORMAT_VERSION = 1

_ADVICE = "make the artefact again, or copy it again"


def begin(folder: str) -> None:
  """Makes an artefact's folder, if it is missing, and removes its old manifest.

  This must be called before the files of the folder change.
  """
  storage.make_folder(folder)
  storage.remove(os.path.join(folder, NAME))


def write(
  folder: str,
  kind: str,
  *,
  parameters: Mapping[str, Any],
  files: Sequence[str],
  counts: Mapping[str, Any],
  inputs: Mapping[str, str],
  known: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
  """Writes the manifest of finished files, whose sizes and hashes it computes.

  Args:
    folder: the artefact.
    kind: "corpus", "tokenizer", "pretraining_records", "model" …
    parameters: the options that decided the content.
    files: names relative to `folder`.
    counts: documents, examples, words …
    inputs: name → identity (see `identity`) of each artefact or file that
      `folder` was made from.
    known: name → description (see `described`) of files that need not be read
      again.
  """
  names = sorted(files)
  known = known or {}
  unknown = [name for name in names if name not in known]
  paths = [os.path.join(folder, name) for name in unknown]
  # Threads: hashing and reading leave the interpreter free.
  with concurrent.futures.ThreadPoolExecutor() as threads:
    read = dict(zip(unknown, threads.map(described, paths), strict=True))
  content = dict(
    format_version=FORMAT_VERSION,
    kind=kind,
    parameters=dict(parameters),
    counts=dict(counts),
    files={name: dict(known.get(name) or read[name]) for name in names},
    inputs=dict(sorted(inputs.items())),
  )
  with storage.writing(os.path.join(folder, NAME)) as file:
    file.write(json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def described(path: str) -> dict[str, Any]:
  """Returns the description of a file in a manifest: its size and SHA-256."""
  return {"bytes": storage.size(path), "sha256": storage.sha256(path)}


def labels(paths: Iterable[str]) -> list[str]:
  """Returns the names of files without their folders, made distinct.

  The second a.txt is "a.txt #2".
  """
  seen: collections.Counter[str] = collections.Counter()
  names = []
  for name in map(os.path.basename, paths):
    seen[name] += 1
    names.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
  return names


def hashes(paths: Sequence[str]) -> dict[str, str]:
  """Returns name → hexadecimal SHA-256 of files, for the `inputs` of `write`.

  The names are those of `labels`.
  """
  # Threads: hashing and reading leave the interpreter free.
  with concurrent.futures.ThreadPoolExecutor() as threads:
    digests = threads.map(storage.sha256, paths)
    return dict(zip(labels(paths), digests, strict=True))


def find(folder: str) -> dict[str, Any] | None:
  """Returns the manifest of a folder; None if it has none.

  Raises:
    options.InputError: when the manifest is damaged, or of another format.
  """
  path = os.path.join(folder, NAME)
  return read(path) if storage.exists(path) else None


def read(path: str) -> dict[str, Any]:
  """Returns the checked content of a manifest.

  Missing parameters, counts and inputs are {}.

  Raises:
    options.InputError: when the manifest is damaged or of another format, has a
      value of a wrong type, or names a file outside of its folder.
    FileNotFoundError: when a local file is missing.
  """
  content = json_files.read_object(path, _ADVICE)
  if content.get("format_version") != FORMAT_VERSION:
    raise options.InputError(
      f"format_version {FORMAT_VERSION} in {path}",
      str(content.get("format_version")),
      "use the release that wrote it, or make the artefact again",
    )
  content = {"parameters": {}, "counts": {}, "inputs": {}} | content
  _require(content, {"kind": str, "files": dict}, path, True)
  _require(
    content, dict.fromkeys(("parameters", "counts", "inputs"), dict), path
  )
  json_files.require_type(
    content["inputs"], dict[str, str], f"inputs in {path}", _ADVICE
  )
  _require(
    content["parameters"],
    manifest_fields.Parameters.types(),
    f"the parameters of {path}",
  )
  _require(
    content["counts"], manifest_fields.Counts.types(), f"the counts of {path}"
  )
  for name, entry in content["files"].items():
    json_files.require_type(entry, dict, f"{name} in {path}", _ADVICE)
    _require(entry, {"bytes": int, "sha256": str}, f"{name} of {path}", True)
    _require_inside(name, entry, path)
  return content


def _require_inside(name: str, entry: Mapping[str, Any], path: str) -> None:
  """Raises InputError for a negative size or an unsafe file name.

  Args:
    name: the name of a file in the manifest.
    entry: the description of this file in the manifest, with its size "bytes".
    path: the path of the manifest, for messages.
  """
  if entry["bytes"] < 0:
    what = f"bytes in {name} of {path} to be at least 0"
    raise options.InputError(what, json_files.shown(entry["bytes"]), _ADVICE)
  if not name.isprintable():
    fault = f"one with control characters, {name!a}"
  elif os.path.isabs(name) or ".." in name.split("/"):
    fault = f"one that leads outside, {name}"
  elif posixpath.normpath(name) != name or "\\" in name or name in (".", NAME):
    fault = repr(name)
  else:
    return
  raise options.InputError(
    f"names of files below its folder in {path}",
    fault,
    "do not trust where it comes from",
  )


def _require(
  values: Mapping[str, Any],
  hints: Mapping[str, Any],
  place: str,
  all_: bool = False,
) -> None:
  """Raises InputError for a value of a wrong type.

  Args:
    values: name → value.
    hints: name → type, as in json_files.require_type.
    place: the origin of the values, for messages.
    all_: whether missing values are errors too.
  """
  for name, hint in hints.items():
    if name in values:
      what = f"{name} in {place}"
      json_files.require_type(values[name], hint, what, _ADVICE)
    elif all_:
      raise options.InputError(f"{name} in {place}", "none", _ADVICE)


def check(folder: str, *kinds: str) -> dict[str, Any]:
  """Returns the manifest of a complete artefact of one of the given kinds.

  The names and sizes of the files are compared; nothing is hashed again.

  Args:
    folder: the artefact.
    *kinds: the kinds that its manifest may state, at least one; a message about
      a wrong kind names the first.

  Raises:
    options.InputError: when the artefact is missing, of another kind, or
      incomplete, or has a link in place of a file.
  """
  content = find(folder)
  if content is None:
    raise options.InputError(
      f"a finished {kinds[0]} with a {NAME} in {folder!r}",
      "none",
      "check the path, or run the program that makes it to its end",
    )
  if content["kind"] not in kinds:
    raise options.InputError(
      f"a {kinds[0]} in {folder!r}", f"a {content['kind']}", "mend the path"
    )
  for name in (NAME, *content["files"]):
    if storage.leads_elsewhere(folder, name):
      raise options.InputError(
        f"the file itself at {os.path.join(folder, name)}",
        "a link",
        "copy the folder with what its links lead to: cp -rL",
      )
  for name, entry in content["files"].items():
    path = os.path.join(folder, name)
    size = storage.size(path)
    if size != entry["bytes"]:
      raise options.InputError(
        f"{path} of {entry['bytes']:,} bytes",
        "no such file" if size is None else f"{size:,} bytes",
        "make the artefact again",
      )
  return content


def rehash(folder: str) -> int:
  """Compares every file with its hash in the manifest; returns the total bytes.

  Args:
    folder: an artefact that `check` accepted.

  Raises:
    options.InputError: when a file has another hash.
    OSError: when a local file is missing.
  """
  content = find(folder)
  assert content, "its manifest was checked"
  for name, entry in content["files"].items():
    path = os.path.join(folder, name)
    digest = storage.sha256(path)
    if digest != entry["sha256"]:
      raise options.InputError(
        f"{path} with the sha256 {entry['sha256'][:12]}… of {NAME}",
        f"{digest[:12]}…",
        "copy it again, or make the artefact again",
      )
  return sum(entry["bytes"] for entry in content["files"].values())


def identity(folder_or_file: str) -> str:
  """Returns the hexadecimal SHA-256 of a folder's manifest, or of a file."""
  path = os.path.join(folder_or_file, NAME)
  return storage.sha256(path if storage.exists(path) else folder_or_file)
