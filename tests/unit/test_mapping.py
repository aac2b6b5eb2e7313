from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from connector.errors import ConfigError, MappingError
from connector.mapping import built_in_mappings, load_mapping

SHIPPED = Path(__file__).parents[2] / "mappings" / "work365.yaml"


def changed(tmp_path: Path, *replacements: tuple[str, str]) -> Path:
    text = SHIPPED.read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(MappingError) as caught:
        load_mapping(path)
    return list(caught.value.problems)


def test_the_built_in_mapping_is_found_by_name_and_equals_the_file() -> None:
    assert "work365" in built_in_mappings()
    assert load_mapping("work365").digest == load_mapping(SHIPPED).digest
    assert load_mapping("work365").tables["subscription"].columns["linked_parent"].lookup == "subscription"


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(ConfigError, match="work365"):
        load_mapping("work366")


def test_a_missing_file_is_said() -> None:
    with pytest.raises(ConfigError, match="not found"):
        load_mapping("nowhere/own.yaml")


def test_the_digest_follows_the_content_and_not_the_layout(tmp_path: Path) -> None:
    same = changed(tmp_path, ("name: work365\n", "\n# a comment\nname:    work365\n"))
    assert load_mapping(same).digest == load_mapping("work365").digest
    other = changed(tmp_path, ("work365_subscription_quantity,", "work365_subscription_qty,"))
    assert load_mapping(other).digest != load_mapping("work365").digest


def test_all_problems_come_at_once_with_file_line_and_fix(tmp_path: Path) -> None:
    path = changed(
        tmp_path,
        ("      linked_parent:", "      linked_parnt:"),
        ("    awaiting: [", "    awating: ["),
        ("lookup: provider_account", "lookup: provider_acount"),
        ("choice: log_kind", "choice: log_kinds"),
    )
    problems = problems_of(path)
    text = "\n".join(problems)
    assert "tables.subscription.columns.linked_parent: is missing" in text
    assert "did you mean 'linked_parent'?" in text
    assert "choices.provisioning_status.awating: is not a word that linksub knows - did you mean 'awaiting'?" in text
    assert "'provider_acount', which is no table here" in text
    assert "'log_kinds', which is no choice here" in text
    assert all(problem.startswith(f"{path}:") for problem in problems)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: work365\n", "name: work365\nflavour: mild\n", "flavour: is not a key of a mapping"),
        (
            "      name: { column: name, evidence: public }",
            "      name: { column: name, evidnce: public }",
            "did you mean 'evidence'",
        ),
        ("schema_version: 1", "schema_version: 2", "schema_version"),
        ("name: work365\n", "name: work365\nname: again\n", "is given twice"),
        ("[Awaiting Provisioning, Awaiting]", "[]", "choices.provisioning_status.awaiting"),
        ("[Provisioned, Completed]", "[Provisioned, awaiting]", "claims the label 'awaiting' of 'awaiting'"),
        ("column: work365_subscription_quantity,", "column: Quantity!,", "tables.subscription.columns.quantity.column"),
        (
            "choice: provisioning_status }",
            "}",
            "has another choice than linksub expects - write choice: provisioning_status",
        ),
        (
            "quantity: { column: work365_subscription_quantity, evidence: assumed }",
            "quantity: { column: work365_subscription_quantity, evidence: assumed, optional: true }",
            "cannot be optional",
        ),
        (
            "column: work365_subscription_partnumber,",
            "column: work365_subscription_quantity,",
            "names the same column as 'quantity'",
        ),
    ],
)
def test_each_kind_of_mistake_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert expected in "\n".join(problems_of(changed(tmp_path, (old, new))))


def test_optional_columns_may_be_left_out_and_provider_types_added(tmp_path: Path) -> None:
    path = changed(
        tmp_path,
        ("      is_trial: { column: work365_subscription_istrial, evidence: assumed, optional: true }\n", ""),
        ("    rest: [Rest]\n", "    rest: [Rest]\n    distributor: [Distributor A]\n"),
    )
    mapping = load_mapping(path)
    assert "is_trial" not in mapping.tables["subscription"].columns
    assert mapping.choices["provider_type"]["distributor"] == ["Distributor A"]


SHARED = "      order_reference: { column: work365_subscription_orderreference, evidence: assumed }\n"


def test_a_column_for_the_marker_may_be_named_by_removing_the_comment_sign(tmp_path: Path) -> None:
    mapping = load_mapping(changed(tmp_path, ("# marker: {", "marker: {")))
    assert mapping.tables["subscription"].columns["marker"].column == "new_linksubmarker"
    assert "marker" not in load_mapping("work365").tables["subscription"].columns


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("marker: { column: work365_subscription_orderreference, evidence: confirmed }", "names the same column"),
        ("marker: { column: new_x, evidence: confirmed, lookup: account }", "has another lookup"),
        ("marke: { column: new_x, evidence: confirmed }", "did you mean 'marker'?"),
    ],
)
def test_a_column_for_the_marker_is_a_plain_column_of_its_own(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in "\n".join(problems_of(changed(tmp_path, (SHARED, f"{SHARED}      {text}\n"))))


def test_only_a_subscription_has_a_marker(tmp_path: Path) -> None:
    path = changed(tmp_path, ("      code: {", "      marker: { column: new_x, evidence: assumed }\n      code: {"))
    assert "is not a word that linksub knows" in "\n".join(problems_of(path))


def test_a_file_that_is_a_list_or_empty_is_a_mapping_error(tmp_path: Path) -> None:
    for content in ("- a\n- b\n", ""):
        path = tmp_path / "own.yaml"
        path.write_text(content, encoding="utf-8")
        assert problems_of(path)


def test_an_installed_package_reads_the_mappings_that_it_carries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files("connector")
    carried = tmp_path / "_mappings"
    carried.mkdir()
    (carried / "work365.yaml").write_bytes(SHIPPED.read_bytes())
    (carried / "fabrikam.yaml").write_bytes(SHIPPED.read_bytes().replace(b"name: work365\n", b"name: fabrikam\n", 1))
    monkeypatch.setattr("connector.mapping.files", lambda package: tmp_path)
    assert built_in_mappings() == ("fabrikam", "work365")
    assert load_mapping("fabrikam").name == "fabrikam"
