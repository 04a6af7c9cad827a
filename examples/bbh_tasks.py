"""Write task files of lm-evaluation-harness for BIG-Bench Hard from files on this disk, for use without a network.

    python examples/bbh_tasks.py BBH TASKS
    msplora-analyze evaluate runs/gsm8k-train-lora-r8-seed0 --tasks bbh_local --tasks-dir TASKS --limit 50

BBH is the folder of its JSON files: {"examples": [{"input": ..., "target": ...}]}. A question counts as answered if
the true answer is the likeliest of the possible ones: the options that the question lists, or else all answers of its
file. Files with more than twenty answers are no multiple choice and are left out. There is no chain of thought, so
scores are not those that are published for BBH.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

MOST_ANSWERS = 20

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "Q: {{{{input}}}}\\nA:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{choices.index(target)}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""

GROUP = """\
group: bbh_local
task:
{tasks}
aggregate_metric_list:
  - metric: acc
    aggregation: mean
    weight_by_size: false
metadata:
  version: 1.0
"""


def questions(path: Path) -> list[dict[str, object]]:
    """The questions of a file with their possible answers; none if it is no multiple choice."""
    examples = json.loads(path.read_text(encoding="utf-8"))["examples"]
    answers = sorted({example["target"] for example in examples})
    if len(answers) > MOST_ANSWERS:
        return []
    found = []
    for example in examples:
        options = list(dict.fromkeys(re.findall(r"\n(\([A-Z]\))", example["input"])))
        choices = options if example["target"] in options else answers
        found.append({"input": example["input"], "target": example["target"], "choices": choices})
    return found


def main(source: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    names = []
    for path in sorted(source.glob("*.json")):
        if rows := questions(path):
            data = (out / f"{path.stem}.jsonl").resolve()
            data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            names.append(f"bbh_local_{path.stem}")
            (out / f"{path.stem}.yaml").write_text(TASK.format(name=names[-1], data=json.dumps(str(data))))
    (out / "bbh_local.yaml").write_text(GROUP.format(tasks="\n".join(f"  - {name}" for name in names)))
    print(f"{len(names)} tasks in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
