# make paper / make test need nothing but Python >= 3.11: both build .venv on first use and start at once afterwards.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
export DO_NOT_TRACK ?= 1
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false

.DEFAULT_GOAL := help
.PHONY: help paper serve dashboard test crash chaos soak year parity check bench agreement lock clean

help:
	@echo "make paper   paper-trade the demo account on the embedded market (sets up .venv on first use)"
	@echo "make serve   Prefect server, work pool and worker with all deployments on this machine"
	@echo "make dashboard  live page of the monitored desk on this machine, read only: before, beside and after its sessions"
	@echo "make test    run the tests        make check   ruff and mypy"
	@echo "make crash   kill cycles at many more places than make test does; SEED=n for others"
	@echo "make chaos   kill and break all around a monitored desk for an hour of its market; SEED=n for other blows"
	@echo "make soak    watch 200 symbols for an hour of the market, and 20: latency, missed bars, memory; SOAK=\"--factor 1\" in real time"
	@echo "make year    trade a year of real candles in 365 daily cycles a strategy (make test: in cycles of fifteen days)"
	@echo "make parity  prove at length that paper accounts in cycles are one backtest, bit for bit; SEED=n for others"
	@echo "make bench   measure against the stated bounds"
	@echo "make agreement  write what other engines make of the same candles into docs/agreement.md"
	@echo "make lock    compile requirements*.in into hashed requirements*.txt (needs uv)"

$(VENV)/.runtime: requirements.txt
	@$(call install,requirements.txt)
	@touch $@

$(VENV)/.dev: requirements-dev.txt
	@$(call install,requirements-dev.txt)
	@touch $@ $(VENV)/.runtime

define install
	if [ -z "$(PYTHON)" ]; then echo "Candlewick needs Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 2; fi; \
	echo "Setting up $(VENV) from $(1) (about a minute, once) ..."; \
	[ -x $(RUN) ] || $(PYTHON) -m venv $(VENV) || exit 1; \
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(1) 2>$(VENV)/setup.log \
		|| { cat $(VENV)/setup.log >&2; echo "Setting up failed: see above, then run make again." >&2; exit 1; }; \
	$(RUN) -c "import pathlib, site; pathlib.Path(site.getsitepackages()[0], 'candlewick.pth').write_text(str(pathlib.Path.cwd()))"
endef

paper: $(VENV)/.runtime
	@$(RUN) -m flows.paper_trading

serve: $(VENV)/.runtime
	@$(RUN) -m deployments.serve

dashboard: $(VENV)/.runtime
	@$(RUN) -m deployments.dashboard

test: $(VENV)/.dev
	@$(RUN) -m pytest -n 2

crash: $(VENV)/.dev
	@CANDLEWICK_CRASH_POINTS=$(or $(POINTS),1000) CANDLEWICK_CRASH_SEED=$(or $(SEED),1) $(RUN) -m pytest tests/test_crash.py

chaos: $(VENV)/.dev
	@CANDLEWICK_CHAOS_MINUTES=$(or $(MINUTES),60) CANDLEWICK_CHAOS_SEED=$(or $(SEED),1) $(RUN) -m pytest tests/test_monitor_chaos.py

soak: $(VENV)/.dev
	@$(RUN) -m tests.soak $(SOAK)

year: $(VENV)/.dev
	@CANDLEWICK_TEST_YEAR=daily $(RUN) -m pytest tests/test_real_year.py --durations 3

parity: $(VENV)/.dev
	@CANDLEWICK_PARITY=full CANDLEWICK_PARITY_SEED=$(or $(SEED),1) $(RUN) -m pytest tests/test_parity.py

check: $(VENV)/.dev
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

bench: $(VENV)/.dev
	@$(RUN) -m tests.bench $(BENCH)

agreement: $(VENV)/.dev
	@$(RUN) -m tests.oracles.agreement_page

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --custom-compile-command "make lock" requirements.in -o requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --custom-compile-command "make lock" -c requirements.txt requirements-dev.in -o requirements-dev.txt

clean:
	rm -rf $(VENV)
