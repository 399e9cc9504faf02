"""Tests of a run's curves after kills, and of the page that shows them."""

import json
import pathlib
from collections.abc import Mapping, Sequence

import pytest
import tensorflow as tf
from lxml import html

from albert_mn.pretrain import history, training_report
from data_prep.base import pages
from data_prep.files import gcs, storage
from tests import gcs_server

EVIL = "</td><script>alert(1)</script><img src=//a.mn/x> сургалт & тест\u202e"
SETTINGS = {
  "random_seed": 7,
  "init_checkpoint": EVIL,
  "optimizer": {"beta_1": 0.9},
  "flags": {"output_dir": EVIL, "do_train": True},
  "versions": {"python": "3.11.2"},
}


def _write(folder: pathlib.Path, steps: Sequence[int], **tags: float) -> None:
  """Writes the events of one start of a run: for each tag, value × step."""
  writer = tf.summary.create_file_writer(str(folder))
  with writer.as_default():
    for step in steps:
      for tag, value in tags.items():
        tf.summary.scalar(tag, value * step, step=step)
  writer.close()


@pytest.fixture
def run(tmp_path: pathlib.Path) -> pathlib.Path:
  """A run directory: killed after step 40, gone on from step 20."""
  events = tmp_path / "run/events"
  _write(events / "train", [10, 20, 30, 40], loss=1.0, learning_rate=0.5)
  _write(events / "train", [25, 30, 35], loss=2.0, learning_rate=0.5)
  _write(events / "eval", [20], loss=0.5, masked_lm_accuracy=0.01)
  _write(
    events / "eval",
    [35],
    loss=0.25,
    masked_lm_accuracy=0.02,
    sentence_order_accuracy=float("nan"),
    probe_accuracy=0.01,
    probe_deviation=0.001,
    probe_majority=0.005,
  )
  (tmp_path / "run/run.json").write_text(json.dumps(SETTINGS))
  return tmp_path / "run"


def test_a_run_that_went_back_shows_the_steps_it_took_last(
  run: pathlib.Path,
) -> None:
  curves = history.curves(str(run / "events/train"))
  assert curves["loss"] == [(10, 10), (20, 20), (25, 50), (30, 60), (35, 70)]
  assert history.curves(str(run / "events/nothing")) == {}


def test_a_start_does_not_repeat_the_event_at_which_the_last_one_ended(
  tmp_path: pathlib.Path,
) -> None:
  """TensorBoard draws every event; a run that went back writes all anew."""
  for steps in ([10, 20], [20, 30], [20, 30]):
    step = tf.Variable(0, dtype=tf.int64)
    events = history.Events(str(tmp_path), step)
    for number in steps:
      step.assign(number)
      events.write_summaries({"probe_accuracy": number / 70, "loss": 0.1})
    events.summary_writer().close()
  written = [
    (tag, step)
    for path in history._files(str(tmp_path))
    for tag, step, _ in history._scalars(path)
    if tag == "loss"
  ]
  assert [step for _, step in written] == [10, 20, 30, 20, 30]
  curve = history.curves(str(tmp_path))["probe_accuracy"]
  assert [step for step, _ in curve] == [10, 20, 30]


def test_a_file_that_was_cut_anywhere_gives_what_was_whole(
  tmp_path: pathlib.Path,
) -> None:
  _write(tmp_path, [1, 2, 3], loss=1.0)
  (path,) = tmp_path.iterdir()
  content, lengths = path.read_bytes(), set()
  for size in range(len(content)):
    path.write_bytes(content[:size])
    curve = history.curves(str(tmp_path)).get("loss", [])
    assert curve == [(1, 1.0), (2, 2.0), (3, 3.0)][: len(curve)]
    lengths.add(len(curve))
  assert lengths == {0, 1, 2}  # a record without its checksum is not whole


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


def test_the_page_shows_the_newest_and_the_best(run: pathlib.Path) -> None:
  page = pathlib.Path(training_report.write(str(run))).read_text("utf-8")
  rows = _tables(page)["Newest and best"]
  assert rows["Step"] == ["35", "35", "35"]
  assert rows["Loss"] == ["70", "8.75", "8.75"]
  assert rows["Masked-LM accuracy"] == ["–", "0.7", "0.7"]
  _write(run / "events/eval", [40], loss=1.0)
  page = pathlib.Path(training_report.write(str(run))).read_text("utf-8")
  rows = _tables(page)["Newest and best"]
  assert rows["Step"] == ["35", "40", "35"]
  assert rows["Loss"] == ["70", "40", "8.75"]


def _charts(page: str) -> dict[str, str]:
  """Returns caption → label of the picture, of all charts of a page."""
  return {
    figure.findtext("figcaption"): figure.find("svg").get("aria-label")
    for figure in html.document_fromstring(page).iter("figure")
  }


def test_held_out_stands_beside_training_and_the_probe_has_its_spread(
  run: pathlib.Path,
) -> None:
  page = pathlib.Path(training_report.write(str(run))).read_text("utf-8")
  charts = _charts(page)
  assert charts["Loss"] == "Loss; training: 70; held out: 8.75"
  probe = charts["Probe: accuracy of a linear classifier on frozen features"]
  assert probe.endswith(
    "mean of the folds, ± deviation: 0.35 ± 0.035; the commonest label: 0.175"
  )
  assert charts["Learning rate"] == "Learning rate; at the step: 17.5"
  # Neither nan nor a chart of nothing.
  assert "Sentence order accuracy" not in charts
  assert "nan" not in page


def test_settings_flags_and_versions_are_there(run: pathlib.Path) -> None:
  page = pathlib.Path(training_report.write(str(run))).read_text("utf-8")
  tables = _tables(page)
  assert tables["What decides the result"]["optimizer.beta_1"] == ["0.9"]
  assert "flags" not in tables["What decides the result"]
  assert tables["All flags"]["--do_train"] == ["true"]
  assert tables["Versions"] == {"python": ["3.11.2"]}


def test_texts_are_shown_as_text_and_nothing_runs_or_is_fetched(
  run: pathlib.Path,
) -> None:
  page = pathlib.Path(training_report.write(str(run))).read_text("utf-8")
  tree = html.document_fromstring(page)
  assert {x.tag for x in tree.iter()} <= set(
    "html head meta title style body header h1 h2 p main section div table "
    "caption thead tbody tr th td bdi svg figure figcaption span line text "
    "polyline circle".split()
  )
  names = {name for element in tree.iter() for name in element.attrib}
  assert not {"src", "href", "style", "onerror"} & names
  assert "url(" not in page
  assert "@import" not in page
  assert EVIL[:-1] in tree.text_content()
  assert "\u202e" not in page
  assert tree.get("lang") == "en"
  assert tree.find(".//header/p").get("lang") == "mn"


def test_the_same_run_gives_the_same_bytes(run: pathlib.Path) -> None:
  first = pathlib.Path(training_report.write(str(run))).read_bytes()
  assert pathlib.Path(training_report.write(str(run))).read_bytes() == first


def test_a_run_that_died_before_its_first_line_has_a_page(
  tmp_path: pathlib.Path,
) -> None:
  page = pathlib.Path(training_report.write(str(tmp_path))).read_text("utf-8")
  assert _tables(page)["Newest and best"]["Loss"] == ["–", "–", "–"]
  assert not _charts(page)


def test_a_run_on_gs_is_read_and_shown(
  run: pathlib.Path,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  here = pathlib.Path(training_report.write(str(run))).read_bytes()
  with gcs_server.running(tmp_path) as front:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
    gcs._client.cache_clear()
    for path in run.glob("**/*.*"):
      name = path.relative_to(run).as_posix()
      storage.copy(str(path), f"gs://bucket/run/{name}")
    written = training_report.write("gs://bucket/run")
    assert written == "gs://bucket/run/training_report.html"
    assert storage.read_bytes(written) == here
    gcs._client.cache_clear()


def _polyline(page: str) -> list[tuple[float, float]]:
  (line,) = html.document_fromstring(page).iter("polyline")
  pairs = (pair.split(",") for pair in line.get("points").split())
  return [(float(x), float(y)) for x, y in pairs]


def test_a_spike_among_a_million_steps_is_drawn() -> None:
  points = [(step, 5.0) for step in range(20_000)]
  points[12_345] = (12_345, 50.0)
  drawn = _polyline(pages.chart("Loss", [pages.Line("training", points)]))
  assert len(drawn) <= 402
  (peak,) = [x for x, y in drawn if y < 10]  # percent from the top
  assert peak == pytest.approx(61.73, abs=0.01)
  assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)


@pytest.mark.parametrize(
  "curve", [{5: 1.0}, {1: 0.0, 2: 0.0}, {1: -3e-9, 2: 4e12}]
)
def test_any_range_of_numbers_can_be_drawn(curve: Mapping[int, float]) -> None:
  drawn = _polyline(
    pages.chart("Loss", [pages.Line("training", list(curve.items()))])
  )
  assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in drawn)
