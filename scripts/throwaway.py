"""A PostgreSQL with the schema applied, for as long as a script asks it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import psycopg

from app import migrations
from app.embedded import Embedded
from app.servers import temporary_folder


@contextmanager
def migrated() -> Iterator[str]:
    """Start a PostgreSQL of our own, apply the schema and yield the superuser's URL."""
    with temporary_folder("scripts") as folder:
        click.echo("starting a throwaway PostgreSQL", err=True)
        with Embedded(Path(folder) / "home", durable=False) as server:
            migrations.up(server.owner_url, lambda line: click.echo(line, err=True))
            database = psycopg.conninfo.conninfo_to_dict(server.owner_url)["dbname"]
            yield psycopg.conninfo.make_conninfo(server.superuser_url, dbname=database)
