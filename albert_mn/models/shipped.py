"""The pretrained model in this repository, for programs without another model.

`scripts/make_pretrained.sh` makes the model from the sample's text. Its model
card, README.md in its folder, names the text and the licences.
"""

from data_prep.base import release

_FOLDER = "pretrained/albert_mn_tiny"


def model_path() -> str:
  """Returns the path of the pretrained model in this repository.

  The result is "" where this package is installed without the model.
  """
  return release.folder(_FOLDER)
