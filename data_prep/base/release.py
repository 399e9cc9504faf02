"""The version of this project, its commit, and its folders of data.

VERSION is stated only here: pyproject.toml reads it from the source.
"""

import pathlib
import subprocess
from importlib import metadata

VERSION = "0.1.0.dev0"

# The root of a checkout; of an installed wheel, the folder site-packages.
ROOT = pathlib.Path(__file__).resolve().parents[2]


def version() -> str:
  """Returns the version; in a git checkout with the commit.

  `0.1.0.dev0+g640ab43c1d2e` is commit 640ab43c1d2e of 0.1.0.dev0;
  `0.1.0.dev0+g640ab43c1d2e.changed` has files that differ from the commit.
  Without git, or outside of a checkout, the result is VERSION.
  """
  if not (ROOT / ".git").exists():
    return VERSION
  try:
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
  except (OSError, subprocess.SubprocessError):
    return VERSION
  return f"{VERSION}+g{commit}{'.changed' if changed else ''}"


def folder(name: str) -> str:
  """Returns the path of a folder of data; "" if it is not installed.

  In a checkout the folder is in the root. pip puts it into share/albert-mn of
  the environment, as pyproject.toml says.

  Args:
    name: path of the folder in the repository, such as `configs`.
  """
  if (ROOT / name).is_dir():
    return str(ROOT / name)
  try:
    installed = metadata.files("albert-mn") or []
  except metadata.PackageNotFoundError:
    return ""
  for path in installed:
    if path.parent.as_posix().endswith(f"share/albert-mn/{name}"):
      return str(pathlib.Path(path.locate()).resolve().parent)
  return ""


def _git(*arguments: str) -> str:
  """Returns the output of a git command, stripped.

  Raises:
    OSError: when git cannot be started.
    subprocess.SubprocessError: when it fails, or takes more than 20 seconds.
  """
  return subprocess.run(
    ["git", *arguments],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
    timeout=20,
  ).stdout.strip()
