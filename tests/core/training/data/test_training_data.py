"""Task data: what is read from files and the hub, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msplora_core.errors import DataFileError, ParameterError
from msplora_core.training.data.examples import Examples
from msplora_core.training.data.glue import read_tsv
from msplora_core.training.data.task_data import read_task
from msplora_core.training.tasks import TASKS, task_named

GLUE = Path(__file__).resolve().parents[5] / "shared" / "glue"
CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\t\n\r\ufeff"), max_size=30)


@pytest.mark.skipif(not GLUE.is_dir(), reason="the GLUE files are not here")
@pytest.mark.parametrize(
    ("name", "train", "dev"),
    [("cola", 8551, 1043), ("mrpc", 3668, 408), ("stsb", 5749, 1500), ("rte", 2490, 277), ("sst2", 67349, 872)],
)
def test_every_row_of_glue_is_read(name: str, train: int, dev: int) -> None:
    data = read_task(TASKS[name], GLUE)
    assert (len(data.train), len(data.dev)) == (train, dev)
    assert len(data.train.labels) == train
    assert set(map(len, data.train.texts)) == {len(TASKS[name].text_columns)}


@pytest.mark.skipif(not GLUE.is_dir(), reason="the GLUE files are not here")
def test_qnli_without_a_training_set_names_the_file() -> None:
    assert len(read_tsv(GLUE / "QNLI" / "dev.tsv", TASKS["qnli"])) == 5463
    with pytest.raises(DataFileError) as caught:
        read_task(TASKS["qnli"], GLUE)
    assert str(caught.value) == (
        f"{GLUE}/QNLI/train.tsv: expected a data file of QNLI, found no such file; "
        "--data-dir is the folder that contains QNLI/train.tsv"
    )


@given(rows=st.lists(st.tuples(CELL, st.sampled_from("01"), CELL, CELL), min_size=1, max_size=8), bom=st.booleans())
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], bom: bool, end: str
) -> None:
    path = tmp_path_factory.mktemp("tsv") / "train.tsv"
    text = end.join("\t".join(row) for row in rows)
    path.write_bytes((text + end).encode("utf-8-sig" if bom else "utf-8"))
    examples = read_tsv(path, TASKS["cola"])
    assert examples.texts == [(row[3],) for row in rows]
    assert examples.labels == [int(row[1]) for row in rows]


def test_quotes_are_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text('Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\t"He said\tnot "so\n0\t3\t4\ta\t"b"\n')
    assert read_tsv(path, TASKS["mrpc"]).texts == [('"He said', 'not "so'), ("a", '"b"')]


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("cola", b"a\t1\t\tgood\na\t0\tbad\n", "line 2: expected 4 columns, found 3"),
        ("cola", b"a\t1\t\tgood\n\na\t1\t\tgood\n", "line 2: expected 4 columns, found 1"),
        ("cola", b"a\t2\t\tgood\n", "line 1: expected a label of CoLA (0, 1), found 2"),
        ("cola", b"a\t1\t\tgood\na\t1\t\t\xff\n", "line 2: expected UTF-8 text, found b'\\xff'"),
        ("cola", b"", "expected at least one example, found none"),
        ("sst2", b"sentence\tlabel\nfine\t1\nfine\n", "line 3: expected 2 columns, found 1"),
        ("sst2", b"text\tlabel\n", "line 1: expected a column 'sentence', found text label"),
        (
            "rte",
            b"index\tsentence1\tsentence2\tlabel\n0\ta\tb\tneutral\n",
            "line 2: expected a label of RTE (entailment, not_entailment), found neutral",
        ),
        (
            "stsb",
            b"sentence1\tsentence2\tscore\na\tb\t7\n",
            "line 2: expected a score of STS-B between 0 and 5, found 7",
        ),
        (
            "stsb",
            b"sentence1\tsentence2\tscore\na\tb\tnan\n",
            "line 2: expected a score of STS-B between 0 and 5, found nan",
        ),
    ],
)
def test_malformed_files_name_file_and_line(tmp_path: Path, task: str, content: bytes, message: str) -> None:
    path = tmp_path / "train.tsv"
    path.write_bytes(content)
    with pytest.raises(DataFileError) as caught:
        read_tsv(path, TASKS[task])
    assert str(caught.value) == f"{path}: {message}"


def test_without_a_network_the_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    import datasets

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataFileError) as caught:
        read_task(TASKS["rte"])
    assert str(caught.value) == (
        "nyu-mll/glue/rte: expected the task on the Hugging Face hub, "
        "found ConnectionError: Couldn't reach the Hub; "
        "without a network, give --data-dir with the official GLUE files"
    )


def test_hub_rows_become_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = datasets.Dataset.from_dict(
        {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1, 0], "idx": [0, 1]}
    )
    asked = []

    def load(path: str, name: str, *, split: str) -> datasets.Dataset:
        asked.append((path, name, split))
        return rows

    monkeypatch.setattr(datasets, "load_dataset", load)
    data = read_task(TASKS["mrpc"])
    assert asked == [("nyu-mll/glue", "mrpc", "train"), ("nyu-mll/glue", "mrpc", "validation")]
    assert data.train == Examples([("a", "c"), ("b", "d")], [1, 0])


@pytest.mark.parametrize("name", ["STS-B", "stsb", "sts_b", "SST-2", "CoLA", "MRPC", "rte", "QNLI"])
def test_tasks_are_found_in_any_spelling(name: str) -> None:
    assert task_named(name).folder.lower().replace("-", "") == name.lower().replace("-", "").replace("_", "")


def test_unknown_task() -> None:
    with pytest.raises(
        ParameterError, match=r"^task: expected one of cola, mrpc, stsb, rte, sst2, qnli.*, found wnli$"
    ):
        task_named("wnli")


@given(count=st.integers(1, 40))
def test_subset_is_fixed_and_in_order(count: int) -> None:
    whole = Examples([(str(i),) for i in range(30)], list(range(30)))
    subset = whole.subset(count)
    assert subset == whole.subset(count)
    assert len(subset) == min(count, 30)
    assert subset.labels == sorted(set(subset.labels))
    assert set(whole.subset(max(count - 1, 1)).labels) <= set(subset.labels)
