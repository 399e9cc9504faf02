"""The options of a pretraining run, and the options that follow from them."""

import dataclasses

from albert_mn.formats import foreign_configs, remote_weights
from albert_mn.runtime import (
  distribution,
  divergence,
  learning_rates,
  optimization,
  runs,
)
from data_prep.base import options
from data_prep.encoding import framing


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options of pretraining: data, model, length and results.

  The names are google-research/albert's.
  """

  input_file: str = options.option(
    "",
    "Training records: TFRecord files of create_pretraining_data, as glob "
    "patterns separated by commas. Required with --do_train.",
  )
  eval_input_file: str = options.option(
    "",
    "Held-out records for the evaluation: TFRecord files of "
    "create_pretraining_data, as glob patterns separated by commas. "
    "Required with --do_eval.",
  )
  output_dir: str = options.option(
    "",
    "Folder for checkpoints, results, TensorBoard events and the trained "
    "model. Required.",
  )
  do_train: bool = options.option(
    False,
    "Train the model on the records of --input_file "
    "(google-research/albert: true).",
  )
  do_eval: bool = options.option(
    False,
    "Evaluate the model on the records of --eval_input_file, during "
    "training and at the end.",
  )
  albert_config_file: str = options.option(
    "",
    "JSON file with the shape of an ALBERT model, such as "
    "configs/albert_base.json. Not needed where --init_checkpoint names a "
    "model with a config.",
  )
  bert_config_file: str = options.option(
    "",
    "JSON file with the shape of a BERT model, such as "
    "configs/bert_base.json, to train BERT and not ALBERT.",
  )
  gelu: str = foreign_configs.gelu_option()
  init_checkpoint: str = options.option(
    "",
    "Weights to start from: a model directory, the prefix of a checkpoint "
    "(also of checkpoints of google-research and of tf-models), a TF Hub "
    "module, a Hugging Face directory, a file of PyTorch weights, or an archive of any of these; "
    "a local path, gs:// or https://. By default --initialization decides "
    "where training starts.",
  )
  initialization: str = options.option(
    "random",
    "Initial weights of a run without --init_checkpoint. random: random "
    "numbers. corpus: statistics of the training records, that is the "
    "frequencies and the co-occurrence of pieces; needs the "
    "tokenizer.model beside the records.",
    choices=("random", "corpus"),
  )
  train_batch_size: int = options.option(
    4096,
    "Number of sequences in a training step, over all devices. The "
    "default is for TPUs; a laptop wants 8 to 64.",
    minimum=1,
  )
  eval_batch_size: int = options.option(
    64,
    "Number of sequences that the evaluation computes at once.",
    minimum=1,
  )
  max_seq_length: int = options.option(
    0,
    "Number of pieces, padding included, that each record has. Another number "
    "is an error. 0 accepts any (google-research/albert: 512).",
    minimum=0,
    maximum=framing.LONGEST,
  )
  max_predictions_per_seq: int = options.option(
    0,
    "Number of masked pieces that each record has room for. A packed record "
    "holds several examples; a record that is masked during training has room "
    "for none. Another number is an error. 0 accepts any "
    "(google-research/albert: 20).",
    minimum=0,
  )
  save_checkpoints_steps: int = options.option(
    1000,
    "Number of steps from one checkpoint to the next "
    "(google-research/albert: 5000).",
    minimum=1,
  )
  keep_checkpoint_max: int = options.option(
    5,
    "Number of checkpoints to keep. Older checkpoints are deleted.",
    minimum=1,
  )
  eval_interval: int = options.option(
    0,
    "Number of steps from one evaluation during training to the next. 0 "
    "evaluates whenever a checkpoint is saved.",
    minimum=0,
  )
  max_eval_steps: int = options.option(
    0,
    "Largest number of batches in an evaluation. 0 evaluates on all "
    "held-out records (google-research/albert: 100).",
    minimum=0,
  )
  iterations_per_loop: int = options.option(
    100,
    "Number of steps inside one tf.function, and from one line of the log "
    "to the next (google-research/albert: 1000).",
    minimum=1,
  )
  export_dir: str = options.option(
    "",
    "Folder for a copy of the trained model directory, also on gs://. By "
    "default no copy is made.",
  )
  random_seed: int = options.option(
    12345,
    "Seed of the initial weights, the order of the records, and dropout.",
    minimum=0,
    maximum=options.SEEDS - 1,
  )
  gradient_accumulation_steps: int = options.option(
    1,
    "Number of parts into which each device divides a batch to save "
    "memory. The results do not depend on this number.",
    minimum=1,
  )
  masked_lm_budget: float = options.option(
    0.0,
    "Share of the pieces to mask in records that are masked during "
    "training (create_pretraining_data --masking=dynamic). 0 takes the "
    "share from the manifest beside the records.",
    minimum=0.0,
    maximum=1.0,
  )
  scale_learning_rate: bool = options.option(
    False,
    "Read --learning_rate as the rate for batches of 4096 sequences, and "
    "multiply by the square root of --train_batch_size / 4096 (You et al. "
    "2020).",
  )
  print_schedule: bool = options.option(
    False,
    "Print the learning rate over the course of the run, and end without "
    "training.",
  )
  repair_normalization: bool = options.option(
    False,
    "Continue, on text that keeps й and ё, a model that was pretrained on "
    "text without these two letters. Pieces that contain й or ё start "
    "untrained.",
  )
  init_from_group0: bool = options.option(
    False,
    "Give hidden groups that --init_checkpoint lacks the weights of "
    "hidden group 0.",
  )
  on_divergence: str = options.option(
    "stop",
    "What to do when the loss is not finite or rises far beyond earlier "
    "losses. stop ends the run. rollback returns to the last good "
    "checkpoint, lowers the learning rate, and skips the batches taken "
    "since that checkpoint.",
    choices=("stop", "rollback"),
  )
  rollback_factor: float = options.option(
    0.5,
    "Number by which every rollback of --on_divergence=rollback "
    "multiplies the learning rate.",
    minimum=0.0,
    maximum=1.0,
  )
  max_rollbacks: int = options.option(
    5,
    "Number of rollbacks of --on_divergence=rollback in a run, after "
    "which the next divergence ends the run.",
    minimum=0,
  )
  jit_compile: bool = options.option(
    True,
    "Compile the forward and the backward pass with XLA.",
  )
  lean_step: bool = options.option(
    True,
    "Use the faster training step on CPUs in float32, which does less "
    "work between the matrix products. Losses and gradients agree with "
    "the ordinary step to about 1e-5.",
  )
  rematerialize: bool = options.option(
    False,
    "Compute the activations inside the layers a second time for the "
    "backward pass, and store none: less memory, about a third more time.",
  )

  def lengths(self) -> tuple[int, int]:
    """Returns the lengths of records that the flags demand.

    They are (max_seq_length, max_predictions_per_seq); 0 accepts any number.
    """
    return self.max_seq_length, self.max_predictions_per_seq

  def check(self) -> None:
    if self.print_schedule:
      return
    if not (self.do_train or self.do_eval):
      raise options.InputError(
        "--do_train or --do_eval", "neither", "say what to do"
      )
    options.require(
      self,
      "output_dir",
      *(["input_file"] if self.do_train else []),
      *(["eval_input_file"] if self.do_eval else []),
    )


def localized(settings: Options, devices: distribution.Options) -> Options:
  """Returns the options with --init_checkpoint as a local path.

  Remote weights are downloaded. Where a remote TPU computes, the options are
  returned unchanged, because the TPU reads the weights itself.

  Raises:
    options.InputError: when the download fails, or contains no weights.
  """
  if distribution.is_elsewhere(devices):
    return settings
  path = remote_weights.local(settings.init_checkpoint)
  return dataclasses.replace(settings, init_checkpoint=path)


def settled(
  settings: Options, recipe: optimization.OptimizerOptions
) -> optimization.OptimizerOptions:
  """Returns the optimizer options that the run uses.

  For training these are `recipe`, with the learning rate scaled to the batch if
  --scale_learning_rate is given. For an evaluation alone they are the options
  in run.json, or `recipe` if run.json has none.

  Args:
    settings: the options of pretraining.
    recipe: the optimizer options from the flags.

  Raises:
    options.InputError: when run.json is damaged.
  """
  if settings.do_train or settings.print_schedule:
    return learning_rates.for_batch(
      recipe, settings.train_batch_size, settings.scale_learning_rate
    )
  # A checkpoint holds optimizer slots, so it is restored into the same
  # optimizer.
  return runs.recorded(
    optimization.OptimizerOptions, settings.output_dir, "optimizer", recipe
  )


def policy(settings: Options) -> divergence.Policy:
  """Returns the policy for divergences that the options describe."""
  return divergence.Policy(
    rolls_back=settings.on_divergence == "rollback",
    factor=settings.rollback_factor,
    most=settings.max_rollbacks,
    every=settings.save_checkpoints_steps,
  )
