"""Market data: the candle lake, complete, checked and explained. The commands; each flow is in a file of its own.

python -m flows.market_data --help
"""
# ruff: noqa: E402

from candlewick.command_environment import prepare_command

prepare_command(__name__)

from candlewick.cli import command_app, main
from flows.data_backfill import add_backfill_command
from flows.data_export import add_export_command
from flows.data_import import add_import_command
from flows.data_repair import add_repair_command
from flows.data_status import add_status_command
from flows.data_sync import add_sync_command
from flows.data_validate import add_validate_command

app = command_app(
    "python -m flows.market_data",
    "Collect candles and other market data into one lake, keep them up to date, check them and repair them.\n\n"
    "What is not given comes from the environment (CANDLEWICK_...), candlewick.yaml, or the defaults. Data go to data/lake or "
    "CANDLEWICK_LAKE__URL, what was found about them to data/ledger.duckdb or CANDLEWICK_STORE__URL.",
)
add_backfill_command(app)
add_sync_command(app)
add_validate_command(app)
add_repair_command(app)
add_status_command(app)
add_export_command(app)
add_import_command(app)

if __name__ == "__main__":
    main(app)
