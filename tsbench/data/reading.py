"""How to read a file: what a card, `--set` or a keyword may say of it. What is not said is found out, and stated."""

from __future__ import annotations

import shlex
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tsbench.data.calendar import check_calendar
from tsbench.data.splits import SPLIT_KEYS, SplitRule
from tsbench.errors import DataError, from_validation

Missing = Literal["error", "interpolate", "forward_fill", "mask"]
Repeated = Literal["error", "first", "last", "mean"]


def _as_list(value: Any) -> Any:
    """A single word or number stands for a list of one: `--set targets=load`."""
    return [value] if isinstance(value, (str, int, float)) else value


Names = Annotated[tuple[Annotated[str, Field(coerce_numbers_to_str=True)], ...], BeforeValidator(_as_list)]


class Reading(BaseModel):
    """What is told about a file, and what to do about its defects. None: found out, and stated in the panel's notes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layout: Literal["wide", "long", "rows"] | None = None
    """One column per channel; one row per item and timestamp; or one series a row, as in M4."""
    time_column: Names | None = None
    """The column of the timestamps, or the columns of year, month, day, hour, minute and second."""
    time_format: str | None = None
    """How timestamps are written: `%d.%m.%Y %H:%M`, or epoch_s, epoch_ms, epoch_us, epoch_ns."""
    time_zone: str | None = None
    """Where the clock of timestamps without an offset hangs, such as Europe/Berlin: they are converted to UTC."""
    start: datetime | date | None = None
    """The first timestamp, for files that have none."""
    item_columns: Names | None = None
    """The columns that name the item in a long table."""
    targets: Names | None = None
    """The columns to forecast."""
    past: Names = ()
    """Covariates that are known up to the last row of the context."""
    known: Names = ()
    """Covariates that are known for the rows of the horizon as well."""
    static: Names = ()
    """Columns that say something of an item, numbers or words: the same in all its rows."""
    calendar: Names = ()
    """Covariates made from the timestamps: hour, weekday, day_of_year, month, and holidays:DE or holidays:US-CA."""
    encoding: Literal["utf-8", "utf-16", "cp1252"] | None = None
    separator: Literal["comma", "semicolon", "tab", "bar"] | None = None
    decimal: Literal["point", "comma"] | None = None
    thousands: Literal["point", "comma", "blank", "apostrophe"] | None = None
    header: bool | None = None
    """Whether the first line holds names."""
    freq: str | None = None
    """A pandas offset alias; None: inferred from the timestamps."""
    seasonality: int | None = Field(None, ge=1)
    """Rows in a season; None: the usual one of the frequency."""
    rows_are_consecutive: bool = False
    """Take the rows as equally spaced even where a timestamp repeats or skips, as the literature does."""
    sentinels: Annotated[tuple[float, ...], BeforeValidator(_as_list)] = ()
    """Numbers that stand for a missing value, such as -9999."""
    missing: Missing = "error"
    """What becomes of missing cells and missing rows: refused, a straight line in time, the last value seen, or kept
    out of loss, scaling and scores, and counted."""
    repeated: Repeated = "error"
    """What becomes of rows with one timestamp: refused, or this one is kept."""
    min_rows: int | None = Field(None, ge=1)
    """Items with fewer rows are left out, named and counted."""
    pad_to: int | None = Field(None, ge=1)
    """Items with fewer rows get so many: their first value is repeated before it. The rows fill contexts; they are no
    target and in no statistic."""
    memory: Literal["whole", "mapped"] = "whole"
    """mapped: a file larger than memory is read in parts, written once into the cache folder and used from there."""
    split: SplitRule | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Reading:
        if self.rows_are_consecutive and not self.freq:
            raise ValueError("'rows_are_consecutive' needs a 'freq'")
        if self.decimal == "comma" and self.thousands == "comma":
            raise ValueError("'decimal' and 'thousands' are both 'comma'")
        check_calendar(self.calendar)
        role_of = dict.fromkeys(self.targets or (), "targets")
        for role in ("past", "known", "static", "calendar"):
            for name in getattr(self, role):
                if name in role_of:
                    raise ValueError(f"{name!r} is in {role_of[name]!r} and again in {role!r}; give it one role, once")
                role_of[name] = role
        return self

    @property
    def covariates(self) -> tuple[str, ...]:
        """The columns with a value for each row, in the order of `Roles`."""
        return (*self.past, *self.known)

    @classmethod
    def of(cls, where: str, **told: Any) -> Reading:
        """Raises ConfigError with the key that is wrong."""
        try:
            return cls.model_validate({key: value for key, value in told.items() if value is not None})
        except ValidationError as error:
            raise from_validation(error, where, Reading.model_fields, {"split": SPLIT_KEYS}) from error


def refuse_covariates(reading: Reading, where: str, layout: str) -> None:
    """Raises DataError where covariates are asked of a file that has no columns for them."""
    names = [*reading.covariates, *reading.static]
    if names:
        raise DataError(
            f"{where}: {layout} has no columns for covariates, but past, known or static name {', '.join(names[:4])}; "
            "leave them out, or bring a long table; calendar works with every layout"
        )


def remedy(where: str, *settings: str) -> str:
    """What to type for a file that needs a word: a card, written by the check."""
    said = " ".join(f"--set {shlex.quote(setting)}" for setting in settings)
    card = shlex.quote(f"{where.rstrip('/').rsplit('/', 1)[-1].split('.')[0] or 'data'}.toml")
    return f"`tsbench datasets check {shlex.quote(where)} {said} --write-card {card}`, then use {card}"
