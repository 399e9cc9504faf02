"""Fetches weights from gs:// or https:// and says where they lie.

    python -m albert_mn.download_checkpoint \\
      --init_checkpoint=gs://bucket/run/model --output_dir=model
"""

import dataclasses
import os
import shutil

from albert_mn import initial_weights, remote_weights
from data_prep import fetched, options


@dataclasses.dataclass(frozen=True)
class Options:
  """What to fetch, and where it stays."""

  init_checkpoint: str = options.option(
    "", "gs:// or https://: a model directory, a Hugging Face directory, a "
    "checkpoint's prefix, a file of weights, or an archive (.zip, .tar.gz)"
  )  # fmt: skip
  sha256: str = options.option("", "that an archive or a file must have")
  cache_dir: str = options.option(
    "", "where what was fetched stays; default: albert-mn in XDG_CACHE_HOME"
  )
  output_dir: str = options.option("", "where a copy goes; default: none")

  def __post_init__(self) -> None:
    options.require(self, "init_checkpoint")
    if not fetched.is_address(self.init_checkpoint):
      raise options.InputError(
        "gs:// or https:// as --init_checkpoint",
        repr(self.init_checkpoint),
        "use the local path as it is",
      )
    if self.output_dir and os.path.exists(self.output_dir):
      raise options.InputError(
        "an --output_dir that is not there yet",
        f"{self.output_dir}",
        "give another",
      )


def main(settings: Options) -> None:
  """Fetches, and prints the local path for --init_checkpoint."""
  path = remote_weights.local(
    settings.init_checkpoint, settings.cache_dir, settings.sha256
  )
  kind = initial_weights.format_of(path)
  if settings.output_dir:
    path = _copied(path, settings.output_dir)
  print(f"{kind.value}'s weights at {path}")


def _copied(path: str, folder: str) -> str:
  """Copies the folder of weights; returns their path there."""
  source = initial_weights.folder_of(path)
  aside = f"{folder}.partial"
  shutil.rmtree(aside, ignore_errors=True)
  shutil.copytree(source, aside)
  os.rename(aside, folder)
  return os.path.normpath(os.path.join(folder, os.path.relpath(path, source)))


if __name__ == "__main__":
  options.run(main, Options)
