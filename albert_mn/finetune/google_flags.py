"""Flags of google-research/albert's run_classifier that have no effect here.

Commands that were written for google-research/albert run unchanged. A program
that is given one of these flags logs one line: why the flag has no effect, and
what to use instead.
"""

import dataclasses

from data_prep.base import options

_NO_TPU = "run_classifier.py computes on the GPU or the CPU of this machine"


@dataclasses.dataclass(frozen=True)
class ClassifierFlags(options.Group):
  """Command-line options of google-research/albert that have no effect here."""

  use_tpu: bool = options.ignored(
    False, f"{_NO_TPU}; start the program on a machine with a GPU"
  )
  tpu_name: str = options.ignored(
    "", f"{_NO_TPU}; start the program on a machine with a GPU"
  )
  tpu_zone: str = options.ignored("", f"{_NO_TPU}; leave the flag out")
  gcp_project: str = options.ignored("", f"{_NO_TPU}; leave the flag out")
  num_tpu_cores: int = options.ignored(
    0, f"{_NO_TPU}; leave the flag out", minimum=0
  )
  master: str = options.ignored(
    "", f"{_NO_TPU}, and asks no TensorFlow server; leave the flag out"
  )
  save_checkpoints_steps: int = options.ignored(
    0,
    "a checkpoint is saved at the end of every epoch; leave the flag out",
    minimum=0,
  )
  keep_checkpoint_max: int = options.ignored(
    0,
    "the last two checkpoints are kept, and the trained model in "
    "OUTPUT_DIR/model; leave the flag out",
    minimum=0,
  )
  iterations_per_loop: int = options.ignored(
    0,
    "training steps run one by one, in no loop inside TensorFlow; leave the "
    "flag out",
    minimum=0,
  )
  cached_dir: str = options.ignored(
    "",
    "every run divides the texts into pieces anew, in memory; leave the flag "
    "out",
  )
  albert_hub_module_handle: str = options.ignored(
    "",
    "run_classifier.py does not ask TF Hub; download the module, and give the "
    "folder as --init_checkpoint",
  )
