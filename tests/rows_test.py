"""Tests that rows of Parquet, Arrow, JSON and tables become documents."""

import bz2
import decimal
import gzip
import json
import lzma
import pathlib
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import zstandard

from data_prep.base import options
from data_prep.corpus import corpora, corpus_options, preparation
from data_prep.files import gcs, storage, tables
from data_prep.sources import downloads, json_arrays, rows, selections, texts
from data_prep.text import cleaning
from tests import gcs_server, running
from tests.hostile import mutations

TEXTS = ["Хүн бүр эрхтэй.", "Сайн уу.\nСайн.", "Баяртай."]
DOCUMENTS = [("Хүн бүр эрхтэй.",), ("Сайн уу.", "Сайн."), ("Баяртай.",)]
COLUMNS: dict[str, list[Any]] = {
  "id": ["a", "b", "c"],
  "text": TEXTS,
  "language_score": [0.95, 0.5, 0.9],
  "metadata": [
    {"quality_warnings": None, "prob": 1},
    {"quality_warnings": ["tiny"], "prob": 2},
    {"quality_warnings": None, "prob": 3},
  ],
}


def _parquet(path: pathlib.Path, table: pa.Table, **how: Any) -> None:
  pq.write_table(table, path, row_group_size=2, **how)


def _dictionary(path: pathlib.Path, table: pa.Table) -> None:
  column = table.column("text").dictionary_encode()
  _stream(path, table.set_column(1, "text", column))


def _large(path: pathlib.Path, table: pa.Table) -> None:
  column = table.column("text").cast(pa.large_string())
  _parquet(path, table.set_column(1, "text", column))


def _binary(path: pathlib.Path, table: pa.Table) -> None:
  column = table.column("text").cast(pa.binary())
  _parquet(path, table.set_column(1, "text", column))


def _stream(path: pathlib.Path, table: pa.Table) -> None:
  with pa.ipc.new_stream(path, table.schema) as writer:
    writer.write_table(table, max_chunksize=2)


def _file(path: pathlib.Path, table: pa.Table) -> None:
  how = pa.ipc.IpcWriteOptions(compression="zstd")
  with pa.ipc.new_file(path, table.schema, options=how) as writer:
    writer.write_table(table, max_chunksize=2)


def _json_lines(path: pathlib.Path, table: pa.Table) -> None:
  lines = (json.dumps(row, ensure_ascii=False) for row in table.to_pylist())
  path.write_bytes(zstandard.compress("\n".join(lines).encode()))


def _array(path: pathlib.Path, table: pa.Table) -> None:
  path.write_text(json.dumps(table.to_pylist(), ensure_ascii=False, indent=1))


WRITERS: dict[str, Callable[[pathlib.Path, pa.Table], None]] = {
  "parquet": _parquet,
  "parquet with pages of version 2": lambda path, table: _parquet(
    path, table, compression="zstd", data_page_version="2.0"
  ),
  "parquet with large strings": _large,
  "parquet with bytes": _binary,
  "arrow stream": _stream,
  "arrow stream with a dictionary": _dictionary,
  "arrow file": _file,
  "json lines": _json_lines,
  "json array": _array,
}


def _items(path: pathlib.Path | str, **settings: Any) -> list[Any]:
  return list(texts.items(str(path), texts.Options(**settings)))


@pytest.fixture(params=WRITERS)
def written(
  request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> Callable[..., pathlib.Path]:
  """Returns a function that writes columns as a file of each format."""

  def write(**columns: list[Any]) -> pathlib.Path:
    path = tmp_path / "train-00000-of-00001"
    WRITERS[request.param](path, pa.table(COLUMNS | columns))
    return path

  return write


def test_each_row_is_a_document(written: Callable[..., pathlib.Path]) -> None:
  path = written()
  assert _items(path) == DOCUMENTS
  assert _items(path, text_field="id") == [("a",), ("b",), ("c",)]


def test_rows_are_kept_by_their_other_fields(
  written: Callable[..., pathlib.Path],
) -> None:
  path = written()
  dropped = cleaning.Drop("not language_score>=0.9", TEXTS[1])
  expected = [DOCUMENTS[0], dropped, DOCUMENTS[2]]
  assert _items(path, keep=("language_score>=0.9",)) == expected
  for keep in ("quality_warnings==null", "metadata.quality_warnings == null"):
    documents = _items(path, keep=(keep,))
    assert documents[1] == cleaning.Drop(f"not {keep}", TEXTS[1])
    assert [documents[0], documents[2]] == [DOCUMENTS[0], DOCUMENTS[2]]
  both = _items(path, keep=("language_score<0.95", "prob!=2"))
  assert both == [
    cleaning.Drop("not language_score<0.95", TEXTS[0]),
    cleaning.Drop("not prob!=2", TEXTS[1]),
    DOCUMENTS[2],
  ]


def test_a_bad_row_stops_the_work_or_costs_itself_only(
  written: Callable[..., pathlib.Path],
) -> None:
  path = written(text=[TEXTS[0], None, TEXTS[2]])
  with pytest.raises(options.InputError, match=r"'text' at .*:\d+; got none"):
    _items(path)
  first, bad, last = _items(path, bad_rows="leave_out")
  assert (first, last) == (DOCUMENTS[0], DOCUMENTS[2])
  reason = "expected a text under 'text', got none"
  assert bad == rows.BadRow("bad row", reason, 2)


def test_a_field_that_is_not_there_is_named(
  written: Callable[..., pathlib.Path],
) -> None:
  path = written()
  with pytest.raises(options.InputError, match=r"'body'.*'id', 'text'.*--text"):
    _items(path, text_field="body")
  with pytest.raises(options.InputError, match=r"one field 'score'.*--keep"):
    _items(path, keep=("score>=0.9",))


@pytest.mark.parametrize(
  ("fields", "place"),
  [
    ({"id": "1", "content": "Сайн уу."}, "content"),
    ({"raw_content": "Сайн уу.", "url": "a"}, "raw_content"),
    ({"content": {"a": 1}, "text": "Сайн уу."}, "text"),
  ],
)
def test_the_text_field_of_known_corpora_is_guessed_and_said(
  tmp_path: pathlib.Path,
  fields: dict[str, Any],
  place: str,
  caplog: pytest.LogCaptureFixture,
) -> None:
  path = tmp_path / "a.jsonl"
  path.write_text(json.dumps(fields))
  rows._say.cache_clear()
  with caplog.at_level("INFO", logger="absl"):
    assert _items(path) == [("Сайн уу.",)]
  assert f"the field {place!r}" in caplog.text


def test_without_a_known_field_the_fields_are_named(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.parquet"
  pq.write_table(pa.table({"мөр": ["Сайн уу."]}), path)
  with pytest.raises(options.InputError, match=r"'мөр'.*--text_field"):
    _items(path)


@pytest.mark.parametrize(
  ("expression", "values"),
  [
    ("a==1", {1: True, "1": True, None: False}),
    ("a!=1", {1: False, 2: True, None: True, "б": True}),
    ("a==null", {None: True, 0: False, "": False}),
    ("a==1.0", {1: True, 2: False}),
    ("a==true", {True: True, False: False, "true": False}),
    ("a!=1", {True: True, False: True}),
    ("a>=0.9", {0.9: True, 0.89: False, None: False, float("nan"): False}),
    ('a>"2020"', {"2021-01-01": True, "2019": False, 2021: False}),
    ('a == "mon Cyrl"', {"mon Cyrl": True, "mon": False}),
  ],
)
def test_a_condition_compares_values_of_one_kind(
  expression: str, values: dict[Any, bool]
) -> None:
  condition = selections.parsed(expression)
  for value, expected in values.items():
    assert condition.holds(value) == expected, value


@pytest.mark.parametrize(
  "expression", ["", "a", "a=1", "a==mon", "==1", "a>=null", "a>=[1]", "a>1e"]
)
def test_an_expression_that_is_none_is_refused(expression: str) -> None:
  with pytest.raises(options.InputError, match="--keep"):
    texts.Options(keep=(expression,))


def test_conditions_hold_for_tables_too(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.csv"
  path.write_text("text,score,note\nСайн уу.,0.95,\nУу.,0.5,x\n", "utf-8")
  kept = _items(path, keep=("score>=0.9", "note==null"))
  assert kept == [("Сайн уу.",), cleaning.Drop("not score>=0.9", "Уу.")]


def test_a_saved_data_set_is_a_stream_of_batches(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "data-00000-of-00001.arrow"
  _stream(path, pa.table(COLUMNS))
  assert path.read_bytes().startswith(b"\xff\xff\xff\xff")
  assert _items(path) == DOCUMENTS


def test_columnar_files_are_read_from_a_bucket(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  with gcs_server.running(tmp_path) as front:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
    gcs._client.cache_clear()
    for name in ("parquet", "arrow stream", "arrow file"):
      local, remote = tmp_path / "local", f"gs://bucket/{name}"
      WRITERS[name](local, pa.table(COLUMNS))
      with storage.writing(remote, "wb") as file:
        file.write(local.read_bytes())
      assert _items(remote) == DOCUMENTS
  gcs._client.cache_clear()


def test_values_are_compared_as_json_would_hold_them(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.parquet"
  table = pa.table(
    {
      "text": TEXTS,
      "price": [decimal.Decimal("1.50"), decimal.Decimal("2.00"), None],
      "date": pa.array([0, 86_400, None], pa.timestamp("s")),
    }
  )
  pq.write_table(table, path)
  kept = _items(path, keep=("price<2", 'date<"1970-01-02"'))
  assert kept[0] == DOCUMENTS[0]
  assert [item.reason for item in kept[1:]] == ["not price<2"] * 2


def test_text_that_is_no_utf_8_is_a_bad_row(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.parquet"
  raw = pa.array([b"\xd0\xa5", b"\xd0", b"\xd0\xa5"], pa.binary())
  text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
  pq.write_table(pa.table({"text": text}), path)
  first, bad, last = _items(path, bad_rows="leave_out")
  assert (first, last) == (("Х",), ("Х",))
  assert bad.row == 2
  assert "UTF-8 text under 'text'" in bad.example


def test_a_parquet_file_in_gzip_is_refused(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.parquet.gz"
  plain = tmp_path / "a"
  _parquet(plain, pa.table(COLUMNS))
  path.write_bytes(gzip.compress(plain.read_bytes()))
  with pytest.raises(options.InputError, match=r"got a \.gz file: decompress"):
    _items(path)


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(
  tmp_path: pathlib.Path, name: str
) -> None:
  path = tmp_path / "a"
  WRITERS[name](path, pa.table(COLUMNS))
  whole = path.read_bytes()
  told = 0
  for seed in range(60):
    rng = random.Random(seed)
    # Of Parquet and Arrow only cut files: no test may crash another's library.
    content = (
      mutations.changed(rng, whole)
      if name.startswith("json")
      else whole[: rng.randrange(len(whole))]
    )
    path.write_bytes(content)
    try:
      items = _items(path, bad_rows="leave_out", keep=("language_score>=0",))
    except options.InputError as error:
      assert str(error).isprintable()
      told += 1
    else:
      told += any(isinstance(item, rows.BadRow) for item in items)
  assert told


def test_a_text_that_fills_a_disk_is_refused(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = tmp_path / "a.parquet"
  monkeypatch.setattr(storage, "_ALWAYS_FREE_BYTES", 1 << 20)
  repeated = pa.array(["а" * 10_000] * 2_000).dictionary_encode()
  pq.write_table(pa.table({"text": repeated}), path)
  with pytest.raises(options.InputError, match="made to fill a disk"):
    _items(path)


def test_memory_does_not_grow_with_the_row_group(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.parquet"
  rng = random.Random(3)
  table = pa.table({"text": [rng.randbytes(2_000).hex() for _ in range(8_000)]})
  pq.write_table(table, path, row_group_size=8_000, use_dictionary=False)
  del table
  before = pa.total_allocated_bytes()
  most = 0
  for _ in texts.items(str(path), texts.Options()):
    most = max(most, pa.total_allocated_bytes() - before)
  assert most < 8 << 20 < path.stat().st_size


def test_an_array_is_never_held_as_a_whole(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.json"
  path.write_text(json.dumps([{"text": "сайн " * 800}] * 1_000))
  tracemalloc.start()
  assert sum(1 for _ in json_arrays.items(str(path))) == 1_000
  _, most = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert most < 12 << 20 < path.stat().st_size


@pytest.mark.parametrize(
  ("text", "items"),
  [
    ("[1, 2.5, 3]", [1, 2.5, 3]),
    ("[]", []),
    (' ["\\ud83d", {"a": []}] ', ["\ufffd", {"a": []}]),
    ("[12", [None]),
    ("[1, x]", [1, None]),
    ("[1 2]", [None]),
  ],
)
def test_items_of_an_array_come_in_order(
  tmp_path: pathlib.Path,
  text: str,
  items: list[Any],
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  path = tmp_path / "a.json"
  path.write_text(text)
  for size in (1, 3, 1 << 20):
    monkeypatch.setattr(json_arrays, "_CHUNK", size)
    read = [
      None if isinstance(item, tables.Bad) else item
      for _, item in json_arrays.items(str(path))
    ]
    assert read == items


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_array_of_texts_has_a_document_for_each(
  tmp_path: pathlib.Path, pack: Callable[[bytes], bytes]
) -> None:
  path = tmp_path / "a"
  path.write_bytes(pack(json.dumps(TEXTS).encode()))
  assert _items(path) == DOCUMENTS


def test_entities_and_written_out_breaks_of_a_row_are_resolved(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.jsonl"
  lines = [
    "Сайн &amp; уу&nbsp;&laquo;тийм&raquo; &#1041;",
    "Сайн &amp;quot;уу&amp;quot;",
    "Сайн уу.\\nТийм.\\r\\nҮгүй.",
    "Сайн.\nC:\\new",
    "\\nu AT&T; R&D",
  ]
  path.write_text("\n".join(json.dumps({"text": line}) for line in lines))
  assert _items(path) == [
    ("Сайн & уу\xa0«тийм» Б",),
    ('Сайн "уу"',),
    ("Сайн уу.", "Тийм.", "Үгүй."),
    ("Сайн.", "C:\\new"),
    ("\\nu AT&T; R&D",),
  ]


def test_a_long_window_of_zstandard_is_read(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.jsonl.zst"
  how = zstandard.ZstdCompressionParameters.from_level(
    3, window_log=30, enable_ldm=True
  )
  packer = zstandard.ZstdCompressor(compression_params=how).compressobj()
  line = json.dumps({"text": TEXTS[0]}).encode() + b"\n"
  path.write_bytes(packer.compress(line * 3) + packer.flush())
  window = zstandard.get_frame_parameters(path.read_bytes()).window_size
  assert window == 1 << 30
  assert _items(path) == [DOCUMENTS[0]] * 3


def _build(
  path: pathlib.Path, out: pathlib.Path, workers: int, **settings: Any
) -> dict[str, str]:
  corpora.build(
    corpus_options.Settings(
      corpus_options.Options(
        input_file=str(path),
        output_dir=str(out),
        num_workers=workers,
        num_shards=2,
        near_duplicates=0.8,
      ),
      cleaning.Options(min_words=1),
      texts.Options(**settings),
      downloads.Options(),
    )
  )
  return running.digests(out)


@pytest.fixture
def parts(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> pathlib.Path:
  """A folder with a file of each format; row 21 of each is bad."""
  monkeypatch.setattr(preparation, "_LETTERS_A_TASK", 200)
  folder = tmp_path / "in"
  folder.mkdir()
  for number, write in enumerate((_parquet, _stream, _json_lines, _array)):
    text = [f"Энэ бол {number * 50 + i} дугаар мөр юм." for i in range(50)]
    score = [i / 50 for i in range(50)]
    write(
      folder / f"part{number}",
      pa.table({"text": [*text[:20], None, *text[21:]], "score": score}),
    )
  return folder


def test_a_corpus_of_rows_counts_and_lists_what_it_leaves_out(
  parts: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  out = tmp_path / "out"
  _build(parts, out, 1, bad_rows="leave_out", keep=("score>=0.1",))
  stats = json.loads((out / "stats.json").read_text())
  assert stats["dropped: bad row"] == 4
  assert stats["dropped: not score>=0.1"] == 20
  assert stats["documents"] == 176
  header, *listed = (out / "bad_rows.tsv").read_text().splitlines()
  reason = "expected a text under 'text', got none"
  assert header == "file\trow\treason"
  assert listed == [f"part{number}\t21\t{reason}" for number in range(4)]
  manifest = json.loads((out / "manifest.json").read_text())
  assert "bad_rows.tsv" in manifest["files"]
  assert manifest["parameters"]["keep"] == ["score>=0.1"]
  path = tmp_path / "whole.jsonl"
  path.write_text(json.dumps({"text": "Сайн уу."}))
  _build(path, out, 1)
  assert not (out / "bad_rows.tsv").exists()


@pytest.mark.slow
def test_a_corpus_of_rows_does_not_depend_on_the_workers(
  parts: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  digests = [
    _build(
      parts,
      tmp_path / f"out{workers}",
      workers,
      bad_rows="leave_out",
      keep=("score>=0.1",),
    )
    for workers in (1, 2, 4)
  ]
  assert digests[0] == digests[1] == digests[2]


def test_a_flag_may_be_given_several_times(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  path = tmp_path / "a.parquet"
  _parquet(path, pa.table(COLUMNS))
  programs.succeed(
    "-m",
    "data_prep.build_corpus",
    f"--input_file={path}",
    "--min_words=1",
    f"--output_dir={tmp_path}/out",
    "--keep=language_score>=0.9",
    "--keep=prob<3",
  )
  stats = json.loads((tmp_path / "out/stats.json").read_text())
  assert stats["documents"] == stats["dropped: not prob<3"] == 1
  said = programs.refuse(
    "-m",
    "data_prep.build_corpus",
    f"--input_file={path}",
    f"--output_dir={tmp_path}/out",
    "--keep=language_score=0.9",
  )
  assert "--keep to be a field, an operator" in said
