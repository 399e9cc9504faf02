"""The pretrained model in this repository, for programs that are given none.

`scripts/make_pretrained.sh` makes the model from the sample's text. Its model
card, README.md in its folder, names the text and the licences.
"""

import pathlib

_FOLDER = pathlib.Path("pretrained", "albert_mn_tiny")


def model_path() -> str:
  """Returns the path of the model directory.

  The result is "" where this package is installed without the repository.
  """
  for parent in pathlib.Path(__file__).resolve().parents:
    if (parent / _FOLDER).is_dir():
      return str(parent / _FOLDER)
  return ""
