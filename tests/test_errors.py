"""The grammar of errors: where, what was found, what is allowed; the nearest name for a typo."""

from __future__ import annotations

import pickle

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from tsbench.errors import (
    ConfigError,
    DataError,
    Diverged,
    MachineError,
    TsbenchError,
    from_validation,
    nearest,
    unknown,
)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    depth: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int
    inner: Inner = Inner()

    @field_validator("width")
    @classmethod
    def _even(cls, width: int) -> int:
        if width % 2:
            raise ValueError("only even widths are sold")
        return width


def findings(content: dict) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(content)
    return str(from_validation(caught.value, "shop.toml", Outer.model_fields, {"inner": Inner.model_fields})).split(
        "\n"
    )


@pytest.mark.parametrize("kind", [ConfigError, DataError, MachineError, Diverged])
def test_whoever_catches_tsbench_error_catches_every_kind(kind: type[TsbenchError]) -> None:
    assert issubclass(kind, TsbenchError)
    assert str(pickle.loads(pickle.dumps(kind("what happened")))) == "what happened"  # errors cross processes


def test_the_nearest_name_is_offered_before_the_list_of_all() -> None:
    assert nearest("grru", ["tcn", "gru", "lstm"]) == "did you mean 'gru'? allowed: gru, lstm, tcn"


def test_capital_letters_do_not_hide_the_nearest_name() -> None:
    assert nearest("ETTH1", ["etth1", "weather"]).startswith("did you mean 'etth1'?")


def test_nothing_is_offered_where_nothing_is_near() -> None:
    assert nearest("transformer", ["gru", "tcn"]) == "allowed: gru, tcn"


def test_a_long_list_is_cut() -> None:
    names = [f"name_{i:03}" for i in range(100)]

    assert nearest("x", names).endswith("name_038, name_039, ...")
    assert nearest("x", names[:40]).endswith("name_038, name_039")


@pytest.mark.parametrize("name", [3, ["gru"], None])
def test_a_name_that_is_no_text_is_unknown_too(name: object) -> None:
    assert f"unknown model {name!r}" in str(unknown("model", name, ["gru"], "[models.mine]"))


def test_an_unknown_name_is_a_config_error_that_says_where() -> None:
    error = unknown("model", "grru", ["gru"], "--models")

    assert isinstance(error, ConfigError)
    assert str(error) == "--models: unknown model 'grru'; did you mean 'gru'? allowed: gru"


def test_an_unknown_key_gets_the_nearest_key() -> None:
    assert findings({"width": 2, "widht": 3}) == [
        "shop.toml: unknown key 'widht'; did you mean 'width'? allowed: inner, width"
    ]


def test_an_unknown_key_of_a_table_gets_the_nearest_key_of_that_table() -> None:
    assert findings({"width": 2, "inner": {"deptth": 3}}) == [
        "shop.toml: unknown key 'inner.deptth'; did you mean 'depth'? allowed: depth"
    ]


def test_a_missing_key_is_named() -> None:
    assert findings({}) == ["shop.toml: key 'width' is missing"]


def test_a_wrong_type_is_shown_with_what_was_found() -> None:
    assert findings({"width": "wide"}) == [
        "shop.toml: width = 'wide': input should be a valid integer, unable to parse string as an integer"
    ]


def test_a_sentence_of_our_own_validators_is_left_as_it_is() -> None:
    assert findings({"width": 3}) == ["shop.toml: width: only even widths are sold"]


def test_every_finding_has_a_line() -> None:
    assert len(findings({"width": "wide", "inner": {"depth": "deep"}, "colour": 1})) == 3
