"""Commands: exit codes, one clear message on standard error, JSON that a program can read, tables that fit."""

import asyncio
import dataclasses
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from cyclopts import App
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from candlewick.cli import JsonFlag, ParameterTexts, command_app, parse_parameters, progress, run_command
from candlewick.errors import LedgerBusy, UnknownStrategy, UsageError
from candlewick.json_text import to_json
from candlewick.results import FillRow
from candlewick.tables import print_rows

ROOT = Path(__file__).resolve().parents[1]


def example(act: Callable[[], int | None]) -> App:
    """A command with the options that commands here have, which does what the test says."""
    app = command_app("python -m flows.example", "An example.")

    @app.default
    def command(
        *,
        account: str | None = None,
        symbols: tuple[str, ...] | None = None,
        param: ParameterTexts = None,
        limit: int = 5,
        dry_run: bool = False,
        json: JsonFlag = False,
    ) -> int | None:
        print(to_json({"symbols": symbols, "param": parse_parameters(param), "limit": limit, "dry_run": dry_run}))
        return act()

    return app


def fail(problem: BaseException) -> Callable[[], int]:
    def act() -> int:
        raise problem

    return act


class TestExitCodes:
    @pytest.mark.parametrize(("answer", "code"), [(None, 0), (0, 0), (1, 1), (3, 3)])
    def test_a_command_ends_with_the_code_it_answers(self, answer: int | None, code: int) -> None:
        assert run_command(example(lambda: answer), []) == code

    @pytest.mark.parametrize(
        ("problem", "code", "said"),
        [
            (UsageError("no such thing"), 2, "Error: no such thing\n"),
            (UnknownStrategy("no strategy"), 2, "Error: no strategy\n"),
            (LedgerBusy("busy for 60 s"), 1, "Error: busy for 60 s\n"),
            (KeyboardInterrupt(), 130, "Error: interrupted\n"),
        ],
    )
    def test_a_failure_is_one_message_on_standard_error(
        self, problem: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run_command(example(fail(problem)), []) == code
        assert capsys.readouterr().err == said

    def test_an_async_command_ends_with_its_code_and_its_errors_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        app = command_app("python -m flows.example", "An example.")

        @app.default
        async def command(*, fails: bool = False) -> int:
            await asyncio.sleep(0)
            if fails:
                raise LedgerBusy("busy")
            return 3

        assert run_command(app, []) == 3
        assert run_command(app, ["--fails"]) == 1
        assert capsys.readouterr().err == "Error: busy\n"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--acount", "demo"], "Unknown option: --acount. Did you mean --account?"),
            (["--limit", "many"], 'Invalid value for --limit: unable to convert "many" into int.'),
            (["--account"], "Parameter --account requires an argument."),
            (["--account", "a", "--account", "b"], "Parameter --account specified multiple times."),
            (["--symbols", "BTC/USDT", "ETH/USDT"], "ETH/USDT: not understood here; for several values repeat the option"),
            (["--param", "fast"], "--param fast: there is no '='"),
        ],
    )
    def test_a_wrong_call_ends_with_2_and_says_what_is_wrong(
        self, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run_command(example(lambda: 0), arguments) == 2
        shown = capsys.readouterr()
        assert shown.err.startswith(f"Error: {said}")
        assert shown.out == ""

    def test_a_wrong_call_names_the_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        run_command(example(lambda: 0), ["--nonsense"])
        assert capsys.readouterr().err.endswith("See: python -m flows.example --help\n")

    def test_help_names_every_option_and_the_exit_codes(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command(example(lambda: 0), ["--help"]) == 0
        shown = capsys.readouterr().out
        for words in (
            "python -m flows.example",
            "--account",
            "--symbols",
            "--param",
            "--dry-run",
            "--json",
            "3 partial",
            "--debug",
        ):
            assert words in shown
        assert "--no-" not in shown
        assert "--empty-" not in shown


class TestUnexpectedErrors:
    def test_an_unexpected_error_names_its_type_and_how_to_see_the_traceback(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command(example(fail(ZeroDivisionError("by zero"))), []) == 1
        shown = capsys.readouterr().err
        assert shown.startswith("Error: ZeroDivisionError: by zero\n")
        assert "--debug" in shown
        assert "Traceback" not in shown

    def test_debug_shows_the_traceback(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        assert run_command(example(fail(ZeroDivisionError("by zero"))), ["--debug"]) == 1
        assert "Traceback" in capsys.readouterr().err
        monkeypatch.setenv("CANDLEWICK_DEBUG", "1")
        assert run_command(example(fail(LedgerBusy("busy"))), []) == 1
        assert "Traceback" in capsys.readouterr().err
        monkeypatch.setenv("CANDLEWICK_DEBUG", "0")
        assert run_command(example(fail(LedgerBusy("busy"))), []) == 1
        assert "Traceback" not in capsys.readouterr().err

    def test_a_reader_that_leaves_early_is_no_crash(self) -> None:
        code = (
            "from candlewick.cli import command_app, run_command\n"
            "app = command_app('x', 'x')\n"
            "@app.default\n"
            "def command():\n"
            "    for _ in range(200000): print('a line of some length')\n"
            "raise SystemExit(run_command(app, []))\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            running.stdout.readline()
            running.stdout.close()
            assert running.stderr.read() == b""

    def test_letters_the_terminal_cannot_show_do_not_crash_a_command(self) -> None:
        code = (
            "from candlewick.cli import command_app, run_command\n"
            "app = command_app('x', 'x')\n"
            "@app.default\n"
            "def command():\n"
            "    print('an – and a €')\n"
            "raise SystemExit(run_command(app, []))\n"
        )
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert ran.stdout == "an \\u2013 and a \\u20ac\n"


class TestJsonErrors:
    @pytest.mark.parametrize(
        ("problem", "kind", "code"),
        [
            (UsageError("what"), "UsageError", 2),
            (LedgerBusy("what"), "LedgerBusy", 1),
            (KeyboardInterrupt(), "KeyboardInterrupt", 130),
        ],
    )
    def test_with_json_a_failure_is_an_object_on_standard_output_too(
        self, problem: BaseException, kind: str, code: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_command(example(fail(problem)), ["--json"])
        shown = capsys.readouterr()
        answer = json.loads(shown.out.splitlines()[-1])
        assert answer == {"status": "failure", "error": answer["error"], "error_type": kind, "exit_code": code}
        assert shown.err == f"Error: {answer['error']}\n"

    def test_a_wrong_call_is_an_object_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command(example(lambda: 0), ["--json", "--nonsense"]) == 2
        assert json.loads(capsys.readouterr().out)["error_type"] == "UsageError"


class TestParameters:
    def test_parameters_are_read_from_repeated_options(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [
            "--param",
            "fast=10",
            "--param=shift=-2",
            "--param",
            "name=a=b",
            "--symbols",
            "A/B",
            "--symbols",
            "C/B",
            "--dry-run",
        ]
        assert run_command(example(lambda: 0), arguments) == 0
        assert json.loads(capsys.readouterr().out) == {
            "symbols": ["A/B", "C/B"],
            "param": {"fast": "10", "shift": "-2", "name": "a=b"},
            "limit": 5,
            "dry_run": True,
        }

    @pytest.mark.parametrize(
        ("texts", "said"),
        [
            (["fast"], "--param fast: there is no '='"),
            (["=10"], "'' is not a parameter's name"),
            (["my fast=10"], "'my fast' is not a parameter's name"),
            (["fast="], "the value is missing"),
            (["fast=1", "fast=2"], r"fast is given more than once \(before: 1\)"),
        ],
    )
    def test_parameters_that_are_not_understood_are_refused(self, texts: list[str], said: str) -> None:
        with pytest.raises(UsageError, match=said):
            parse_parameters(texts)

    def test_no_parameters_are_an_empty_set(self) -> None:
        assert parse_parameters(None) == {}


class TestJson:
    def test_amounts_are_text_and_times_are_utc_with_z(self) -> None:
        summer = datetime(2026, 7, 1, 2, 30, 0, 5000, tzinfo=timezone(timedelta(hours=2)))
        value = {
            "a": Decimal("1E+2"),
            "b": Decimal("0.00000001"),
            "at": summer,
            "day": date(2026, 1, 2),
            "p": Path("x/y"),
            "n": None,
        }
        assert json.loads(to_json(value)) == {
            "a": "100",
            "b": "0.00000001",
            "at": "2026-07-01T00:30:00.005000Z",
            "day": "2026-01-02",
            "p": "x/y",
            "n": None,
        }

    def test_records_keep_their_declared_order_and_sets_are_sorted(self) -> None:
        @dataclasses.dataclass(frozen=True, slots=True)
        class Pair:
            zebra: int
            apple: frozenset[str]

        assert to_json(Pair(1, frozenset("cab"))) == '{"zebra": 1, "apple": ["a", "b", "c"]}'
        fill = FillRow(
            at=datetime(2026, 1, 1, tzinfo=UTC),
            symbol="BTC/USDT",
            side="buy",
            leg="entry",
            quantity=Decimal("0.10"),
            price=Decimal(5),
            fee=Decimal(0),
            realized_pnl=None,
            reason="",
        )
        assert list(json.loads(to_json(fill))) == list(FillRow.model_fields)
        assert json.loads(to_json([fill]))[0]["quantity"] == "0.10"

    def test_what_is_not_a_number_is_null_and_a_secret_is_masked(self) -> None:
        assert to_json([float("nan"), float("inf"), Decimal("NaN"), SecretStr("hunter2")]) == '[null, null, null, "**********"]'

    def test_what_has_no_json_form_is_named(self) -> None:
        with pytest.raises(TypeError, match="object has no JSON form"):
            to_json({"x": object()})
        with pytest.raises(ValueError, match="has no time zone"):
            to_json(datetime(2026, 1, 1))  # noqa: DTZ001

    @given(st.decimals(allow_nan=False, allow_infinity=False, places=18, min_value=-(10**15), max_value=10**15))
    def test_no_amount_loses_a_digit(self, amount: Decimal) -> None:
        assert Decimal(json.loads(to_json(amount))) == amount


ROWS = [
    {
        "symbol": "BTC/USDT",
        "quantity": Decimal("0.123456789012345678"),
        "at": datetime(2026, 1, 31, 16, tzinfo=UTC),
        "why": "swing low [red]x",
    },
    {"symbol": "ETH/USDT", "quantity": None, "at": None, "why": "a longer reason that has to be wrapped somewhere :smile:"},
]
COLUMNS = {"symbol": "Symbol", "quantity": "Quantity", "at": "At", "why": "Reason"}


def table(
    rows: list[dict[str, object]], width: int, monkeypatch: pytest.MonkeyPatch, columns: dict[str, str] = COLUMNS
) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    print_rows(rows, columns, json=False, stream=out)
    return [line.rstrip() for line in out.getvalue().splitlines()]


class TestTables:
    def test_a_table_shows_amounts_in_full_and_texts_as_they_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = table(ROWS, 160, monkeypatch)
        assert lines[0].split() == ["Symbol", "Quantity", "At", "Reason"]
        assert lines[2].split() == ["BTC/USDT", "0.123456789012345678", "2026-01-31", "16:00", "swing", "low", "[red]x"]
        assert lines[3].split()[:3] == ["ETH/USDT", "–", "–"]
        assert lines[3].endswith(":smile:")
        assert len(lines) == 4

    @pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 70, 80, 100])
    def test_no_number_and_no_time_is_ever_cut_or_wrapped(self, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "\n".join(table(ROWS, width, monkeypatch))
        assert "0.123456789012345678" in text
        assert "2026-01-31 16:00" in text
        assert "…" not in text

    def test_a_narrow_terminal_gets_a_block_for_each_row(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert table(ROWS, 30, monkeypatch)[:5] == [
            "Symbol    BTC/USDT",
            "Quantity  0.123456789012345678",
            "At        2026-01-31 16:00",
            "Reason    swing low [red]x",
            "",
        ]

    def test_a_file_gets_lines_as_long_as_they_need_to_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("COLUMNS", raising=False)
        out = io.StringIO()
        print_rows([{"why": "word " * 100}], {"why": "Reason"}, json=False, stream=out)
        assert len(out.getvalue().splitlines()) == 3
        assert max(map(len, out.getvalue().splitlines())) < 510

    def test_no_rows_are_said_in_words_and_as_an_empty_array(self) -> None:
        out = io.StringIO()
        print_rows([], COLUMNS, json=False, empty="no accounts yet", stream=out)
        print_rows([], COLUMNS, json=True, stream=out)
        assert out.getvalue() == "no accounts yet\n[]\n"

    def test_json_is_an_array_of_whole_rows(self) -> None:
        out = io.StringIO()
        print_rows(ROWS, {"symbol": "Symbol"}, json=True, stream=out)
        first, second = json.loads(out.getvalue())
        assert first == {
            "symbol": "BTC/USDT",
            "quantity": "0.123456789012345678",
            "at": "2026-01-31T16:00:00Z",
            "why": "swing low [red]x",
        }
        assert second["quantity"] is None


class TestProgress:
    def test_elsewhere_than_on_a_terminal_it_is_lines(self) -> None:
        out = io.StringIO()
        with progress("starting the server", out):
            pass
        first, last = out.getvalue().splitlines()
        assert first == "· starting the server …"
        assert last.startswith("· starting the server … ")
        assert last.endswith(" s")

    def test_it_keeps_saying_so_while_it_lasts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("candlewick.cli._HEARTBEAT_S", 0.001)
        out = io.StringIO()
        with progress("waiting", out):
            while out.getvalue().count("\n") < 3:
                pass
        assert {line.split(" … ")[0] for line in out.getvalue().splitlines()[1:]} == {"· waiting"}

    def test_a_failure_is_told_and_not_swallowed(self) -> None:
        out = io.StringIO()
        with pytest.raises(LedgerBusy), progress("waiting", out):
            raise LedgerBusy("busy")
        assert "· waiting … failed after " in out.getvalue().splitlines()[-1]

    def test_on_a_terminal_the_line_is_rewritten_in_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm")
        leader, follower = pty.openpty()
        with os.fdopen(follower, "w") as terminal:
            with progress("waiting", terminal):
                pass
            shown = b""
            while b"\n" not in shown:
                shown += os.read(leader, 1000)
        os.close(leader)
        assert shown.decode().startswith("· waiting …")
        assert "\r\x1b[K· waiting … " in shown.decode()
        assert shown.count(b"\n") == 1
