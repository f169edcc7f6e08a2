"""docs/fill-contract.md and the tests that hold it: every test it names exists, and every test of the contract is named."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("", "_entries", "_margin", "_moving", "_parts", "_sizing")
CONTRACT_TESTS = ("test_account_contract.py", *(f"test_fill_contract{part}.py" for part in PARTS))


def names_in(path: Path) -> set[str]:
    return set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))


def named_on_the_page() -> set[str]:
    return set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "fill-contract.md").read_text(encoding="utf-8")))


def test_every_test_that_the_page_names_exists() -> None:
    existing = {name for path in (ROOT / "tests").glob("test_*.py") for name in names_in(path)}
    assert named_on_the_page() - existing == set()


def test_every_test_of_the_contract_is_named_on_the_page() -> None:
    contract = {name for file in CONTRACT_TESTS for name in names_in(ROOT / "tests" / file)}
    assert contract - named_on_the_page() == set()


def test_every_rule_on_the_page_names_its_test() -> None:
    page = (ROOT / "docs" / "fill-contract.md").read_text(encoding="utf-8")
    rules = re.split(r"^- ", page, flags=re.MULTILINE)[1:]
    assert [rule.splitlines()[0] for rule in rules if "`test_" not in rule] == []
