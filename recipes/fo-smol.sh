#!/usr/bin/env bash
# fo-smol from nothing: open-domain English ears and a voice around SmolLM2-135M-Instruct.
#
# Read it top to bottom; every step is one command, which is skipped if done and continues if it was stopped.
# Two CPU cores take days, a GPU an hour. The weights that ship were trained on the same data by the
# same stages, for fewer steps: their card says how many. What is read lies in $FO_DATA:
#   text_prompts/*.txt, *.tsv     sentences and questions, one a line (never an evaluation set)
#   cathy/ ljspeech_part/ spoken_commands/ speechocean762/   manifest.tsv beside ogg/ (human speech)
#   llama_questions/ web_questions/ trivia_qa/   asked at the end, for the card; never trained on
# Small try:  FO_DATA=... LIMIT=20 STEPS=4 make fo-smol
set -euo pipefail
FO=${FO:-.venv/bin/fo}
OUT=${OUT:-runs/fo-smol}
T=${FO_DATA:?set FO_DATA to the folder that holds text_prompts/}/text_prompts
LIMIT=(--limit "${LIMIT:-0}")          # texts of each source; 0 = all
MEASURED=(); [ "${LIMIT[1]}" = 0 ] || MEASURED=("${LIMIT[@]}")  # fo eval has no 0
short() { [ -z "${STEPS:-}" ] || echo "--set train.max_steps=$STEPS --set train.validate_every=$STEPS"; }

say() { "$FO" prepare-data speak "$@" "${LIMIT[@]}"; }
stage() { # stage NAME MODEL TRAIN VALID
  # shellcheck disable=SC2046
  "$FO" train --stage "$1" --model "$2" --recipe smol-open --train "$3" --valid "$4" --out "$OUT/$1" $(short)
}

# --- Speech. One natural voice answers; many voices ask.
say "$T/tatoeba_en_20k.txt" "$T/harvard_sentences.txt" "$T/cmu_arctic_prompts.txt" \
  --voice hibari/heart --out "$OUT/data/voice"
say "$T/open_trivia_questions.tsv" --text question --voice hibari/heart --out "$OUT/data/voice-trivia"
say "$T/nq_open_dev_questions.txt" "$T/webquestions_train_questions.txt" "$T/clinc_utterances.txt" \
  "$T/nlu_home_utterances.txt" --out "$OUT/data/users" \
  --voice hibari/heart@3 --voice flite/rms@3 --voice flite/awb@3 --voice flite/slt@2 --voice flite/kal16 \
  --voice piper/joe@3 --voice espeak-ng/en-us --voice espeak-ng/en-gb
# The LLM's own answers: what the voice will have to say.
"$FO" prepare-data all "$T/nq_open_dev_questions.txt" --source questions --config domain "${LIMIT[@]}" \
  --set 'synthesize.assistants=[{engine: hibari, voice: heart}]' --out "$OUT/data/answers"
heard=("$OUT"/data/{voice,voice-trivia,users}/synthesize/train.jsonl)
for corpus in cathy ljspeech_part spoken_commands speechocean762; do
  table=$FO_DATA/$corpus/manifest.tsv
  [ -f "$table" ] || continue
  columns=(--val 0.02)
  grep -q -m1 $'\tsplit$' "$table" && columns=(--set split_column=split)  # held-out speakers stay apart
  [ -f "$OUT/data/$corpus/train.jsonl" ] || "$FO" prepare-data import table "$table" "${LIMIT[@]}" \
    --set audio=file --set id=file --set text=text --set "root=$FO_DATA/$corpus/ogg" "${columns[@]}" --out "$OUT/data/$corpus"
  for split in train test; do
    [ ! -f "$OUT/data/$corpus/$split.jsonl" ] || heard+=("$OUT/data/$corpus/$split.jsonl")
  done
done
cat "${heard[@]}" > "$OUT/data/heard.jsonl"
VAL=$OUT/data/users/synthesize/val.jsonl

# --- Voice: codec, its tokens, how long each letter is spoken, the decoder that reads spelling.
V=$OUT/data/voice/synthesize
stage output-1 smol-open "$V/train.jsonl" "$V/val.jsonl"
"$FO" prepare-data encode --model "$OUT/output-1/model" --out "$OUT/data/coded" \
  --input "$V/manifest.jsonl" --input "$OUT/data/voice-trivia/synthesize/manifest.jsonl" \
  --input "$OUT/data/answers/synthesize/manifest.jsonl"
"$FO" prepare-data align "$OUT/data/coded/assistant/manifest.jsonl" --out "$OUT/data/aligned"
stage output-2 "$OUT/output-1/model" "$OUT/data/aligned/train.jsonl" "$OUT/data/aligned/val.jsonl"

# --- Ears: Whisper's encoder in chunks with CTC over pieces, then what spelling looks like.
stage input-1 smol-open "$OUT/data/heard.jsonl" "$VAL"
"$FO" models language-model "$OUT/input-1/model" "$OUT/data/heard.jsonl"
stage input-2 "$OUT/input-1/model" "$OUT/data/heard.jsonl" "$VAL"

# --- Turn taking: recordings with a state every 160 ms.
"$FO" prepare-data label-states --input "$VAL" --input "$OUT/data/users/synthesize/train.jsonl" \
  --out "$OUT/data/states" --limit 1000
stage input-3 "$OUT/input-2/model" "$OUT/data/states/user/train.jsonl" "$OUT/data/states/user/val.jsonl"

# --- One folder, in half precision.
"$FO" models join "$OUT/input-3/model" "$OUT/output-2/model" --half --out "$OUT/model"

# --- Its card: what was not trained on. Questions, then held-out speakers and unseen sentences.
"$FO" eval all --suite quick --model "$OUT/model" --out "$OUT/eval/quick" "${MEASURED[@]}"
"$FO" models card "$OUT/model" --from "$OUT/eval/quick" --write
SPEAKERS=$OUT/data/speechocean762/heldout.jsonl
[ ! -f "$SPEAKERS" ] || "$FO" eval asr --data "$SPEAKERS" --model "$OUT/model" --out "$OUT/eval/speakers" "${MEASURED[@]}"
"$FO" eval tts --data "$OUT/data/aligned/val.jsonl" --top-k 1 --model "$OUT/model" --out "$OUT/eval/voice" "${MEASURED[@]}"
echo "fo chat text 'What is the capital of France?' --model $OUT/model --out reply.wav"
