#!/usr/bin/env bash
# Makes pretrained/albert_mn_tiny, the pretrained model of this repository.
#
#   ./scripts/make_pretrained.sh [FOLDER]      work goes to FOLDER (runs/pretrained)
#
# RECORDS_ONLY=1 ends before the training, which takes most of the time.
# The text is the sample's: Wikipedia articles, the declaration, Common Voice.
# Nothing of SIB-200 is in it (tests/shipped_test.py). The same processor type and
# the same versions give the same bytes. Safe to interrupt and to run again.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/pretrained}
model=pretrained/albert_mn_tiny

scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

python -m data_prep.build_corpus --source=text --section_sentences=12 \
  --input_file='sample/pretrain/wiki_articles.txt,sample/pretrain/udhr.txt' \
  --output_dir="$out/corpus"
python -m data_prep.build_corpus --source=text \
  --input_file=sample/pretrain/common_voice.txt --output_dir="$out/sentences"
python -m data_prep.train_tokenizer --vocab_size=4000 \
  --input_file="$out/corpus/corpus-*.txt,$out/sentences/corpus-*.txt" \
  --output_dir="$out/tokenizer"
python -m data_prep.create_pretraining_data --max_seq_length=64 \
  --eval_fraction=0.05 --dupe_factor=10 --masking=dynamic --pack_sequences \
  --input_file="$out/corpus/corpus-*.txt" \
  --isolated_lines_file="$out/sentences/corpus-*.txt" \
  --spm_model_file="$out/tokenizer/tokenizer.model" \
  --output_dir="$out/records"
[ -z "${RECORDS_ONLY:-}" ] || exit 0

# One thread, so that the bytes do not depend on the number of cores.
export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
python run_pretraining.py --do_train --do_eval \
  --albert_config_file=configs/albert_mn_tiny.json \
  --input_file="$out/records/train-*.tfrecord" \
  --eval_input_file="$out/records/eval-*.tfrecord" \
  --initialization=corpus --optimizer=muon --learning_rate=0.001 \
  --masked_lm_budget=0.2 --train_batch_size=32 --nojit_compile \
  --num_train_steps=150 --num_warmup_steps=8 --iterations_per_loop=25 \
  --save_checkpoints_steps=50 --output_dir="$out/pretraining" \
  --export_dir="$model"
python -m albert_mn.export_model --model_dir="$out/pretraining/model" --model_card \
  --output_dir="$model" \
  --license=cc-by-sa-4.0 --data_file=pretrained/data.md
