"""What the sections of the settings are made of."""

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from candlewick.errors import UsageError
from candlewick.settings_layers import split_list

SYMBOL = re.compile(r"[^\s/:,]+/(?P<quote>[^\s/:,]+)(:[^\s/:,]+)?")
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(split_list)]


def as_value_error(check: Callable[[str], object], text: str) -> None:
    """Call ``check``; its UsageError becomes a ValueError, the only kind that pydantic collects."""
    try:
        check(text)
    except UsageError as problem:
        raise ValueError(str(problem)) from None


class Section(BaseModel):
    """A frozen group of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, populate_by_name=True)
