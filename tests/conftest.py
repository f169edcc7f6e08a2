"""Fixtures of several test files; each lives beside what it starts."""

from tests.emulator_fixture import made_up_exchange, real_exchange, real_exchange_server

__all__ = ["made_up_exchange", "real_exchange", "real_exchange_server"]
