"""The options of a corpus."""

import dataclasses

from data_prep.base import beam_flags, options
from data_prep.sources import downloads, texts
from data_prep.text import cleaning, similarity


@dataclasses.dataclass(frozen=True)
class Options(beam_flags.Options):
  """The input and the output of a corpus, its sentences and its copies."""

  source: str = options.option(
    "text",
    "Kind of the input. text: plain UTF-8 text, Parquet, Arrow, JSON, .csv "
    "or .tsv files, web pages (HTML, WARC, WET), subtitles, .docx, exports of "
    "posts, or archives of such files (.zip, .tar, .rar). news: read like "
    "text, with the news archive as --download. wikipedia: an XML dump. epub: "
    "e-books, where each chapter becomes a document.",
    choices=("text", "news", "wikipedia", "epub"),
  )
  input_file: str = options.option(
    "",
    "Files to read, as glob patterns separated by commas, or folders; ** "
    "stands for any number of folders. Required without --download.",
  )
  output_dir: str = options.option(
    "",
    "Folder for the corpus: the files corpus-*.txt, a manifest and a "
    "report. Required.",
  )
  repair_legacy_letters: bool = options.option(
    False,
    "Put ө and ү where a legacy font left є, ї, ѳ or v.",
  )
  split_sentences: bool = options.option(
    True,
    "Split lines into sentences. With --nosplit_sentences every line is a "
    "sentence.",
  )
  section_sentences: int = options.option(
    0,
    "Approximate number of sentences of a passage, where longer documents "
    "are cut into passages. 0 leaves documents whole.",
    minimum=0,
  )
  near_duplicates: float = options.option(
    0.0,
    "Smallest Jaccard similarity at which a document is dropped as a near "
    "copy of an earlier document in the corpus. The similarity compares "
    "the sets of runs of five words; 0.8 is usual. 0 drops exact copies "
    "only.",
    minimum=0.0,
    maximum=1.0,
  )
  decontaminate: str = options.option(
    "",
    "Evaluation sets (.csv, .tsv, .jsonl or text files), as glob patterns "
    "separated by commas. A sentence that shares eight words in a row "
    "with an evaluation set is dropped from the corpus.",
  )
  memory_limit: int = options.option(
    256,
    "Megabytes of memory for the search for copies. Larger corpora are "
    "searched through temporary files: the compressed text, some 4 bytes for "
    "each word and 400 bytes for each document. The output does not depend on "
    "this number.",
    minimum=1,
  )
  num_shards: int = options.option(
    1,
    "Number of files into which the corpus is divided.",
    minimum=1,
    maximum=100_000,
  )

  def check(self) -> None:
    super().check()
    options.require(self, "output_dir")
    similarity.check(self.near_duplicates)


@dataclasses.dataclass(frozen=True)
class Settings:
  """All options of a corpus."""

  corpus: Options
  cleaning: cleaning.Options
  text: texts.Options
  download: downloads.Options
