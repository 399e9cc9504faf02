"""Tests the server of a pretrained model: its answers, refusals and page."""

import json
from collections.abc import Iterator

import pytest
import requests

from albert_mn.inference import filled_lines, mask_filling
from albert_mn.models import shipped
from bert_tweet import mask_server, server
from data_prep.base import options
from tests import serving

TEXT = "Монгол улсын нийслэл [MASK] хот, [MASK]."
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served(
  tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[serving.Serving]:
  log = tmp_path_factory.mktemp("masks") / "log"
  with serving.serving(
    shipped.model_path(), log, "--max_text_bytes=2000"
  ) as started:
    yield started


@pytest.fixture(scope="module")
def filler() -> mask_filling.Filler:
  return mask_filling.load(shipped.model_path())


@pytest.mark.slow
@pytest.mark.parametrize("path", ["fill_mask", "api/fill_mask"])
def test_a_text_gets_the_candidates_of_the_model(
  served: serving.Serving, filler: mask_filling.Filler, path: str
) -> None:
  answer = requests.post(
    f"{served.url}/{path}", json={"text": TEXT}, timeout=60
  )
  assert answer.status_code == 200
  masks = answer.json()["masks"]
  expected = filled_lines.values(filler.fill(TEXT, 8))
  assert len(masks) == len(expected) == 2
  for mask, wanted in zip(masks, expected, strict=True):
    for kind in ("words", "pieces"):
      assert [c["text"] for c in mask[kind]] == [
        c["text"] for c in wanted[kind]
      ]
      assert [c["probability"] for c in mask[kind]] == pytest.approx(
        [c["probability"] for c in wanted[kind]], abs=1e-6
      )


@pytest.mark.slow
def test_the_guards_and_limits_are_those_of_the_other_server(
  served: serving.Serving,
) -> None:
  url = f"{served.url}/fill_mask"

  def refused(status: int, reason: str, data: bytes, **headers: str) -> None:
    answer = requests.post(
      url, data=data, headers={**JSON, **headers}, timeout=60
    )
    assert answer.status_code == status
    assert reason in answer.json()["error"]

  def body(text: object) -> bytes:
    return json.dumps({"text": text}).encode()

  refused(400, "a text with [MASK]", body("Монгол"))
  refused(400, "at most 118 pieces", body("[MASK]" + "." * 200))
  refused(413, "at most 2000 bytes", body("[MASK]" + "." * 2000))
  refused(413, "at most 8 [MASK]", body("[MASK] " * 9))
  refused(400, "text to be a string", body(3))
  refused(400, "expected JSON", b"text=[MASK]")
  refused(415, "application/json", body(TEXT), **{"Content-Type": "text/plain"})
  foreign = requests.post(
    url, data=body(TEXT), headers={**JSON, "Host": "evil.example"}, timeout=60
  )
  assert foreign.status_code == 421
  assert requests.get(url, timeout=60).status_code == 405
  nothing = requests.post(
    f"{served.url}/api/predict", json={"text": TEXT}, timeout=60
  )
  assert nothing.status_code == 404
  assert requests.get(f"{served.url}/healthz", timeout=60).ok
  metrics = requests.get(f"{served.url}/metrics", timeout=60).text
  assert "/fill_mask" in metrics
  page = requests.get(served.url, timeout=60)
  assert '"fills": true' in page.text
  assert "script-src 'sha256-" in page.headers["Content-Security-Policy"]
  assert "Монгол" not in served.log.read_text("utf-8")


def test_names_of_labels_are_refused(filler: mask_filling.Filler) -> None:
  settings = server.Options(model_dir="x", username="Болд,Дулмаа")
  with pytest.raises(options.InputError, match="leave --username out"):
    mask_server.MaskServer(filler, settings)
