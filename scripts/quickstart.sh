#!/usr/bin/env bash
# From raw Mongolian text to a working classifier, on the repository's sample.
#
#   ./scripts/quickstart.sh [FOLDER]      results go to FOLDER (runs/quickstart)
#
# Safe to interrupt and to run again: data steps give the same bytes, training
# goes on from its last checkpoint. PRETRAINING_STEPS and EPOCHS set the budget.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/quickstart}
steps=${PRETRAINING_STEPS:-200}
epochs=${EPOCHS:-5}

isolated="$out/sentences/corpus-*.txt,$out/task_texts/corpus-*.txt"

scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

stage() { printf '\n=== %s of 6: %s (%dm%02ds so far)\n' \
  "$1" "$2" $((SECONDS / 60)) $((SECONDS % 60)); }

SECONDS=0
stage 1 'clean the corpus'
python -m data_prep.build_corpus --source=text --section_sentences=12 \
  --input_file='sample/pretrain/wiki_articles.txt,sample/pretrain/udhr.txt' \
  --output_dir="$out/corpus"
# Sentences without order: for masked LM, and for the tokenizer.
python -m data_prep.build_corpus --source=text --documents=line \
  --input_file=sample/pretrain/common_voice.txt --output_dir="$out/sentences"
# The texts to train the classifier on, without their labels. No text of dev.tsv.
python -m data_prep.build_corpus --source=text \
  --input_file=sample/sib200/train.tsv --output_dir="$out/task_texts"

stage 2 'train the SentencePiece model'
python -m data_prep.train_tokenizer --vocab_size=4000 \
  --morphemes_file=sample/morphemes/sigmorphon2022.tsv \
  --input_file="$out/corpus/corpus-*.txt,$isolated" --output_dir="$out/tokenizer"

stage 3 'write the TFRecords'
python -m data_prep.create_pretraining_data --max_seq_length=64 \
  --eval_fraction=0.08 --dupe_factor=20 --masking=dynamic --pack_sequences \
  --input_file="$out/corpus/corpus-*.txt" \
  --isolated_lines_file="$isolated" \
  --spm_model_file="$out/tokenizer/tokenizer.model" \
  --output_dir="$out/records"

stage 4 "pretrain ALBERT for $steps steps"
python run_pretraining.py --flagfile=configs/albert_wide.flags \
  --input_file="$out/records/train-*.tfrecord" \
  --eval_input_file="$out/records/eval-*.tfrecord" \
  --num_train_steps="$steps" --num_warmup_steps=$((steps / 20)) \
  --output_dir="$out/pretraining"

stage 5 'train a classifier of the SIB-200 topics'
# Training begins from statistics of all these texts: on so little text, steps of
# masked LM lose topics (docs/log.md, 2026-12-01).
python run_classifier.py --task_name=csv --do_train --do_eval \
  --data_dir=sample/sib200 --text_column=text --label_column=category \
  --init_checkpoint=none --albert_config_file=configs/albert_wide.json \
  --spm_model_file="$out/tokenizer/tokenizer.model" \
  --unlabeled_file="$out/corpus/corpus-*.txt,$out/sentences/corpus-*.txt" \
  --max_seq_length=64 --pooling=mean --word_dropout=0.1 \
  --ensemble=4 --learning_rate=0.0002 --num_train_epochs="$epochs" \
  --output_dir="$out/classifier"

stage 6 'summary'
accuracy() { awk -v name="$1_accuracy" '$1 == name { printf "%.3f", $3 }' \
  "$out/classifier/eval_results.txt"; }
cat <<EOF

Pretraining, held-out documents ($out/pretraining/eval_results.txt)
$(awk '/^(masked_lm_(accuracy|loss)|sentence_order_accuracy) = / \
    { printf "  %-24s %.3f\n", $1, $3 }' "$out/pretraining/eval_results.txt")

Classification, SIB-200 dev ($out/classifier/report.txt)
$(sed 's/^./  &/' "$out/classifier/report.txt")

Where things lie
  $out/corpus             cleaned documents, one sentence a line
  $out/sentences          cleaned sentences without order
  $out/task_texts         cleaned texts of the task, without labels
  $out/tokenizer          the SentencePiece model and its report
  $out/records            TFRecords, held-out documents apart
  $out/pretraining/model  the pretrained ALBERT
  $out/classifier/model   the classifier, complete in itself

What to try next
  ask the classifier   python -m bert_tweet.serve --model_dir=$out/classifier/model
  your own text        python -m data_prep.build_corpus --help
  your own labels      python run_classifier.py --task_name=csv --help
  longer pretraining   PRETRAINING_STEPS=10000 $0 runs/longer
  the curves           .venv/bin/tensorboard --logdir $out/pretraining/events

What you hold now: a classifier of seven topics, right on this share of dev.tsv
  its networks alone      $(accuracy network)
  its TF-IDF baseline     $(accuracy baseline)
  the model directory     $(accuracy eval)   the answer that you get
$(grep -A3 '^What answers' "$out/classifier/report.txt" | sed 's/^./  &/')
EOF
