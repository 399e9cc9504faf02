r"""Compares the speed of build_corpus with that of an earlier commit, and of Parquet.

    git worktree add ../before COMMIT
    python -m benchmarks.corpus_speed --input_file='raw/*.txt' --before=../before

Each build is a process of its own with one worker, so that its CPU time is the whole
program's, start-up included. The program prints the megabytes of text that each build
takes in a CPU-second, with and without the search for near duplicates; the ratio to the
earlier commit; and the ratio of the same documents as Parquet to plain text.
"""

import dataclasses
import glob
import os
import resource
import subprocess
import sys
import tempfile

import pyarrow as pa
from pyarrow import parquet

from data_prep.base import options, release
from data_prep.files import documents, storage

_NEAR = "--near_duplicates=0.8"
_ROWS = 4096  # of a row group, as in FineWeb-2 at most (guess)


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the text, and the earlier commit."""

  input_file: str = options.option(
    "",
    "Plain text files with a blank line between documents, as glob patterns "
    "separated by commas. Required.",
  )
  before: str = options.option(
    "",
    "Folder with a checkout of the earlier commit. Without this folder, only "
    "Parquet is compared with plain text.",
  )

  def check(self) -> None:
    options.require(self, "input_file")


def main(settings: Options) -> None:
  """Prints the speed of all builds, and the ratios."""
  files = list(map(os.path.abspath, storage.matching(settings.input_file)))
  megabytes = sum(storage.size(path) or 0 for path in files) / 1e6
  print(f"{megabytes:,.1f} MB of text, one worker")
  # In turns, so that other work on the machine slows both alike.
  for name, flags in (("near duplicates", [_NEAR]), ("exact copies alone", [])):
    speeds = {}
    for tree in filter(None, (settings.before, str(release.ROOT))):
      seconds = _seconds(tree, files, flags)
      speeds[tree] = megabytes / seconds
      print(f"{name}, {tree}: {speeds[tree]:.2f} MB a CPU-second", flush=True)
    if settings.before:
      ratio = speeds[str(release.ROOT)] / speeds[settings.before]
      print(f"{name}: {ratio:.2f} times the speed of {settings.before}")
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "text.parquet")
    _write_parquet(files, path)
    rows = megabytes / _seconds(str(release.ROOT), [path], [])
  plain = speeds[str(release.ROOT)]
  print(
    f"Parquet: {rows:.2f} MB a CPU-second, {rows / plain:.2f} of the speed of plain "
    "text (at least 0.9)"
  )


def _seconds(tree: str, files: list[str], flags: list[str]) -> float:
  """Returns the CPU seconds of a build.

  Args:
    tree: the folder with the program's code.
    files: the absolute paths of the input.
    flags: further flags of build_corpus.
  """
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  with tempfile.TemporaryDirectory() as folder:
    subprocess.run(
      [
        sys.executable,
        "-m",
        "data_prep.build_corpus",
        f"--input_file={','.join(map(glob.escape, files))}",
        f"--output_dir={os.path.join(folder, 'corpus')}",
        "--num_workers=1",
        *flags,
      ],
      cwd=tree,
      check=True,
      stderr=subprocess.DEVNULL,
    )
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _write_parquet(files: list[str], path: str) -> None:
  """Writes the documents of plain text files as rows of Parquet."""
  schema = pa.schema([("text", pa.string())])
  with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
    rows: list[str] = []
    for file in files:
      for lines in documents.split(storage.lines(file)):
        rows.append("\n".join(lines))
        if len(rows) == _ROWS:
          writer.write_table(pa.table({"text": rows}, schema))
          rows = []
    if rows:
      writer.write_table(pa.table({"text": rows}, schema))


if __name__ == "__main__":
  options.run(main, Options)
