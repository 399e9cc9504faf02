"""Runs the programs of an installed package by name, as `albert-mn NAME FLAGS`.

    pip install .
    albert-mn build-corpus --input_file='raw/*.txt' --output_dir=corpus
    albert-mn pretrain --flagfile="$(albert-mn configs)/albert_tiny.flags" …

In a checkout, `python run_pretraining.py` and `python -m data_prep.build_corpus`
do the same.
"""

import runpy
import sys

from data_prep.base import release

# Name → (module, what the program does).
_PROGRAMS = {
  "build-corpus": ("data_prep.build_corpus", "cleans raw text into a corpus"),
  "train-tokenizer": (
    "data_prep.train_tokenizer",
    "trains a SentencePiece model",
  ),
  "create-pretraining-data": (
    "data_prep.create_pretraining_data",
    "turns a corpus into TFRecords",
  ),
  "create-classifier-data": (
    "data_prep.create_classifier_data",
    "splits labelled rows into frozen files",
  ),
  "plan": (
    "albert_mn.plan",
    "chooses the size and length of a pretraining run",
  ),
  "doctor": (
    "albert_mn.doctor",
    "checks whether a pretraining run can succeed",
  ),
  "pretrain": ("run_pretraining", "pretrains ALBERT or BERT on TFRecords"),
  "classify": ("run_classifier", "fine-tunes, evaluates and predicts"),
  "download-checkpoint": ("albert_mn.download_checkpoint", "downloads weights"),
  "convert-checkpoint": (
    "albert_mn.convert_checkpoint",
    "makes a model directory of a checkpoint",
  ),
  "export-model": (
    "albert_mn.export_model",
    "exports a model for use elsewhere",
  ),
  "fill-mask": (
    "albert_mn.fill_mask",
    "tells the likeliest words in the place of [MASK]",
  ),
  "predict": ("bert_tweet.predict", "predicts the labels of texts"),
  "serve": ("bert_tweet.serve", "serves a classifier over HTTP"),
  "visualize": ("bert_tweet.visualize", "draws the attention of a model"),
}


def main() -> None:
  """Runs the program that the first argument names, with the other arguments.

  For `configs` it prints the path of the folder of configs, for --version the
  version, and for --help or without arguments the help text. For an unknown
  name it prints an error to stderr and exits with code 2.
  """
  name = sys.argv[1] if len(sys.argv) > 1 else "--help"
  if name in _PROGRAMS:
    del sys.argv[1]
    runpy.run_module(_PROGRAMS[name][0], run_name="__main__", alter_sys=True)
  elif name == "configs":
    print(release.folder("configs"))
  elif name == "--version":
    print(release.version())
  elif name in ("--help", "-h"):
    print(_help())
  else:
    print(
      f"error: expected one of {', '.join([*_PROGRAMS, 'configs'])}; got "
      f"{name!r}: albert-mn --help says what each does",
      file=sys.stderr,
    )
    raise SystemExit(2)


def _help() -> str:
  """Returns the help text: the name of each program and its purpose."""
  rows = {name: about for name, (_, about) in _PROGRAMS.items()}
  rows["configs"] = "prints the folder of the shipped configs and recipes"
  return "\n".join(
    [
      "albert-mn NAME FLAGS runs a program; albert-mn NAME --help lists its flags.",
      "",
      *(f"  {name:<24} {about}" for name, about in rows.items()),
      "",
      "albert-mn --version prints the version.",
    ]
  )


if __name__ == "__main__":
  main()
