"""Dataset cards: the facts about a dataset, one TOML file each, checked when read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tsbench.data.reading import Reading
from tsbench.data.splits import SPLIT_KEYS, SplitByFractions, SplitRule
from tsbench.errors import ConfigError, from_validation, unknown
from tsbench.resources import resource_dir


class SourceFile(BaseModel):
    """A file, where it can be had, and how it is known to be the true one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str | None = Field(None, pattern=r"^[^./\\][^/\\]*$")
    """Name of the file, or of a folder of files, without folders; looked for in the data folders and the cache. `.gz`
    may follow."""
    urls: tuple[Annotated[str, Field(pattern=r"^https?://[^/]+/.+")], ...] = ()
    """Addresses of the file, tried in this order."""
    sha256: str | None = Field(None, pattern=r"^([0-9a-f]{64})?$")
    """Of the unpacked bytes, with LF line ends. Empty: nobody has measured it, and whoever uses the file is told
    that it was not verified."""
    checksum: str | None = Field(None, pattern=r"^(git:[0-9a-f]{40}|md5:[0-9a-f]{32})$")
    """Of the file as it is served, where no sha256 of its content is known: `git:` (`git hash-object`) or `md5:`."""
    size: int | None = Field(None, ge=1)
    """Bytes of the unpacked file; what is much larger is not downloaded and not unpacked."""

    @model_validator(mode="after")
    def _can_be_verified(self) -> Self:
        if self.urls and self.sha256 is None and self.checksum is None:
            raise ValueError(
                "'urls' need a 'sha256' or a 'checksum' to verify what they give; where nobody knows one, say so: "
                "sha256 = ''"
            )
        return self


class DatasetCard(Reading, SourceFile):
    """The facts about a dataset. Either `file` or `synthetic` says where the values come from."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    source: str
    """Who made the data, and where they are described."""
    license: str
    attribution: str = ""
    """The line that the licence wants shown; printed in every report."""
    citation: str = ""
    groups: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], ...] = ()
    """Names that stand for this dataset and others, wherever a dataset is named."""
    num_items: int | None = Field(None, ge=1)
    num_rows: int | None = Field(None, ge=1)
    """Of all items together."""
    num_channels: int | None = Field(None, ge=1)
    more_files: tuple[SourceFile, ...] = ()
    """Further files. An item of a name that was there goes on (M4's test file); others stand beside it, named after
    their file where they have no name."""
    synthetic: dict[str, int | float] | None = None
    """Keywords of `tsbench.data.synthetic.synthetic_panel` instead of a file."""
    split: SplitRule = SplitByFractions()
    units: str = ""
    defects: tuple[str, ...] = ()
    """What is known to be wrong with the data; printed in every report."""

    @model_validator(mode="after")
    def _has_one_origin(self) -> DatasetCard:
        if (self.file is None) == (self.synthetic is None):
            raise ValueError("give either 'file' or a table 'synthetic'")
        if any(further.file is None for further in self.more_files):
            raise ValueError("each of 'more_files' needs a 'file'")
        return self

    def each_file(self) -> list[DatasetCard]:
        """This card with one of its files at a time."""
        alone = self.model_copy(update={"more_files": ()})
        return [alone, *(alone.model_copy(update=dict(further)) for further in self.more_files)]


def read_card(path: Path) -> DatasetCard:
    """A card from a TOML file. Raises ConfigError with the file and the key."""
    try:
        return DatasetCard.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        inner = {"split": SPLIT_KEYS, "more_files": SourceFile.model_fields}
        raise from_validation(error, str(path), DatasetCard.model_fields, inner) from error


def list_cards() -> list[str]:
    """The names of the cards that come with the project."""
    return sorted(path.stem for path in resource_dir("datasets").glob("*.toml"))


def load_card(name: str) -> DatasetCard:
    """A card that comes with the project, by name. Raises ConfigError with the nearest name."""
    if name not in list_cards():
        raise unknown("dataset", name, list_cards(), where="datasets")
    return read_card(resource_dir("datasets") / f"{name}.toml")
