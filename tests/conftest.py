"""What several tests start from: a runner, a corpus, a tokenizer."""

import pathlib

import pytest

import albert_mn  # noqa: F401  first: it sets what TensorFlow reads
from data_prep import tokenization, tokenizer_training
from tests import running


@pytest.fixture(scope="session")
def programs() -> running.Programs:
  return running.Programs()


@pytest.fixture(scope="session")
def udhr(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A corpus: the Universal Declaration, six lines a document."""
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
  """A SentencePiece model of 400 pieces trained on it."""
  folder = str(udhr.parent / "tokenizer")
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=str(udhr), output_dir=folder, vocab_size=400
    )
  )
  return f"{folder}/{tokenization.MODEL_NAME}"
