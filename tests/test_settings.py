"""Settings: one order of sources, origins that can be shown, and refusals that say key, place, value and what is allowed."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from candlewick.errors import CandlewickError, SettingsError, UsageError
from candlewick.rules import Rules
from candlewick.settings import SCHEMA, RulesSettings, Settings, load_settings, load_settings_with_origins
from candlewick.settings_check import mask
from candlewick.settings_layers import environment_name
from candlewick.settings_report import default_yaml, main, setting_rows, settings_markdown, write_default_file
from candlewick.settings_schema import ANY, allowed

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of one's own, with no settings around it."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CANDLEWICK_")]:
        monkeypatch.delenv(name)
    return tmp_path


def write(text: str, name: str = "candlewick.yaml") -> None:
    Path(name).write_text(text, encoding="utf-8")


def refusal(
    text: str | None = None, environment: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> list[str]:
    """The lines of the refusal, the heading left out."""
    if text is not None:
        write(text)
    with pytest.raises(SettingsError) as refused:
        load_settings(overrides, environment=environment or {})
    lines = str(refused.value).splitlines()
    return [line.strip() for line in (lines[1:] if len(lines) > 1 else lines)]


def plain(value: object) -> str:
    """As one would write it in a variable."""
    return ",".join(value) if isinstance(value, tuple) else str(value)


class TestOrder:
    def test_the_defaults_hold_where_nobody_says_anything(self) -> None:
        settings = load_settings(environment={})
        assert settings == Settings()
        assert settings.paper.symbols == ("BTC/USDT", "ETH/USDT", "SOL/USDT")
        assert settings.store.url == "data/ledger.duckdb"

    def test_the_command_line_wins_over_the_environment_and_that_over_the_file(self) -> None:
        write("paper:\n  cash: 1\n  account: file\n  timeframe: 1h\n")
        environment = {"CANDLEWICK_PAPER__CASH": "2", "CANDLEWICK_PAPER__ACCOUNT": "env"}
        loaded = load_settings_with_origins({"paper.cash": "3", "paper.market": None}, environment=environment)
        paper = loaded.settings.paper
        assert (paper.cash, paper.account, paper.timeframe, paper.market) == (Decimal(3), "env", "1h", "sample")
        assert loaded.origins == {
            "paper.cash": "command line",
            "paper.account": "environment CANDLEWICK_PAPER__ACCOUNT",
            "paper.timeframe": "candlewick.yaml:4",
        }

    def test_candlewick_config_names_another_file(self, folder: Path) -> None:
        write("paper: {cash: 1}")
        (folder / "etc").mkdir()
        write("paper: {cash: 7}", "etc/mine.yaml")
        assert load_settings(environment={"CANDLEWICK_CONFIG": "etc/mine.yaml"}).paper.cash == 7

    def test_an_empty_variable_counts_as_not_set(self) -> None:
        assert load_settings(environment={"CANDLEWICK_STORE__URL": "", "CANDLEWICK_DEBUG": "1"}) == Settings()

    def test_an_exchange_is_reached_by_variables(self) -> None:
        environment = {
            "CANDLEWICK_EXCHANGES__BINANCE__API_URL": "http://127.0.0.1:9/api",
            "CANDLEWICK_EXCHANGES__KRAKEN__TIMEOUT_S": "3",
        }
        settings = load_settings(environment=environment)
        assert settings.exchange("binance").api_url == "http://127.0.0.1:9/api"
        assert settings.exchange("kraken").timeout_s == 3
        assert settings.exchange("bybit").max_attempts == 5

    @pytest.mark.parametrize(
        "given", ["BTC/USDT, ETH/USDT", '["BTC/USDT", "ETH/USDT"]', ["BTC/USDT,ETH/USDT"], ("BTC/USDT", "ETH/USDT")]
    )
    def test_symbols_may_be_written_as_a_list_or_with_commas(self, given: object) -> None:
        assert load_settings({"paper.symbols": given}, environment={}).paper.symbols == ("BTC/USDT", "ETH/USDT")

    @pytest.mark.parametrize("none", ["none", "NULL"])
    def test_none_switches_a_limit_off_in_every_source(self, none: str) -> None:
        write("rules: {daily_loss_limit_share: none}\nfees: {maker_bps: null}")
        settings = load_settings({"paper.since": none}, environment={"CANDLEWICK_RULES__MAX_DRAWDOWN_SHARE": none})
        assert settings.rules.daily_loss_limit_share is settings.rules.max_drawdown_share is settings.paper.since is None

    def test_a_date_in_the_file_stays_the_text_that_was_written(self) -> None:
        write("paper: {since: 2026-01-31}")
        assert load_settings(environment={}).paper.since == "2026-01-31"

    def test_sections_without_keys_and_empty_files_say_nothing(self) -> None:
        for text in ("", "# only a comment\n", "paper:\nrules: {}\n"):
            write(text)
            assert load_settings(environment={}) == Settings()


class TestParametersBelongToTheirStrategy:
    FILE = "paper:\n  strategy: rsi_reversion\n  parameters: {period: 14, low: 30}\n"

    def test_parameters_of_several_sources_are_merged_by_name(self) -> None:
        write(self.FILE)
        settings = load_settings({"paper.parameters": {"low": "20"}}, environment={"CANDLEWICK_PAPER__PARAMETERS__HIGH": "70"})
        assert settings.paper.parameters == {"period": 14, "low": "20", "high": "70"}

    def test_naming_another_strategy_drops_the_parameters_below(self) -> None:
        write(self.FILE)
        settings = load_settings({"paper.strategy": "sma_cross", "paper.parameters": {"fast": "5"}}, environment={})
        assert settings.paper.parameters == {"fast": "5"}

    def test_naming_the_same_strategy_keeps_them(self) -> None:
        write(self.FILE)
        assert load_settings({"paper.strategy": "rsi_reversion"}, environment={}).paper.parameters == {"period": 14, "low": 30}

    def test_naming_another_strategy_than_the_default_drops_them_too(self) -> None:
        write("paper: {parameters: {lookback: 50}}")
        assert load_settings({"paper.strategy": "buy_and_hold"}, environment={}).paper.parameters == {}

    def test_a_variable_may_hold_them_as_json(self) -> None:
        environment = {"CANDLEWICK_PAPER__PARAMETERS": '{"fast": 10, "strict": true}'}
        assert load_settings(environment=environment).paper.parameters == {"fast": 10, "strict": True}


class TestRefusals:
    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("paper.cash", "-5", "'-5' is not allowed; it must be a number above 0 up to 1000000000"),
            ("paper.cash", "NaN", "'NaN' is not allowed"),
            ("paper.cash", "a lot", "'a lot' is not allowed"),
            ("paper.symbols", "", "'' is not allowed; it must be a list of different symbols"),
            ("paper.symbols", "BTC/USDT,BTC/USDT", "BTC/USDT is named more than once"),
            ("paper.symbols", "BTC/USDT,ETH/BTC", "one account holds one quote currency, but BTC/USDT and ETH/BTC differ"),
            ("paper.symbols", "BTCUSDT", "'BTCUSDT' is not a symbol: write BASE/QUOTE"),
            ("paper.symbols", '["BTC/USDT"', "it is not a JSON list"),
            ("paper.timeframe", "7x", "timeframe '7x' is not understood"),
            ("paper.since", "yesterday", "'yesterday' is not a time"),
            ("paper.account", "../demo", "'../demo' is not allowed; it must be up to 64 letters"),
            ("rules.slippage_bps", "1001", "it must be a number from 0 up to 1000"),
            ("rules.max_position_share", "0", "it must be a number above 0 up to 1"),
            ("rules.daily_loss_limit_share", "5", "it must be a number above 0 up to 1, or none"),
            ("rules.max_open_positions", "0", "it must be a whole number from 1"),
            ("rules.max_open_positions", "1.5", "it must be a whole number from 1"),
            ("rules.capital", "all", "it must be one of equity, initial"),
            ("rules.stop_to_entry_after_target_1", "perhaps", "it must be true or false"),
            ("logging.level", "loud", "it must be one of DEBUG, INFO"),
            ("serve.port", "70000", "it must be a whole number from 1 up to 65535"),
            ("store.url", "", "it must be text, not empty"),
            ("store.lock_timeout_s", "inf", "it must be a number from 0 up to 3600"),
            ("exchanges.binance.api_url", "binance.example", "it must be an http:// or https:// address, or none"),
        ],
    )
    def test_a_value_that_cannot_be_is_refused_with_key_origin_value_and_limit(self, key: str, value: str, said: str) -> None:
        (line,) = refusal(overrides={key: value})
        assert line.startswith(f"{key} (command line): ")
        assert said in line

    def test_values_of_the_wrong_yaml_type_are_refused_with_their_line(self) -> None:
        lines = refusal(
            "paper:\n  cash: true\n  symbols: 5\n  account: 7\nrules:\n  max_open_positions: yes\nserve: {port: [1]}\n"
        )
        assert sorted(line.partition(": ")[0] for line in lines) == [
            "paper.account (candlewick.yaml:4)",
            "paper.cash (candlewick.yaml:2)",
            "paper.symbols (candlewick.yaml:3)",
            "rules.max_open_positions (candlewick.yaml:6)",
            "serve.port (candlewick.yaml:7)",
        ]

    def test_keys_below_a_value_are_refused(self) -> None:
        (line,) = refusal("paper:\n  timeframe:\n    hours: 4\n")
        assert line == (
            "paper.timeframe (candlewick.yaml:3): it takes no keys below it; it must be a number and m, h, d or w, such as 4h"
        )

    def test_every_problem_of_every_source_is_named_at_once(self) -> None:
        lines = refusal("paper: {cash: 0}", {"CANDLEWICK_RULES__COOLDOWN_BARS": "-1"}, {"paper.timeframe": "4"})
        assert [line.partition(" (")[0] for line in lines] == ["paper.timeframe", "paper.cash", "rules.cooldown_bars"]

    def test_settings_that_contradict_each_other_are_refused(self) -> None:
        assert refusal(overrides={"exchanges.x.retry_base_s": "60"}) == [
            "exchanges.x.retry_max_s (default): it is below retry_base_s, which is 60"
        ]
        assert (
            "contradicts rate_limit" in refusal(overrides={"exchanges.x.rate_limit": "no", "exchanges.x.requests_per_s": "2"})[0]
        )
        assert "api_key and api_secret go together" in refusal(overrides={"exchanges.x.api_key": "abc"})[0]

    def test_an_unknown_key_in_the_file_is_refused_with_the_nearest_one(self) -> None:
        assert refusal("paper:\n  acount: demo\n") == [
            "paper.acount (candlewick.yaml:2): there is no such setting; did you mean paper.account?"
        ]
        assert "did you mean paper.cash?" in refusal("cash: 5\n")[0]
        assert "did you mean exchanges.binance.timeout_s?" in refusal("exchanges: {binance: {timeout: 5}}\n")[0]
        assert "lists them all" in refusal("weather: 5\n")[0]

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("CANDLEWICK_STORE_URL", "CANDLEWICK_STORE__URL"),
            ("CANDLEWICK_PAPER__SYMBOL", "CANDLEWICK_PAPER__SYMBOLS"),
            ("CANDLEWICK_EXCHANGES__BINANCE__APIURL", "CANDLEWICK_EXCHANGES__BINANCE__API_URL"),
        ],
    )
    def test_an_unknown_variable_is_refused_with_the_nearest_one(self, name: str, meant: str) -> None:
        (line,) = refusal(environment={name: "x"})
        assert f"(environment {name})" in line
        assert line.endswith(f"did you mean {meant}?")

    def test_an_unknown_key_is_refused_even_where_a_higher_source_speaks(self) -> None:
        write("paper: {acount: a}")
        with pytest.raises(SettingsError, match="acount"):
            load_settings({"paper.account": "b"}, environment={})

    def test_a_section_cannot_be_a_value(self) -> None:
        assert refusal("store: 5\n") == ["store (candlewick.yaml:1): it is a section; give the keys below it"]
        assert "it is a section" in refusal("", {"CANDLEWICK_EXCHANGES__BINANCE": "x"})[0]

    def test_an_exchange_id_in_capitals_is_refused(self) -> None:
        assert "written in small letters" in refusal("exchanges: {Binance: {sandbox: true}}\n")[0]


class TestFiles:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("paper:\n  cash: [1\n", "candlewick.yaml:3: it is not YAML"),
            ("paper:\n\tcash: 1\n", "candlewick.yaml:2: it is not YAML"),
            ("- a\n- b\n", "candlewick.yaml:1: it must be sections"),
            ("just text", "candlewick.yaml:1: it must be sections"),
            ("paper:\n  cash: 1\n  cash: 2\n", "paper.cash (candlewick.yaml:3): the key stands here twice"),
            ("paper:\n  account: !!python/name:os.system x\n", "paper.account (candlewick.yaml:2): tags are not supported"),
            ("paper: &a\n  cash: 1\nrules: *a\n", "candlewick.yaml:3: it is not YAML: a text that starts with *"),
            ("paper:\n  history_days: !!int soon\n", "paper.history_days (candlewick.yaml:2): the value does not fit"),
            ("? [a]\n: 1\n", "candlewick.yaml:1: a key must be a plain word"),
            ("paper:\n  symbols: [[BTC/USDT]]\n", "paper.symbols (candlewick.yaml:2): a list holds plain values only"),
            ("paper: {cash: 1}\n---\npaper: {cash: 2}\n", "it is not YAML"),
            ("paper: \x00", "character 7 is not allowed"),
        ],
    )
    def test_a_file_that_is_not_understood_is_refused_with_its_line(self, text: str, said: str) -> None:
        assert said in refusal(text)[0]

    def test_files_that_cannot_be_read_are_refused(self, folder: Path) -> None:
        assert refusal(environment={"CANDLEWICK_CONFIG": "absent.yaml"}) == [
            "absent.yaml (environment CANDLEWICK_CONFIG): there is no such file"
        ]
        (folder / "candlewick.yaml").write_bytes(b"paper: \xff")
        assert refusal() == ["candlewick.yaml: it is not UTF-8 text (byte 7)"]
        (folder / "candlewick.yaml").unlink()
        (folder / "candlewick.yaml").mkdir()
        assert "cannot be read" in refusal()[0]


class TestSecrets:
    SECRET = "hunter2hunter2"

    @pytest.mark.parametrize(
        "text",
        [
            "exchanges:\n  binance:\n    api_secrett: hunter2hunter2\n",
            "exchanges:\n  binance:\n    api_key: [hunter2hunter2]\n",
            "exchanges:\n  binance:\n    api_key: hunter2hunter2\n",
            "exchanges:\n  binance:\n    api_key: *hunter2hunter2\n",
            "exchanges:\n  binance:\n    api_key: !hunter2hunter2 x\n",
            'exchanges:\n  binance:\n    api_key: "hunter2hunter2\n',
            "exchanges:\n  binance:\n    api_key: @hunter2hunter2\n",
            "exchanges:\n  binance:\n    api_key: hunter2hunter2: x\n",
            "exchanges:\n  binance:\n    api_url: ftp://user:hunter2hunter2@example\n",
            "exchanges:\n  binance:\n    api_key: {hunter2hunter2}\n",
        ],
    )
    def test_no_refusal_shows_a_secret(self, text: str) -> None:
        assert self.SECRET not in "".join(refusal(text))

    def test_the_report_masks_secrets_and_passwords_in_addresses(self, capsys: pytest.CaptureFixture[str]) -> None:
        write(
            f"exchanges: {{binance: {{api_key: {self.SECRET}, api_secret: {self.SECRET}}}}}\n"
            f"store: {{url: 'postgres://me:{self.SECRET}@db/x?password={self.SECRET}'}}\n"
        )
        assert load_settings(environment={}).exchange("binance").api_key.get_secret_value() == self.SECRET  # type: ignore[union-attr]
        assert main([]) == 0
        assert main(["--json"]) == 0
        assert self.SECRET not in repr(load_settings(environment={}).exchanges)
        shown = capsys.readouterr().out
        assert self.SECRET not in shown
        assert "postgres://me:***@db/x?password=***" in shown
        assert "**********" in shown

    def test_text_without_a_password_is_left_alone(self) -> None:
        assert mask("data/ledger.duckdb") == "data/ledger.duckdb"
        assert mask("http://127.0.0.1:8000/api@v3") == "http://127.0.0.1:8000/api@v3"


class TestShape:
    def test_settings_are_frozen(self) -> None:
        with pytest.raises(ValidationError):
            load_settings(environment={}).paper.cash = Decimal(1)  # type: ignore[misc]

    def test_the_rules_section_is_the_domains_rules_field_by_field_and_with_its_defaults(self) -> None:
        assert list(RulesSettings.model_fields) == [field.name for field in dataclasses.fields(Rules)]
        assert RulesSettings().to_rules() == Rules()
        write("rules: {slippage_bps: 3.5, capital: initial, max_open_positions: 2, daily_loss_limit_share: null}")
        rules = load_settings(environment={}).rules.to_rules()
        assert rules == Rules(slippage_bps=Decimal("3.5"), capital="initial", max_open_positions=2, daily_loss_limit_share=None)

    def test_every_setting_has_a_description_and_words_for_what_is_allowed(self) -> None:
        assert [leaf.key for leaf in SCHEMA.leaves.values() if not leaf.field.description or not allowed(leaf)] == []

    @pytest.mark.parametrize("leaf", [leaf for leaf in SCHEMA.leaves.values() if not leaf.is_mapping], ids=lambda leaf: leaf.key)
    def test_every_setting_can_be_set_by_its_variable(self, leaf) -> None:  # type: ignore[no-untyped-def]
        path = tuple("binance" if part == ANY else part for part in leaf.path)
        with pytest.raises(SettingsError) as refused:
            load_settings(environment={environment_name((*path[:-1], path[-1] + "x")): "1"})
        assert "no such setting" in str(refused.value)
        given = {path: "none" if leaf.optional else plain(leaf.example)}
        for other in SCHEMA.leaves.values():
            if ANY in leaf.path and other.path[:2] == leaf.path[:2] and other.field.examples:  # what a dataset cannot do without
                given[("datasets", "binance", other.path[-1])] = plain(other.example)
        environment = {environment_name(one): value for one, value in given.items()}
        assert load_settings_with_origins(environment=environment).origins == {
            ".".join(one): f"environment {environment_name(one)}" for one in given
        }

    def test_importing_settings_loads_nothing_heavy(self) -> None:
        code = "import sys, candlewick.settings_report, candlewick.logs; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
        heavy = ["prefect", "ccxt", "polars", "numpy", "numba", "pyarrow", "duckdb", "plotly"]
        answer = subprocess.run([sys.executable, "-c", code, *heavy], cwd=ROOT, capture_output=True, text=True, check=True)
        assert answer.stdout == "[]\n"


class TestReport:
    def test_the_table_names_value_and_origin_of_every_setting(self, capsys: pytest.CaptureFixture[str]) -> None:
        write("paper: {cash: 5}")
        assert main(["--json", "--set", "paper.account=x"]) == 0
        rows = {row["key"]: (row["value"], row["origin"]) for row in json.loads(capsys.readouterr().out)}
        assert rows["paper.cash"] == ("5", "candlewick.yaml:1")
        assert rows["paper.account"] == ("x", "command line")
        assert rows["rules.capital"] == ("equity", "default")
        assert set(rows) == {leaf.key for leaf in SCHEMA.leaves.values() if ANY not in leaf.path}

    def test_exchanges_that_are_set_are_listed(self) -> None:
        rows = setting_rows(load_settings_with_origins(environment={"CANDLEWICK_EXCHANGES__KRAKEN__SANDBOX": "true"}))
        assert {
            "key": "exchanges.kraken.sandbox",
            "value": True,
            "origin": "environment CANDLEWICK_EXCHANGES__KRAKEN__SANDBOX",
        } in rows

    def test_the_default_file_loads_to_exactly_the_defaults(self) -> None:
        write(default_yaml())
        loaded = load_settings_with_origins(environment={})
        assert loaded.settings == Settings()
        assert repr(loaded.settings) == repr(Settings())
        assert len(loaded.origins) == len(
            [leaf for leaf in SCHEMA.leaves.values() if ANY not in leaf.path and not leaf.is_mapping]
        )

    def test_the_default_files_exchange_example_loads_once_it_is_uncommented(self) -> None:
        head, _, tail = default_yaml().partition("# exchanges:")
        example, _, rest = tail.partition("\n\n")
        write(head + "exchanges:" + example.replace("\n# ", "\n") + "\n\n" + rest)
        settings = load_settings(environment={})
        assert settings.exchanges == {"binance": settings.exchange("another")}

    def test_an_existing_file_is_left_alone_unless_forced(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--write-defaults"]) == 0
        write("paper: {cash: 5}")
        assert main(["--write-defaults"]) == 2
        assert "candlewick.yaml exists and was left as it is; add --force" in capsys.readouterr().err
        assert load_settings(environment={}).paper.cash == 5
        assert main(["--write-defaults", "--force"]) == 0
        assert load_settings(environment={}) == Settings()
        assert main(["--write-defaults", "other.yaml"]) == 0
        assert Path("other.yaml").read_text() == Path("candlewick.yaml").read_text()

    def test_a_folder_that_is_not_there_is_a_failure(self) -> None:
        with pytest.raises(CandlewickError, match="cannot be written") as failure:
            write_default_file(Path("absent/candlewick.yaml"), force=False)
        assert not isinstance(failure.value, UsageError)

    @pytest.mark.parametrize(
        "arguments", [["--markdown", "--json"], ["x.yaml"], ["--force"], ["--set", "a"], ["--set", "a=1"], ["--nonsense"]]
    )
    def test_requests_that_make_no_sense_end_with_code_2(self, arguments: list[str]) -> None:
        assert main(arguments) == 2

    def test_the_committed_reference_is_what_the_code_says(self) -> None:
        assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_markdown(), (
            "run: python -m candlewick.settings --markdown > docs/settings.md"
        )

    def test_python_m_candlewick_settings_runs_and_refuses(self) -> None:
        command = [sys.executable, "-m", "candlewick.settings"]
        environment = {"PATH": "", "PYTHONPATH": str(ROOT), "CANDLEWICK_PAPER__CASH": "0"}
        refused = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert refused.returncode == 2
        line = "paper.cash (environment CANDLEWICK_PAPER__CASH): '0' is not allowed; it must be a number above 0 up to 1000000000"
        assert refused.stderr == f"Error: {line}\n"
        assert refused.stdout == ""
