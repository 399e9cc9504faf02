"""Fixtures that several tests use: a runner, a corpus, a tokenizer, models."""

import collections
import json
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2

import albert_mn  # noqa: F401  first: it sets what TensorFlow reads
from albert_mn.finetune import classification, fine_tuning
from data_prep.encoding import tokenization, tokenizer_training
from data_prep.pretraining import pretraining_data
from tests import running


@pytest.fixture(scope="session")
def programs() -> running.Programs:
  """Runs the project's programs in separate processes."""
  return running.Programs()


@pytest.fixture(scope="session")
def udhr(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A corpus file: the Universal Declaration, six lines for each document."""
  lines = (running.ROOT / "sample/pretrain/udhr.txt").read_text(
    encoding="utf-8"
  )
  sentences = [line for line in lines.splitlines() if line.strip()]
  path = tmp_path_factory.mktemp("udhr") / "corpus.txt"
  documents = [sentences[i : i + 6] for i in range(0, len(sentences), 6)]
  path.write_text(
    "\n\n".join("\n".join(d) for d in documents) + "\n", encoding="utf-8"
  )
  return path


@pytest.fixture(scope="session")
def tokenizer_file(udhr: pathlib.Path) -> str:
  """A SentencePiece model of 400 pieces, trained on `udhr`."""
  folder = str(udhr.parent / "tokenizer")
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=str(udhr), output_dir=folder, vocab_size=400
    )
  )
  return f"{folder}/{tokenization.MODEL_NAME}"


@pytest.fixture(scope="session")
def digit_comma_file(tokenizer_file: str) -> str:
  """`tokenizer_file` with the pieces `▁22,` and `5,` added.

  google-research's tokenizer divides such pieces after encoding.
  """
  proto = sentencepiece_model_pb2.ModelProto.FromString(
    pathlib.Path(tokenizer_file).read_bytes()
  )
  for piece in ("▁22,", "5,", "▁22", "22", "5"):
    proto.pieces.add(piece=piece, score=-1.0)
  path = pathlib.Path(tokenizer_file).with_name("digit_commas.model")
  path.write_bytes(proto.SerializeToString())
  return str(path)


DYNAMIC_LENGTH = 32  # pieces in a record of `dynamic_records`


@pytest.fixture(scope="session")
def dynamic_records(
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
  """Records of `udhr`: training records without masks, and held-out records."""
  out = tmp_path_factory.mktemp("dynamic") / "records"
  pretraining_data.create(
    pretraining_data.Options(
      input_file=str(udhr),
      spm_model_file=tokenizer_file,
      output_dir=str(out),
      max_seq_length=DYNAMIC_LENGTH,
      dupe_factor=4,
      eval_fraction=0.2,
      masking="dynamic",
      num_workers=1,
    )
  )
  return out


@pytest.fixture(scope="session")
def topics(
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path_factory: pytest.TempPathFactory,
) -> str:
  """The model directory of a classifier with the classes эрх and үүрэг.

  Each text contains the name of its class, so the classifier learns fast.
  """
  folder = tmp_path_factory.mktemp("topics")
  words = sorted(set(udhr.read_text("utf-8").split()))
  rng = np.random.default_rng(0)
  lines = ["text\tlabel"]
  for i in range(96):
    label = ["эрх", "үүрэг"][i % 2]
    filler = rng.choice(words, 2 + i % 5)
    lines.append(f"{label} {' '.join(filler)} {label}\t{label}")
  (folder / "train.tsv").write_text("\n".join(lines) + "\n", "utf-8")
  shape = {
    "vocab_size": 400,
    "embedding_size": 16,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
  }
  (folder / "config.json").write_text(json.dumps(shape))
  classification.run(
    classification.Options(
      do_train=True,
      data_dir=str(folder),
      spm_model_file=tokenizer_file,
      albert_config_file=str(folder / "config.json"),
      output_dir=str(folder / "run"),
    ),
    fine_tuning.Recipe(
      max_seq_length=64,
      learning_rate=3e-3,
      train_batch_size=16,
      num_train_epochs=12.0,
    ),
  )
  return str(folder / "run/model")


# Files that take minutes, the longest first: training, distribution and
# classification_kinds as measured on 2026-12-01, and guesses. Workers get whole
# files, so that a long file which begins last leaves the second worker idle.
_LONG = [
  f"{name}_test.py"
  for name in (
    "training distribution docs linear_time killed_runs quickstart exports "
    "divergence adaptation classification_kinds interop beam_corpus page "
    "programs package server doctor card_usage beam_runner probe"
  ).split()
]


@pytest.hookimpl(trylast=True)  # after -m has left tests out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Puts the tests of `_LONG` first, then those of files with most tests."""
  sizes = collections.Counter(item.path for item in items)
  places = {name: place for place, name in enumerate(_LONG)}
  items.sort(
    key=lambda item: (
      places.get(item.path.name, len(_LONG)),
      -sizes[item.path],
    )
  )


_HOSTILE = "hostile "


@pytest.fixture
def tried(
  record_property: Callable[[str, object], None],
) -> Iterator[collections.Counter[str]]:
  """Counts hostile inputs by kind; the sums are printed after the run."""
  counts: collections.Counter[str] = collections.Counter()
  yield counts
  for kind, number in counts.items():
    record_property(_HOSTILE + kind, number)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
  """Prints the counts of `tried`, from this process and those of xdist."""
  counts: collections.Counter[str] = collections.Counter()
  for reports in terminalreporter.stats.values():
    for report in reports:
      if getattr(report, "when", "") == "teardown":
        for name, number in report.user_properties:
          if name.startswith(_HOSTILE):
            counts[name.removeprefix(_HOSTILE)] += number
  if counts:
    shown = ", ".join(f"{number:,} {kind}" for kind, number in counts.items())
    terminalreporter.write_line(f"{counts.total():,} hostile inputs: {shown}")
