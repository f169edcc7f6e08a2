"""What every command shares: exit codes, how errors are shown, tables or JSON, and a line of progress while it works.

Exit codes: 0 success, 1 failure, 2 usage (nothing was written), 3 partial, 130 interrupted. Results go to standard output,
everything else (progress, errors, logs) to standard error. With ``--json`` an error is a JSON object on standard output too.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Annotated, NoReturn, TextIO

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from candlewick.errors import CandlewickError, UsageError
from candlewick.json_text import to_json
from candlewick.results import Status

SUCCESS, FAILURE, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES: Mapping[Status, int] = {"success": SUCCESS, "failure": FAILURE, "partial": PARTIAL}
DEBUG_VARIABLE = "CANDLEWICK_DEBUG"
_EPILOGUE = "Exit codes: 0 success, 1 failure, 2 usage, 3 partial. With --debug an unexpected error shows its traceback."
_UNEXPECTED = f"This is a bug, or a case Candlewick does not know. For the traceback add --debug or set {DEBUG_VARIABLE}=1."
_HEARTBEAT_S = 10.0
_LEFT_WITH: list[int] = []
_NAMED: Mapping[str, str] = {"--param": "parameter's name", "--rule": "rule's name"}

JsonFlag = Annotated[bool, Parameter(name="--json", show_default=False, help="Print JSON instead of text and tables.")]
"""Annotation of the ``json`` option of a command."""

ParameterTexts = Annotated[
    tuple[str, ...] | None, Parameter(name="--param", help="A strategy parameter as NAME=VALUE; may be given several times.")
]
"""Annotation of the repeatable ``--param name=value``; read it with ``parse_parameters``."""

RuleTexts = Annotated[
    tuple[str, ...] | None, Parameter(name="--rule", help="A rule as NAME=VALUE, such as leverage=3; may be given several times.")
]
"""Annotation of the repeatable ``--rule name=value``; read it with ``candlewick.rule_texts.parse_rules`` or ``named_rules``."""


def command_app(name: str, help_text: str) -> App:
    """A cyclopts app with Candlewick's conventions. ``name`` is what the user types, such as `python -m flows.paper_trading`."""
    return App(
        name=name,
        help=help_text,
        help_format="plaintext",
        help_epilogue=_EPILOGUE,
        version_flags=(),
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )


def run_command(app: App, arguments: Sequence[str] | None = None) -> int:
    """Run a command and answer its exit code: `raise SystemExit(run_command(app))`.

    ``arguments`` default to the process's. The command answers an exit code (None: 0); it may be async.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in options or os.environ.get(DEBUG_VARIABLE, "0").lower() not in ("", "0", "false")
    as_json = "--json" in options
    tokens = [token for position, token in enumerate(given) if token != "--debug" or position >= len(options)]
    _never_fail_on_letters()
    try:
        code = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as problem:
        return _report(f"{_usage_text(problem)}\nSee: {app.name[0]} --help", "UsageError", USAGE, as_json)
    except CandlewickError as problem:
        _show_traceback(debug)
        return _report(str(problem), type(problem).__name__, problem.exit_code, as_json)
    except KeyboardInterrupt:
        return _report("interrupted", "KeyboardInterrupt", INTERRUPTED, as_json)
    except BrokenPipeError:
        # The reader (`| head`) has left. Without this Python would complain once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except Exception as problem:  # noqa: BLE001 - the last place that can say something: type, text, and how to see the rest
        _show_traceback(debug)
        text = f"{type(problem).__name__}: {problem}" + ("" if debug else f"\n{_UNEXPECTED}")
        return _report(text, type(problem).__name__, FAILURE, as_json)
    return code if type(code) is int else SUCCESS


def main(app: App) -> NoReturn:
    """What a command's module ends with: run the command and leave the process with its exit code."""
    code = run_command(app)
    _LEFT_WITH.append(code)
    raise SystemExit(code)


def leave_at_once() -> None:
    """Registered by ``prepare_command`` before anything else, so it runs after all other exit handlers.

    What Python would do from here on is tear down modules, during which the bindings of DuckDB 2.0 print pages about leaked
    references that are none of the user's business.
    """
    if _LEFT_WITH:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_LEFT_WITH[-1])


def python_command() -> str:
    """How the user starts this Python: `python` where its environment is activated, else its path, short where it is near."""
    if os.environ.get("VIRTUAL_ENV") == sys.prefix:
        return "python"
    executable, here = Path(sys.executable), Path.cwd()
    return str(executable.relative_to(here)) if executable.is_relative_to(here) else str(executable)


def parse_parameters(texts: Sequence[str] | None, option: str = "--param", example: str = "fast=10") -> dict[str, str]:
    """Values by name from repeated `name=value` texts of ``option``. Raises UsageError naming the text that is wrong.

    >>> parse_parameters(["fast=10", "slow=30"])
    {'fast': '10', 'slow': '30'}
    """
    advice = f"write {option} NAME=VALUE, such as {option} {example}"
    values: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise UsageError(f"{option} {text}: there is no '='; {advice}")
        if not name.isidentifier():
            raise UsageError(f"{option} {text}: {name!r} is not a {_NAMED.get(option, 'name')}; {advice}")
        if not value:
            raise UsageError(f"{option} {text}: the value is missing; {advice}")
        if name in values:
            raise UsageError(f"{option} {text}: {name} is given more than once (before: {values[name]})")
        values[name] = value
    return values


@contextmanager
def progress(text: str | Callable[[], str], stream: TextIO | None = None) -> Iterator[None]:
    """Say on standard error what is being waited for, with the seconds: in place on a terminal, in lines elsewhere.

    ``text`` may be asked for anew each time, where what is waited for moves on. A line elsewhere when it starts, every ten
    seconds and when it ends, so that a log shows that something moves.
    """
    out = stream or sys.stderr
    started = monotonic()
    ended = Event()
    in_place = out.isatty() and os.environ.get("TERM") != "dumb"
    say = text if callable(text) else lambda: str(text)

    def tick() -> None:
        while not ended.wait(0.1 if in_place else _HEARTBEAT_S):
            line = f"· {say()} … {monotonic() - started:.0f} s"
            _write(out, f"\r\x1b[K{line}" if in_place else f"{line}\n")

    _write(out, f"· {say()} …" if in_place else f"· {say()} …\n")
    ticker = Thread(target=tick, name="candlewick-progress", daemon=True)
    ticker.start()
    outcome = "failed after "
    try:
        yield
        outcome = ""
    finally:
        ended.set()
        ticker.join()
        _write(out, f"{chr(13) + chr(27) + '[K' if in_place else ''}· {say()} … {outcome}{monotonic() - started:.1f} s\n")


def _write(out: TextIO, text: str) -> None:
    out.write(text)
    out.flush()


def _report(message: str, error_type: str, exit_code: int, as_json: bool) -> int:
    if as_json:
        print(to_json({"status": "failure", "error": message, "error_type": error_type, "exit_code": exit_code}), flush=True)
    print(f"Error: {message}", file=sys.stderr, flush=True)
    return exit_code


def _show_traceback(debug: bool) -> None:
    if debug:
        traceback.print_exc(file=sys.stderr)


def _usage_text(problem: CycloptsError) -> str:
    if isinstance(problem, UnusedCliTokensError) and problem.unused_tokens:
        return f"{' '.join(problem.unused_tokens)}: not understood here; for several values repeat the option or write a,b,c"
    return str(problem).strip()


def _never_fail_on_letters() -> None:
    """A terminal that cannot show a letter gets its code instead of a crash."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
