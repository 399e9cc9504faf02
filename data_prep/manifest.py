"""What an artefact is, what it was made from, and whether it is whole.

`manifest.json` is written after the files it describes, so its presence
means that they are complete. It holds no time, host or absolute path: the
same input and seed give the same manifest.
"""

import collections
import concurrent.futures
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_prep import options, storage

NAME = "manifest.json"
FORMAT_VERSION = 1


def begin(folder: str) -> None:
  """Makes the folder; takes an old manifest away before its files change."""
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
) -> None:
  """Describes the finished `files` (names inside `folder`).

  Args:
    folder: the artefact.
    kind: "corpus", "tokenizer", "pretraining_records", "model" …
    parameters: the options that decided the content.
    files: names relative to `folder`.
    counts: documents, examples, words …
    inputs: name → identity (see `identity`) of what it was made from.
  """
  names = sorted(files)
  paths = [os.path.join(folder, name) for name in names]
  # Threads: hashing and reading leave the interpreter free.
  with concurrent.futures.ThreadPoolExecutor() as threads:
    digests = list(threads.map(storage.sha256, paths))
    sizes = list(threads.map(storage.size, paths))
  described = {
    name: {"bytes": size, "sha256": digest}
    for name, size, digest in zip(names, sizes, digests, strict=True)
  }
  content = dict(
    format_version=FORMAT_VERSION,
    kind=kind,
    parameters=dict(parameters),
    counts=dict(counts),
    files=described,
    inputs=dict(sorted(inputs.items())),
  )
  with storage.writing(os.path.join(folder, NAME)) as file:
    file.write(json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def labels(paths: Iterable[str]) -> list[str]:
  """Names files without their folders: the second a.txt is "a.txt #2"."""
  seen: collections.Counter[str] = collections.Counter()
  found = []
  for name in map(os.path.basename, paths):
    seen[name] += 1
    found.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
  return found


def hashes(paths: Sequence[str]) -> dict[str, str]:
  """Returns `inputs` for files: label → sha256."""
  return dict(zip(labels(paths), map(storage.sha256, paths), strict=True))


def find(folder: str) -> dict[str, Any] | None:
  """Returns the manifest of `folder`, or None where there is none."""
  path = os.path.join(folder, NAME)
  if not storage.exists(path):
    return None
  try:
    content = json.loads(storage.read_text(path))
  except json.JSONDecodeError as error:
    raise options.InputError(
      f"JSON in {path}", str(error), "make the artefact again"
    ) from error
  if content.get("format_version") != FORMAT_VERSION:
    raise options.InputError(
      f"format_version {FORMAT_VERSION} in {path}",
      str(content.get("format_version")),
      "use the release that wrote it, or make the artefact again",
    )
  return content


def check(folder: str, kind: str) -> dict[str, Any]:
  """Returns the manifest of a whole artefact of the given kind.

  Names and sizes are compared; nothing is rehashed.

  Raises:
    options.InputError: when it is missing, of another kind, or incomplete.
  """
  content = find(folder)
  if content is None:
    raise options.InputError(
      f"a finished {kind} with a {NAME} in {folder!r}",
      "none",
      "check the path, or run the program that makes it to its end",
    )
  if content["kind"] != kind:
    raise options.InputError(
      f"a {kind} in {folder!r}", f"a {content['kind']}", "mend the path"
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
  """Reads every file that the manifest names; returns their bytes.

  Raises:
    options.InputError: where one has other bytes than were written.
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
  """The hash that stands for an artefact: its manifest's, or the file's."""
  path = os.path.join(folder_or_file, NAME)
  return storage.sha256(path if storage.exists(path) else folder_or_file)
