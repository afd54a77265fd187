"""Writes down what enforces the axioms: what the catalog's oracle finds where nothing is expected."""

from pathlib import Path
from typing import Any

import msgspec
import psycopg

from app import oracles


def render(connection: psycopg.Connection[tuple[Any, ...]], folder: Path) -> str:
    """Describe the migrated database as the manifest that the folder's catalog oracle compares with."""
    [oracle] = [each for each in oracles.load(folder) if each.takes_manifest]
    with connection.transaction(), psycopg.RawCursor(connection) as cursor:
        cursor.execute(b"set local search_path to ''")
        rows = cursor.execute(*oracles.statement(oracle, "{}")).fetchall()
    manifest: dict[str, dict[str, str]] = {}
    for subject, _, _, definition in rows:
        kind, _, name = subject.partition("/")
        manifest.setdefault(kind, {})[name] = definition
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2).decode() + "\n"
