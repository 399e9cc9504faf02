"""Tests of the counts of a corpus, and of the page that shows them."""

import dataclasses
import json
import pathlib
from typing import Any

import pytest
from lxml import html

from data_prep.corpus import (
  corpora,
  corpus_options,
  corpus_report,
  corpus_stats,
)
from data_prep.sources import downloads, texts
from data_prep.text import cleaning
from tests import running

EVIL = "<script>alert(1)</script><img src=//a.mn/x onerror=a()> энэ & тэр"
EVIL_NAME = "a<b>&\u202e.txt"  # it turns the direction of what follows
NEWS = f"""\
Монгол Улсын нийслэл хот бол Улаанбаатар юм. {EVIL} гэж бичжээ.
Сэтгэгдэл бичих {EVIL}

Зураг {EVIL.split()[0]}

Тэр маргааш Дархан хот руу явна. Утас: 99112233 гэж бичсэн байв.
***
"""
BOOKS = """\
Тэр маргааш Дархан хот руу явна. Утас: 99112233 гэж бичсэн байв.

Caйн байна уу, İ үсэг энд 1 байна.

Нэг хоёр гурав дөрөв тав зургаа долоо найм. Ном энд дуусав.
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """The folder of a corpus of two files, and an evaluation set.

  The name of one file contains markup.
  """
  folder = tmp_path_factory.mktemp("корпус")
  (folder / EVIL_NAME).write_text(NEWS, "utf-8")
  (folder / "book.txt").write_text(BOOKS, "utf-8")
  (folder / "dev.tsv").write_text(
    "text\tlabel\nЭнд нэг хоёр гурав дөрөв тав зургаа долоо найм.\t1\n", "utf-8"
  )
  corpora.build(_settings(folder))
  return folder


def _settings(folder: pathlib.Path) -> corpus_options.Settings:
  return corpus_options.Settings(
    corpus_options.Options(
      input_file=f"{folder}/*.txt",
      output_dir=f"{folder}/out",
      decontaminate=f"{folder}/dev.tsv",
      num_workers=1,
    ),
    cleaning.Options(min_words=3, scrub_personal_data=True, language="any"),
    texts.Options(),
    downloads.Options(),
  )


def _stats(folder: pathlib.Path) -> dict[str, Any]:
  stats: dict[str, Any] = json.loads(
    (folder / "out/stats.json").read_text("utf-8")
  )
  return stats


def _tables(page: str) -> dict[str, dict[str, list[str]]]:
  """Returns caption → first cell of a row → its other cells, of all tables."""
  return {
    table.findtext("caption"): {
      row.find("th").text_content(): [
        cell.text_content() for cell in row.findall("td")
      ]
      for row in table.findall("tbody/tr")
    }
    for table in html.document_fromstring(page).iter("table")
  }


def _numbers(rows: dict[str, list[str]], column: int = 0) -> dict[str, int]:
  return {
    name: int(cells[column].replace(",", "")) for name, cells in rows.items()
  }


def _shown(name: str) -> str:
  return name.replace("\u202e", "\ufffd")


def test_what_was_read_is_what_was_kept_and_what_was_lost(
  made: pathlib.Path,
) -> None:
  stats = _stats(made)
  for counts in (stats, *stats["files"].values()):
    lost = sum(n for x, n in counts.items() if x.startswith("dropped: "))
    assert counts["documents read"] == counts["documents"] + lost
  assert stats["files"][EVIL_NAME] == {
    "documents": 2,
    "documents read": 3,
    "dropped: too few words": 1,
    "lines: boilerplate": 1,
    "lines: line without letters": 1,
    "lines: personal data scrubbed": 1,
    "sentences": 4,
    "sentences read": 7,
    "words": 26,
    "words read": 37,
  }
  assert stats["lines: in an evaluation set"] == 1
  assert stats["dropped: exact duplicate"] == 1


def test_lengths_and_letters_are_those_of_the_corpus(
  made: pathlib.Path,
) -> None:
  stats = _stats(made)
  text = (made / "out/corpus-00000-of-00001.txt").read_text("utf-8")
  documents = [d.split("\n") for d in text.strip().split("\n\n")]
  assert stats["document_sentences"] == {"1": 2, "2": 2}
  words = [len(s.split()) for d in documents for s in d]
  assert stats["sentence_words"] == {
    name: sum(int(ends[0]) <= n <= int(ends[-1]) for n in words)
    for name, ends in ((x, x.split("-")) for x in stats["sentence_words"])
  }
  assert sum(stats["sentence_words"].values()) == stats["sentences"]
  lower = text.replace("İ", "\0").lower().replace("\0", "İ")
  assert stats["letters"] == {
    x: lower.count(x) for x in set(lower) if x.isalpha()
  }
  assert list(stats["letters"].values()) == sorted(
    stats["letters"].values(), reverse=True
  )


def test_long_text_is_counted_in_slices_to_the_same_numbers(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  documents = [("Сайн уу, Өвөө?", "Би 🙂 ирлээ " * 9), ("Нэг хоёр",)]
  counted = []
  for size in (3, 1 << 20):
    monkeypatch.setattr(corpus_stats._Letters, "_SLICE", size)
    stats = corpus_stats.Stats()
    stats.keep("ном.txt", documents)
    counted.append(stats.content())
  assert counted[0] == counted[1]
  assert (
    counted[0]["letters"]["и"] == 3 * 9 - 9 + counted[0]["letters"]["б"] - 9
  )


def test_steps_of_length_grow_and_hold_every_length_once() -> None:
  stats = corpus_stats.Stats()
  stats.keep("ном.txt", [["а" for _ in range(n)] for n in range(1, 128)])
  assert stats.content()["document_sentences"] == {
    "1": 1,
    "2": 1,
    "3": 1,
    "4-5": 2,
    "6-7": 2,
    "8-11": 4,
    "12-15": 4,
    "16-23": 8,
    "24-31": 8,
    "32-47": 16,
    "48-63": 16,
    "64-95": 32,
    "96-127": 32,
  }


def test_the_page_says_what_stats_json_says(made: pathlib.Path) -> None:
  stats, page = _stats(made), (made / "out/corpus_report.html").read_text()
  tables = _tables(page)
  for column, suffix in enumerate((" read", "")):
    assert _numbers(tables["In all"], column) == {
      measure: stats[measure + suffix] for measure in corpus_stats.MEASURES
    }
  for name, counts in stats["files"].items():
    assert tables["By file"][_shown(name)][:6] == [
      str(counts[f"{measure}{suffix}"])
      for measure in corpus_stats.MEASURES
      for suffix in (" read", "")
    ]
  for kind, caption in (
    ("dropped: ", "Documents dropped"),
    ("lines: ", "Sentences dropped or changed"),
  ):
    reasons = {
      name.removeprefix(kind): count
      for name, count in stats.items()
      if name.startswith(kind)
    }
    assert _numbers(tables[caption]) == reasons
    for name, cells in tables[caption].items():
      assert cells[2] == stats["examples"][name][0]
    for file, counts in stats["files"].items():
      cells = tables[f"{caption}, by file"][_shown(file)]
      assert cells == [str(counts.get(kind + x, 0)) for x in sorted(reasons)]
  assert (
    _numbers(tables["Sentences in a document"]) == (stats["document_sentences"])
  )
  assert _numbers(tables["Words in a sentence"]) == stats["sentence_words"]
  own = _numbers(tables["The Mongolian alphabet, in either case"])
  foreign_letters = _numbers(tables["Letters outside the Mongolian alphabet"])
  assert len(own) == 35
  assert foreign_letters.pop("all of them") == sum(foreign_letters.values())
  shown = {name: n for name, n in (own | foreign_letters).items() if n}
  assert shown == stats["letters"]
  assert not own.keys() & foreign_letters.keys()


def test_it_tells_not_found_from_not_looked_for(made: pathlib.Path) -> None:
  copies = _tables((made / "out/corpus_report.html").read_text())
  assert copies["Copies and overlap"] == {
    "exact duplicates": ["1", "yes"],
    "near duplicates": ["0", "no"],
    "sentences of evaluation sets": ["1", "dev.tsv"],
  }


def test_letters_that_only_look_mongolian_are_named(made: pathlib.Path) -> None:
  tables = _tables((made / "out/corpus_report.html").read_text())
  foreign_letters = tables["Letters outside the Mongolian alphabet"]
  assert foreign_letters["c"][2] == "U+0063 LATIN SMALL LETTER C"


def test_texts_are_shown_as_text_and_nothing_runs_or_is_fetched(
  made: pathlib.Path,
) -> None:
  page = (made / "out/corpus_report.html").read_text("utf-8")
  tree = html.document_fromstring(page)
  assert {x.tag for x in tree.iter()} <= set(
    "html head meta title style body header h1 h2 p main section div table "
    "caption thead tbody tr th td bdi svg rect".split()
  )
  names = {name for element in tree.iter() for name in element.attrib}
  assert not {"src", "href", "style", "onerror"} & names
  assert "url(" not in page
  assert "@import" not in page
  for text in (EVIL[:40], _shown(EVIL_NAME)):
    assert text in tree.text_content()
  assert "\u202e" not in page
  assert str(made) not in page


def test_tables_say_what_they_are_and_what_names_a_row_or_column(
  made: pathlib.Path,
) -> None:
  page = (made / "out/corpus_report.html").read_text("utf-8")
  tree = html.document_fromstring(page)
  assert tree.get("lang") == "en"
  assert tree.find(".//header/p").get("lang") == "mn"
  for table in tree.iter("table"):
    assert table.findtext("caption")
    assert {x.get("scope") for x in table.findall("thead/tr/th")} == {"col"}
    width = len(table.findall("thead/tr/th"))
    for row in table.findall("tbody/tr"):
      assert row[0].tag == "th"
      assert row[0].get("scope") == "row"
      assert len(row) == width


def test_what_is_scrubbed_from_the_corpus_is_no_example_either(
  made: pathlib.Path,
) -> None:
  page = (made / "out/corpus_report.html").read_text("utf-8")
  assert "99112233" not in page + json.dumps(_stats(made))
  assert _stats(made)["examples"]["personal data scrubbed"][0] == (
    "Утас: [утас] гэж бичсэн байв."
  )


def test_it_is_drawn_from_stats_and_manifest_and_is_part_of_the_corpus(
  made: pathlib.Path,
) -> None:
  out = made / "out"
  before = {path.name: path.read_bytes() for path in out.iterdir()}
  manifest = json.loads(before["manifest.json"])
  page = corpus_report.page(_stats(made), manifest["parameters"])
  assert before["corpus_report.html"].decode() == page
  entry = manifest["files"]["corpus_report.html"]
  assert entry["bytes"] == len(before["corpus_report.html"])
  assert _tables(page)["What decides the content"]["--min_words"] == ["3"]
  corpora.build(_settings(made))
  assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_two_workers_draw_the_same_page(tmp_path: pathlib.Path) -> None:
  """The corpus has several files, so that there is more than one task."""
  sample = running.ROOT / "sample/pretrain/wiki_articles.txt"
  articles = sample.read_text("utf-8").split("\n\n")
  for part in range(3):
    (tmp_path / f"{part}.txt").write_text("\n\n".join(articles[part::3]))
  pages = []
  for workers in (1, 2):
    settings = _settings(tmp_path)
    settings = dataclasses.replace(
      settings,
      corpus=dataclasses.replace(
        settings.corpus, decontaminate="", num_workers=workers
      ),
    )
    corpora.build(settings)
    pages.append((tmp_path / "out/corpus_report.html").read_bytes())
  assert pages[0] == pages[1]


def test_thousands_of_books_and_letters_are_summed_up(
  made: pathlib.Path,
) -> None:
  stats = corpus_stats.Stats()
  for number in range(300):
    stats.read(f"{number}.epub", 2, 3, 5)
    stats.keep(f"{number}.epub", [("Нэг хоёр", chr(0x4E00 + number))])
    stats.drop(f"{number}.epub", "redirect", "")
  manifest = json.loads((made / "out/manifest.json").read_text("utf-8"))
  page = corpus_report.page(stats.content(), manifest["parameters"])
  tables = _tables(page)
  assert len(tables["By file"]) == 201
  assert tables["By file"]["100 more, see stats.json"][:2] == ["200", "100"]
  foreign_letters = tables["Letters outside the Mongolian alphabet"]
  assert foreign_letters["all of them"][0] == "300"
  assert foreign_letters["others"][0] == "250"
