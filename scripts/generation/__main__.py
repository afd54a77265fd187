"""The command: writes every domain's module and the manifest, or with --check says which would change."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import psycopg

from app import oracles
from app.queries import ROOT, QueryError, load
from scripts.generation import manifest
from scripts.generation.catalog import Catalog
from scripts.generation.module import render, tidy
from scripts.throwaway import migrated

_APP = ROOT.parent.parent / "app"


@contextmanager
def _given(dsn: str) -> Iterator[str]:
    yield dsn


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; show what would change and exit 1 if anything would.")
@click.option("--dsn", help="A migrated database to ask, in place of a throwaway one.")
@click.option("--queries", type=click.Path(path_type=Path), default=ROOT, help="Folder of the domains' query files.")
@click.option("--app", type=click.Path(path_type=Path), default=_APP, help="Folder of the domains' packages.")
@click.option(
    "--oracles", "asked", type=click.Path(path_type=Path), default=oracles.ROOT, help="Folder of the oracles."
)
def generate(*, check: bool, dsn: str | None, queries: Path, app: Path, asked: Path) -> None:
    """Write app/<domain>/queries.py from sql/queries/<domain>, typed by PostgreSQL, and sql/oracles/manifest.json."""
    with _given(dsn) if dsn else migrated() as url, psycopg.connect(url, autocommit=True) as connection:
        try:
            changed = [*_write_queries(Catalog(connection), queries, app, check=check)]
            changed += _write_manifest(connection, asked, check=check)
        except QueryError as error:
            raise click.ClickException(str(error)) from error
    if check and changed:
        raise click.exceptions.Exit(1)


def _write_queries(catalog: Catalog, queries: Path, app: Path, *, check: bool) -> Iterator[Path]:
    for folder in sorted(path for path in queries.iterdir() if path.is_dir()):
        found = load(folder.name, queries)
        path = app / folder.name / "queries.py"
        source = tidy(render(folder.name, found.values(), catalog), path)
        yield from _write(path, source, f"{len(found)} queries", check=check)


def _write_manifest(connection: psycopg.Connection[tuple[Any, ...]], asked: Path, *, check: bool) -> Iterator[Path]:
    if asked.exists():
        yield from _write(asked / "manifest.json", manifest.render(connection, asked), "the catalog", check=check)


def _write(path: Path, source: str, what: str, *, check: bool) -> Iterator[Path]:
    """Write a file, or show how it differs; yields its path if it does."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    click.echo(f"{path}: {what}, {'changed' if before != source else 'unchanged'}", err=True)
    if before == source:
        return
    if check:
        click.echo("".join(_difference(path, before, source)), nl=False)
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text(source, encoding="utf-8")
    yield path


def _difference(path: Path, before: str, after: str) -> Iterator[str]:
    return difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"{path} (is)",
        f"{path} (would be)",
    )


generate(prog_name="scripts/generate")
