"""What a row's model says of AdaCLIP and of references, one by one and in columns."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipeline.identity import ModelIdentity, base_of, named, references_of, rows_of

PLAIN = ModelIdentity("vit-0123-fast-decoder")
MIXED = ModelIdentity("m", {"bolt": "1a", "ünï nut": "2b"})
CATEGORIES = ["bolt", None, "screw", "ünï nut", "bolt", ""]


def test_without_references_the_model_is_the_fingerprint_to_the_letter() -> None:
    assert PLAIN.of("bolt") == PLAIN.of(None) == "vit-0123-fast-decoder"
    assert PLAIN.models == ["vit-0123-fast-decoder"]
    assert ModelIdentity("vit-0123-fast-decoder", {}) == PLAIN


def test_a_category_with_references_has_their_id_behind_it() -> None:
    assert MIXED.of("bolt") == "m+refs-1a"
    assert MIXED.of("screw") == MIXED.of(None) == MIXED.of("") == "m"
    assert MIXED.models == ["m", "m+refs-1a", "m+refs-2b"]


@pytest.mark.parametrize("identity", [PLAIN, MIXED])
def test_a_model_is_taken_apart_again(identity: ModelIdentity) -> None:
    for category in CATEGORIES:
        model = identity.of(category)
        assert base_of(model) == identity.base
        assert references_of(model) == identity.references.get(category or "")
    assert named(references_of("m+refs-1a")) == "the references 1a"
    assert named(references_of("m")) == "no references"


@pytest.mark.parametrize("identity", [PLAIN, MIXED])
def test_columns_say_the_same_of_each_row(identity: ModelIdentity) -> None:
    for categories in (
        pa.array(CATEGORIES, pa.string()),
        pa.chunked_array([CATEGORIES[:2], CATEGORIES[2:]], pa.string()),
        pa.array([], pa.string()),
    ):
        each = categories.to_pylist()
        assert identity.column(categories).to_pylist() == [identity.of(name) for name in each]
        sets = identity.reference_sets(categories).to_pylist()
        assert sets == [identity.references.get(name or "") for name in each]


ROWS = [
    ("m", "bolt"),  # before it had references
    ("m", "screw"),
    ("m", None),
    ("m+refs-1a", "bolt"),
    ("m+refs-1b", "bolt"),
    ("m+refs-9z", "screw"),  # it has no references any more
    ("m+refs-2b", "ünï nut"),
    ("m2", "screw"),
    ("m2+refs-1a", "bolt"),
]


def dataset(encoded: bool) -> ds.Dataset:
    table = pa.table({"model": [m for m, _ in ROWS], "category": [c for _, c in ROWS]})
    if encoded:
        columns = [column.dictionary_encode() for column in table.columns]
        table = pa.table(columns, names=table.column_names)
    return ds.dataset(table)


@pytest.mark.parametrize("encoded", [True, False])
def test_rows_of_a_run_are_those_of_its_references_only(encoded: bool) -> None:
    def chosen(identity: ModelIdentity) -> list[int]:
        found = dataset(encoded).to_table(filter=identity.condition()).to_pylist()
        return [ROWS.index((row["model"], row["category"])) for row in found]

    assert chosen(MIXED) == [1, 2, 3, 6]
    assert chosen(ModelIdentity("m")) == [0, 1, 2]
    assert chosen(ModelIdentity("m", {"bolt": "1b"})) == [1, 2, 4]
    for identity in (MIXED, ModelIdentity("m"), ModelIdentity("m", {"bolt": "1b"})):
        expected = [i for i, (model, name) in enumerate(ROWS) if model == identity.of(name)]
        assert chosen(identity) == expected


def test_a_fingerprint_alone_has_the_rows_of_all_references() -> None:
    def chosen(model: str) -> list[int]:
        found = dataset(True).to_table(filter=rows_of(model)).to_pylist()
        return [ROWS.index((row["model"], row["category"])) for row in found]

    assert chosen("m") == [0, 1, 2, 3, 4, 5, 6]
    assert chosen("m+refs-1a") == [3]
    assert chosen("m+refs-1") == []
