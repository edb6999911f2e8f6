"""From a name to a panel: cards, the user's own cards, and plain data files."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path

from tsbench.data.cards import DatasetCard, list_cards, load_card, read_card
from tsbench.data.catalogue import groups, is_group, members
from tsbench.data.download import fetch
from tsbench.data.files import is_unverified, read_verified, verify
from tsbench.data.large_files import mapped_panel, refuse_larger_than_memory
from tsbench.data.panel import About, Panel
from tsbench.data.readers import continued, panel_of, read_panel, read_sheet, sheet_of_bytes
from tsbench.data.sheet import Sheet
from tsbench.data.synthetic import synthetic_panel
from tsbench.errors import ConfigError, DataError, unknown


def load_dataset(name: str, *, data_dirs: Sequence[str | Path] = ()) -> Panel:
    """The panel of a card (`tsbench datasets list`), of a card file of your own (`.toml`), or of a file or a folder.

    A card's file is looked for in `data_dirs`, in the folders of TSBENCH_DATA, among the embedded files and in the
    cache; if it is in none of them, it is downloaded to the cache and its checksum verified.

    Raises ConfigError for an unknown name, DataError for bad content, MachineError when it cannot be downloaded.
    """
    if looks_like_file(name):
        if not name.endswith(".toml"):
            return read_panel(name)
        if not Path(name).is_file():
            raise DataError(f"{name}: no such card")
        return panel_of_card(read_card(Path(name)), [*map(Path, data_dirs), Path(name).parent])
    if is_group(name):
        raise ConfigError(f"{name} is a group of datasets; load one of them: {', '.join(members([name]))}")
    return panel_of_card(load_card(name), [Path(folder) for folder in data_dirs])


def looks_like_file(name: str) -> bool:
    """Whether this names a file rather than a card or a group; `sales.csv` does even when it is missing."""
    if Path(name).suffix != "" or "/" in name:
        return True
    return name != "" and Path(name).exists() and name not in list_cards() and not is_group(name)


def is_card(path: Path) -> bool:
    """Whether a TOML file is a card, not an experiment: it says where values come from."""
    try:
        return bool({"file", "synthetic"} & tomllib.loads(path.read_text(encoding="utf-8")).keys())
    except (OSError, ValueError):  # whoever reads it then says what is wrong
        return False


def known_dataset(name: str) -> str:
    """The name itself. Raises ConfigError when it is neither a card nor a file."""
    if not looks_like_file(name) and name not in list_cards():
        raise unknown("dataset", name, [*list_cards(), *groups()], where="datasets")
    return name


def panel_of_card(card: DatasetCard, data_dirs: Sequence[Path]) -> Panel:
    """The panel that a card describes."""
    about = About(card.title, card.source, card.license, card.attribution, card.units)
    if card.synthetic is not None:
        where = f"card {card.name!r}, [synthetic]"
        known = signature(synthetic_panel).parameters.keys() - {"split"}
        for key in card.synthetic:
            if key not in known:
                raise unknown("key", key, known, where)
        try:
            panel = synthetic_panel(**card.synthetic, split=card.split)  # type: ignore[arg-type]
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"{where}: {error}") from error
        return replace(panel, name=card.name, about=about, defects=card.defects)
    defects = card.defects
    if any(is_unverified(one) for one in card.each_file()):
        defects += ("The content was not verified: no checksum of the file is known.",)
    if card.memory == "mapped":
        path = fetch(card, data_dirs)
        return mapped_panel(path, card, name=card.name, about=about, defects=defects, verify=lambda: verify(path, card))
    sheets = [_sheet(one, data_dirs) for one in card.each_file()]
    sheet = sheets[0] if len(sheets) == 1 else continued(sheets, card)
    return panel_of(sheet, card, name=card.name, about=about, defects=defects)


def _sheet(card: DatasetCard, data_dirs: Sequence[Path]) -> Sheet:
    """What the card's first file holds."""
    path = fetch(card, data_dirs)
    refuse_larger_than_memory(path)
    return read_sheet(path, card) if path.is_dir() else sheet_of_bytes(read_verified(path, card), str(path), card)
