"""Every error a user can cause, and the one grammar they are told in.

    TsbenchError              a mistake that the reader of the message can put right
    |- ConfigError            an experiment, card, recipe, model argument or option says something impossible
    |- DataError              a file or a panel is not what was promised
    |- MachineError           this machine lacks something: a device, a network, a writable folder
    |  `- OfflineError        no address can be reached
    `- Diverged               training left the finite numbers; the runner records it as a result

A message says where, what was found, what is allowed and what to type next. The command line prints it without a
traceback and exits with 2; any other exception is a bug and shows one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class TsbenchError(Exception):
    """A mistake that the reader of the message can put right."""


class ConfigError(TsbenchError):
    """An experiment, card, recipe, model argument or option says something impossible."""


class DataError(TsbenchError):
    """A file or a panel is not what was promised."""


class MachineError(TsbenchError):
    """This machine lacks something: a device, a network, a writable folder."""


class OfflineError(MachineError):
    """No address can be reached."""


class Diverged(TsbenchError):  # noqa: N818  (what happened, not a mistake)
    """Training left the finite numbers."""


def nearest(name: object, allowed: Iterable[str]) -> str:
    """A sentence that offers the nearest allowed names, then the whole list if it is short."""
    allowed = sorted(allowed)
    close = get_close_matches(str(name).lower(), allowed, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    shown = ", ".join(allowed[:40]) + (", ..." if len(allowed) > 40 else "")
    return f"{hint}allowed: {shown}"


def unknown(what: str, name: object, allowed: Iterable[str], where: str) -> ConfigError:
    """The error for a name that nobody knows."""
    return ConfigError(f"{where}: unknown {what} {name!r}; {nearest(name, allowed)}")


def from_validation(
    error: ValidationError, where: str, allowed: Iterable[str] = (), inner: Mapping[str, Iterable[str]] | None = None
) -> ConfigError:
    """Pydantic's findings in this project's grammar: one line a finding, with the path of the key.

    allowed: the keys that exist. inner: those of a table within, by the table's name.
    """
    lines = []
    for finding in error.errors():
        path = finding["loc"]
        key = ".".join(str(part) for part in path)
        if finding["type"] == "extra_forbidden":
            keys = allowed if len(path) == 1 else (inner or {}).get(str(path[0]), ())
            lines.append(f"{where}: unknown key {key!r}; {nearest(path[-1], keys)}")
        elif finding["type"] == "missing":
            lines.append(f"{where}: key {key!r} is missing")
        elif finding["type"] == "value_error":  # written by our own validators: already a sentence
            lines.append(f"{where}: {key + ': ' if key else ''}{finding['ctx']['error']}")
        else:
            lines.append(f"{where}: {key} = {finding['input']!r}: {finding['msg'].lower()}")
    return ConfigError("\n".join(lines))
