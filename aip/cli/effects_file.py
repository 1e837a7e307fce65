"""What a file of connectors refers to and this machine has not: secrets, folders, programs, authorities.

Nothing of it is a mistake of the file, which may be meant for another machine; all of it would refuse an effect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import secret
from ..errors import AIPError
from ..governance.effects.configuration import EffectsConfig
from ..governance.effects.vault import references
from ..settings import Home


@dataclass(frozen=True, slots=True)
class Missing:
    where: str
    message: str
    hint: str


def missing(config: EffectsConfig, home: Home) -> list[Missing]:
    return [
        one
        for name, connector in sorted(config.connectors.items())
        for one in _of(name, connector.model_dump(mode="json"), home)
    ]


def _of(name: str, config: dict[str, Any], home: Home) -> Iterator[Missing]:
    for reference in sorted(set(_references(config))):
        try:
            secret.resolve(reference, home)
        except AIPError as error:
            yield Missing(name, error.message, error.hint)
    if config["connector"] == "file" and not Path(config["root"]).is_dir():
        yield Missing(f"{name}.root", f"there is no folder {config['root']}", "make it")
    if (authorities := config.get("ca_file")) and not os.access(authorities, os.R_OK):
        yield Missing(f"{name}.ca_file", f"{authorities} cannot be read", "leave it out for the system's")
    for command, one in config.get("commands", {}).items():
        program = one["argv"][0]
        if not os.access(program, os.X_OK):
            yield Missing(
                f"{name}.commands.{command}", f"{program} is no program", "name it with its whole path"
            )


def _references(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield from references(value)
        case dict():
            for item in value.values():
                yield from _references(item)
        case list():
            for item in value:
                yield from _references(item)
