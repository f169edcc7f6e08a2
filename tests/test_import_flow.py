"""The import's command through a real Prefect server: what a user sees, what is kept, and a backtest on what was imported."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from candlewick.cli import run_command
from candlewick.errors import AmbiguousImport, UsageError
from candlewick.lake import Lake
from candlewick.market_data.importing_asked import ImportOptions, ImportResult, read_asked
from candlewick.market_data.importing_schema import ImportSchema, read_import_schema
from candlewick.market_data.kinds import DataSeries
from candlewick.store.data_runs import DataStore
from candlewick.store.quality import QualityStore
from flows.data_import import show_imported
from tests.imported_files import HOURS, hours, imported, unix, with_times, write
from tests.paper_flow import Workplace

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"


def test_a_file_is_refused_settled_imported_remembered_and_played(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.backtesting import app as backtesting
    from flows.market_data import app

    again = hours()[10:12].with_columns(pl.col("close") + 1.5)
    write(workplace.directory / "mine.csv", with_times(pl.concat([hours(400), again]), unix()))
    asked = ["import", "mine.csv", "--market", "mine", "--symbol", "BTC/USDT", "--timeframe", "1h"]
    before = sorted(workplace.directory.iterdir())
    assert run_command(app, asked) == 2
    assert "line 12: 1704103200000,20010.25" in capsys.readouterr().err
    assert sorted(workplace.directory.iterdir()) == before, "a refusal writes nothing"

    write(workplace.directory / "torn.csv", pl.DataFrame({"time": [1, 2], "open": [1, 2]}))
    assert run_command(app, [*asked[:2], "torn.csv", *asked[2:], "--resolve", "last", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert [(report["file"], report["added"]) for report in told["files"]] == [("mine.csv", 400)]
    assert [one["file"] for one in told["refused"]] == ["torn.csv"]
    assert workplace.lake.read(HOURS)["close"][10] == again["close"][0]

    database = workplace.ledger.database
    (run,) = DataStore(database).runs()
    assert (run.kind, run.market, run.status, run.rows_added, run.findings) == ("import", "mine", "partial", 400, 2)
    found = QualityStore(database).findings(DataSeries.of_candles(HOURS))
    assert set(found.select("kind", "state").iter_rows()) == {("resolved_duplicate", "repaired"), ("out_of_order", "repaired")}

    play = ["run", "--market", "lake:mine", "--symbols", "BTC/USDT", "--timeframe", "1h", "--strategy", "buy_and_hold", "--json"]
    assert run_command(backtesting, play) == 0
    played = json.loads(capsys.readouterr().out)
    assert played["status"] == "success"
    assert played["bars"] == 400


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "open_interest"}, "--kind 'open_interest' cannot be imported"),
        ({"market": "files:x"}, "cannot be a market's name"),
        ({"market": "sample"}, "cannot be a market's name"),
        ({"symbol": "BTCUSDT"}, "write BASE/QUOTE"),
        ({"timeframe": None}, "--timeframe is missing"),
        ({"timeframe": "1y"}, "is not understood"),
        ({"kind": "trades"}, "--timeframe 1h has no meaning for trades"),
        ({"candles": ("1m",)}, "add --kind trades"),
        ({"kind": "trades", "timeframe": None, "candles": ("1x",)}, "is not understood"),
        ({"resolve": "middle"}, "--resolve 'middle' is not known"),
        ({"files": ()}, "no file is given"),
        ({"schema": "nowhere.yaml"}, "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_file_is_opened(wrong: dict[str, object], says: str) -> None:
    given = {"files": ("mine.csv",), "market": "mine", "symbol": "BTC/USDT", "timeframe": "1h", **wrong}
    with pytest.raises(UsageError, match=says):
        read_asked(ImportOptions(**given), 0)  # type: ignore[arg-type]


def test_the_data_pages_example_is_what_the_import_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Your own files\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    (rows,) = [text for language, text in blocks if language == "csv"]
    (schema,) = [text for language, text in blocks if language == "yaml"]
    refusal, table = [text for language, text in blocks if language == "text"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    Path("mine.csv").write_text(rows, encoding="utf-8")
    with pytest.raises(AmbiguousImport) as caught:
        imported(Path("mine.csv"), None)
    assert f"{caught.value}\n" == refusal
    report = imported(Path("mine.csv"), Lake("lake"), resolve="first")
    assert show_imported(ImportResult("run", (report,), ()), as_json=False) == 0
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == table.splitlines()
    Path("schema.yaml").write_text(schema, encoding="utf-8")
    assert read_import_schema(Path("schema.yaml")).model_fields_set == set(ImportSchema.model_fields)
