"""The tables of the analytics store: numbered files, each applied once to a database and recorded there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ray_app.errors import InvalidSettings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

FOLDER = Path(__file__).parent / "migrations"
FILE = re.compile(r"(\d+)_\w+\.sql")
RECORD = """
INSERT INTO migrations SELECT {number:UInt32}, {name:String}, {checksum:String}, toUnixTimestamp64Milli(now64(3))
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. The checksum is that of its statements: comments and line breaks may change."""

    number: int
    name: str
    statements: tuple[str, ...]

    @property
    def checksum(self) -> str:
        return sha256(";".join(" ".join(s.split()) for s in self.statements).encode()).hexdigest()


def migrations(folder: Path = FOLDER) -> list[Migration]:
    """By number."""
    found = [(match, file) for file in folder.glob("*.sql") if (match := FILE.fullmatch(file.name))]
    made = [Migration(int(match[1]), file.stem, _statements(file.read_text())) for match, file in found]
    return sorted(made, key=lambda m: m.number)


def migrate(client: Client, known: list[Migration] | None = None) -> None:
    """Apply what the client's database lacks. Tables made before there were records are kept as they are, and recorded.

    Two processes may do it at once: both apply and record the same. Raises InvalidSettings when the database is not the
    one that this version would have made.
    """
    known = migrations() if known is None else known
    recorded = _recorded(client)
    _check(recorded, known)
    for m in known:
        if m.number not in recorded:
            for statement in m.statements:
                client.command(statement)
            client.command(RECORD, parameters={"number": m.number, "name": m.name, "checksum": m.checksum})


def _statements(text: str) -> tuple[str, ...]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return tuple(s.strip() for s in "\n".join(lines).split(";") if s.strip())


def _recorded(client: Client) -> Mapping[int, tuple[str, str]]:
    """Name and checksum by number."""
    if not int(str(client.command("EXISTS TABLE migrations"))):
        return {}
    rows = client.query("SELECT number, name, checksum FROM migrations FINAL").result_rows
    return {int(number): (str(name), str(checksum)) for number, name, checksum in rows}


def _check(recorded: Mapping[int, tuple[str, str]], known: list[Migration]) -> None:
    newest = known[-1]
    if newer := [name for number, (name, _) in sorted(recorded.items()) if number > newest.number]:
        raise InvalidSettings(
            f"the database of stores.clickhouse_url has migration {newer[-1]}, this version of Lemo knows them up to "
            f"{newest.name}. Start the version that applied it or a later one, or name another database in the URL"
        )
    for m in known:
        name, checksum = recorded.get(m.number, (m.name, m.checksum))
        if checksum != m.checksum:
            raise InvalidSettings(
                f"the database of stores.clickhouse_url has migration {name} with checksum {checksum[:12]}, here "
                f"{m.name}.sql has {m.checksum[:12]}. A file that was applied is never edited: restore it from the "
                "release that applied it, and put the change into a file with the next number"
            )
