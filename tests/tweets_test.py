"""Tests of reading and cleaning tweets, and of splits that part no copies."""

import csv
import json
import os
import pathlib
import re
from typing import Any

import pytest

from albert_mn.tasks import baseline, problems
from data_prep.classification import classifier_data, classifier_sets, tweets
from data_prep.files import tables
from tests import running, two_authors


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("@bold сайн уу, @dorj! https://t.co/Ab1", "@ сайн уу, @! http"),
    ("имэйл a@b.mn &amp; 5 &lt; 6", "имэйл a@b.mn & 5 < 6"),
    ("R&amp;amp;D", "R&D"),
    pytest.param("R&" + 100_000 * "amp;" + "D", "R&D", id="a long chain"),
    pytest.param("R&" + 3_000 * "#38" + "D", "R&D", id="without semicolons"),
    ("&amp;lt;3 &lt &notit; &#x41; &fjlig;", "<3 < ¬it; A fj"),
    pytest.param(
      "&#" + 5_000 * "1", "&#" + 5_000 * "1", id="a number of many digits"
    ),
    ("Баярлалааааа!!!!!!", "Баярлалаа!!!"),
    ("хахахахаха 1000000 ......", "хахаха 1000000 ..."),
    ("😂😂😂😂😂 👍🏽 ❤️", "😂😂😂 👍 ❤"),
    ("XIII зуун\n\nирлээ\u200b", "XIII зуун ирлээ"),
    ("#монгол_улс #УИХ", "#монгол_улс #УИХ"),
    ("Саи\u0306н", "Сайн"),
  ],
)
def test_a_tweet_is_cleaned(text: str, expected: str) -> None:
  assert tweets.clean(text) == expected
  assert tweets.clean(expected) == expected


def test_mongolian_in_latin_letters_becomes_what_was_chosen() -> None:
  text = "@bold sain baina uu #Mongolia https://t.co/x"
  assert tweets.clean(text) == "@ sain baina uu #Mongolia http"
  assert tweets.clean(text, "mark") == (
    "[латин] @ sain baina uu #Mongolia http"
  )
  assert tweets.clean(text, "transliterate") == (
    "@ сайн байна уу #Mongolia http"
  )
  assert tweets.clean("good morning", "transliterate") == "good morning"


# The same tweet of the same author, as each of them has it.
_KINDS: dict[str, dict[str, Any]] = {
  "API 1.1": {
    "id": 1,
    "full_text": "Өнөөдөр цас орлоо",
    "user": {"screen_name": "bold"},
  },
  "API 1.1, cut": {
    "text": "Өнөөдөр ца…",
    "user": {"screen_name": "bold", "id": 7},
    "extended_tweet": {"full_text": "Өнөөдөр цас орлоо"},
  },
  "API 2": {"id": "1", "text": "Өнөөдөр цас орлоо", "author_id": "bold"},
  "a page of API 2": {
    "data": [{"text": "Өнөөдөр цас орлоо", "author_id": "bold"}]
  },
  "snscrape": {"content": "Өнөөдөр цас орлоо", "user": {"username": "bold"}},
  "snscrape, later": {
    "rawContent": "Өнөөдөр цас орлоо",
    "user": {"username": "@bold"},
  },
  "labelled": {"text": "Өнөөдөр цас орлоо", "label": "bold", "author_id": "7"},
}


def _found(path: pathlib.Path, **given: str) -> list[object]:
  return [
    row.reason if isinstance(row, tables.Bad) else row
    for _, row in tweets.stream(str(path), tweets.Options(**given))
  ]


@pytest.mark.parametrize("kind", _KINDS)
def test_every_kind_of_dump_is_read(tmp_path: pathlib.Path, kind: str) -> None:
  path = tmp_path / "a.jsonl"
  path.write_text(json.dumps(_KINDS[kind]) + "\n", "utf-8")
  assert _found(path) == [classifier_data.Row(1, "Өнөөдөр цас орлоо", "bold")]


@pytest.mark.parametrize(
  "header",
  ["username,content", "screen_name,full_text", "user.screen_name,text"],
)
def test_tables_of_tweets_are_read(tmp_path: pathlib.Path, header: str) -> None:
  path = tmp_path / "a.csv"
  with path.open("w", encoding="utf-8", newline="") as file:
    file.write(f"id,{header}\n")
    csv.writer(file).writerow([1, "bold", "Өнөөдөр,\nцас орлоо"])
  assert _found(path) == [classifier_data.Row(2, "Өнөөдөр, цас орлоо", "bold")]


def test_the_predecessors_tsv_is_read(tmp_path: pathlib.Path) -> None:
  for header in ("text\tlabel", "tweet\tauthor"):
    path = tmp_path / "a.tsv"
    path.write_text(f"{header}\nТийм ээээ\t1\n", "utf-8")
    assert _found(path) == [classifier_data.Row(2, "Тийм ээ", "1")]


def test_what_is_left_out_has_its_reason(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.jsonl"
  lines: list[dict[str, Any]] = [
    {"text": "RT @bold: цас орлоо", "author_id": "1"},
    {"text": "цас", "author_id": "1", "retweeted_status": {"id": 3}},
    {
      "text": "цас",
      "author_id": "1",
      "referenced_tweets": [{"type": "retweeted", "id": "3"}],
    },
    {
      "text": "цас",
      "author_id": "1",
      "referenced_tweets": [{"type": "quoted", "id": "3"}],
    },
    {"text": "@bold https://t.co/x", "author_id": "1"},
    {"text": "цас", "author_id": "2"},
    {"text": "цас"},
    {"id": 3, "author_id": "1"},
  ]
  path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
  assert _found(path, authors="1") == [
    tweets.RETWEET,
    tweets.RETWEET,
    tweets.RETWEET,
    classifier_data.Row(4, "цас", "1"),
    tweets.NOTHING_LEFT,
    tweets.ANOTHER_AUTHOR,
    "expected a label or an author, got neither",
    "expected a text under full_text, text, content, rawContent, "
    "renderedContent, got none",
  ]


def _freeze(folder: pathlib.Path, path: pathlib.Path) -> dict[str, Any]:
  return classifier_sets.build(
    classifier_sets.Options(
      input_file=str(path), output_dir=str(folder), source="tweets"
    ),
    classifier_data.Columns(),
    tweets.Options(),
  )


def _part(folder: pathlib.Path, name: str) -> list[classifier_data.Row]:
  return classifier_data.read(str(folder / f"{name}.tsv"), "text", "label")


def test_copies_of_tweets_never_straddle_the_split(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "tweets.jsonl"
  authors = two_authors.short_texts(
    running.ROOT / "sample/pretrain/udhr.txt",
    running.ROOT / "sample/pretrain/wiki_articles.txt",
  )
  with path.open("w", encoding="utf-8") as file:
    for author, texts in authors.items():
      for number, text in enumerate(texts[:300]):
        again = [text, f"{text} https://t.co/{number}", f"@{author} {text}!!!!"]
        for copy in again[: 1 + number % 3]:
          tweet = {"text": copy, "author_id": author}
          file.write(json.dumps(tweet, ensure_ascii=False) + "\n")
  counts = _freeze(tmp_path / "set", path)
  assert set(counts["copies_of_training_rows"]["test"].values()) == {0}
  parts = {name: _part(tmp_path / "set", name) for name in ("train", "test")}
  train, test = (
    {re.sub("^@ |!!!$| http$", "", row.text).lower() for row in part}
    for part in parts.values()
  )
  assert len(test) > 20
  assert train & test == set()


def test_a_stand_in_for_two_authors_is_told_apart_by_its_words(
  tmp_path: pathlib.Path,
) -> None:
  accuracy, counts = _baseline(
    tmp_path,
    running.ROOT / "sample/pretrain/udhr.txt",
    running.ROOT / "sample/pretrain/wiki_articles.txt",
  )
  assert min(counts["labels"][label]["test"] for label in "01") > 5
  assert classifier_sets.cleaning_of(str(tmp_path / "set")) == tweets.Options()
  assert accuracy > 0.9


@pytest.mark.slow
def test_the_novel_and_the_essays_are_told_apart_by_their_words(
  tmp_path: pathlib.Path,
) -> None:
  shared = os.environ.get("ALBERT_MN_SHARED")
  if not shared:
    pytest.skip("ALBERT_MN_SHARED is unset: no texts of two authors here")
  folder = pathlib.Path(shared) / "data/pretrain"
  accuracy, counts = _baseline(
    tmp_path, folder / "verne_20k.txt", folder / "batireedui.txt"
  )
  # Their topics help: submarines against language teaching.
  print(f"TF-IDF and SVM: {accuracy:.4f}", counts["rows"], counts["labels"])
  assert counts["rows"]["test"] > 500
  assert accuracy > 0.85


def _baseline(
  folder: pathlib.Path, *sources: pathlib.Path
) -> tuple[float, dict[str, Any]]:
  """Returns the accuracy of TF-IDF with an SVM, and the counts of its set.

  The set is a frozen one of two authors.
  """
  path = folder / "tweets.tsv"
  two_authors.write(path, *sources)
  counts = _freeze(folder / "set", path)
  train, test = (_part(folder / "set", name) for name in ("train", "test"))
  problem = problems.of_rows(problems.CLASS, train)
  texts = [row.text for row in train]
  linear = baseline.fitted(problem, texts, problem.targets(train))
  assert linear
  scores = linear.scores([row.text for row in test])
  return problem.score(scores, problem.targets(test)), counts
