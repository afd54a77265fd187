"""What the sources must show: explicit chapters, domains apart, SQL where it belongs, every query used."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.queries import load
from app.stress import ledger

ROOT = Path(__file__).parents[2]
APP = ROOT / "app"
CHAPTERS = sorted(path for path in (ROOT / "sql" / "schema").glob("*.sql") if not path.name.endswith(".rollback.sql"))
ORACLES = sorted((ROOT / "sql" / "oracles").glob("*.sql"))
QUERIES = sorted((ROOT / "sql" / "queries").rglob("*.sql"))
DOMAINS = ("shared", "apiauth", "secretstore", "agreement", "vote")
MODULES = {path.relative_to(ROOT).with_suffix(""): path for path in sorted(APP.rglob("*.py"))}

# Who speaks to PostgreSQL itself, not to the schema: the entrance, the server, its roles and its migrations.
SQL_TEXT = {"app/database.py", "app/embedded.py", "app/migrations.py", "app/readiness.py", "app/shared/notices.py"}
# The operator's statements, which run as the owner or the worker; databases that tests and stress make for themselves.
SQL_TEXT |= {"app/commands/admin.py", "app/commands/upkeep.py", "app/demo/service.py", "app/servers.py"}
# The table of refusals; who retries, listens, records a denial or starts before the database does.
CATCHES = {
    "app/errors.py", "app/database.py", "app/pipelines.py", "app/shared/notices.py", "app/shared/denials.py",
    "app/shared/axioms.py", "app/shared/health.py", "app/apiauth/trust.py", "app/embedded.py", "app/cli.py",
    "app/commands/admin.py", "app/commands/axioms.py",
    "app/commands/oracles.py", "app/commands/upkeep.py", "app/oracles.py", "app/demo/service.py",
    # Who strikes, and who is struck: a lost connection is what they are about.
    "app/stress/ways.py", "app/stress/chaos.py", "app/stress/run.py", "app/commands/stress.py",
}  # fmt: skip
# A provider of secrets among others, which refuses as they do.
CATCHES |= {"app/secretstore/providers/postgresql.py"}
STATEMENT = re.compile(
    r"\s*(select|with \w+ as|insert into|update [\w.]+|delete from|merge into|truncate|call|listen|notify|create|alter|"
    r"drop|grant|revoke|lock table|copy|set (local|session|role)|do \$) ?\b"
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Name what a module imports, each name in full."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield module
                yield from (f"{module}.{each.name}" for each in names)
            case _:
                pass


def texts(path: Path) -> Iterator[str]:
    """Yield the string constants of a module but its docstrings."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_is_plain(chapter: Path) -> None:
    text = chapter.read_text()
    assert text.isascii()
    assert re.match(r"-- [A-Z].*[.:,a-z0-9]\n", text), "it opens with a sentence: its concern"
    assert "\t" not in text
    assert not re.search(r"[ ]+$", text, re.MULTILINE)
    assert not re.search(r"^\s*(SELECT|INSERT|CREATE|ALTER|UPDATE)\b", text, re.MULTILINE), "keywords are lowercase"
    rollback = chapter.with_name(f"{chapter.stem}.rollback.sql").read_text()
    assert rollback.isascii()
    for each in (text, rollback):
        assert not re.search(r"^\s*(drop|truncate)\b[^;]*\bcascade\b", each, re.MULTILINE), "it drops what it names"
        assert not re.search(r"^\s*drop\b[^;]*\bif exists\b", each, re.MULTILINE), "it knows what there is"


def test_each_chapter_depends_on_the_one_before() -> None:
    before = None
    for chapter in CHAPTERS:
        told = re.findall(r"^-- depends: (.*)$", chapter.read_text(), re.MULTILINE)
        assert told == ([] if before is None else [before]), chapter.stem
        before = chapter.stem


def test_what_is_one_address_is_said_once() -> None:
    told = [path.stem for path in [*CHAPTERS, *QUERIES, *ORACLES] if "normalize(" in path.read_text()]
    assert told == ["0100_shared_tables"], "the others ask shared.address_key"


def test_every_function_states_its_volatility() -> None:
    head = re.compile(r"^create function (.*?)^as ", re.MULTILINE | re.DOTALL)
    heads = [each for chapter in CHAPTERS for each in head.findall(chapter.read_text())]
    assert len(heads) > 100
    for each in heads:
        is_trigger = "returns trigger" in each
        assert is_trigger or re.search(r"\b(immutable|stable|volatile)\b", each), each


def test_no_setting_is_made_where_it_takes_no_parameter() -> None:
    """`set local x = $1` is no statement; set_config is."""
    for path in [*CHAPTERS, *QUERIES, *MODULES.values()]:
        assert not re.search(r"\bset (local|session) [\w.]+ (=|to) [$:%]", path.read_text()), name_of(path)


def test_domains_do_not_import_each_other() -> None:
    for path in MODULES.values():
        domain = path.relative_to(APP).parts[0]
        if domain not in DOMAINS:
            continue
        others = {f"app.{other}" for other in DOMAINS if other not in {domain, "shared"}}
        foreign = {name for name in imports(path) if ".".join(name.split(".")[:2]) in others}
        assert not foreign, f"{name_of(path)} imports {foreign}"


def test_a_domain_is_one_noun_everywhere() -> None:
    schemas = set(re.findall(r"create schema (\w+)", (ROOT / "sql/schema/0020_schemas.sql").read_text()))
    schemas -= {"partitions", "archive"}  # parts of the domains' tables
    assert schemas == set(DOMAINS)
    assert {path.name for path in (ROOT / "sql" / "queries").iterdir()} == schemas
    assert all((APP / domain / "queries.py").exists() for domain in DOMAINS)


def test_nothing_imports_the_composition_but_the_command() -> None:
    importers = {name_of(path) for path in MODULES.values() if "app.main" in set(imports(path))}
    assert importers <= {"app/cli.py"}


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda path: path.stem)
def test_an_oracle_is_one_select_that_tells_subject_and_finding(oracle: Path) -> None:
    text = oracle.read_text()
    told = re.match(r"-- O(\d+): [A-Z].*\.\n-- axioms: ", text)
    assert told, "it opens with what must never be"
    assert oracle.stem.startswith(f"o{int(told[1]):02}_")
    assert text.isascii()
    assert "\t" not in text
    assert not re.search(r"[ ]+$", text, re.MULTILINE)
    code = re.sub(r"--.*|'(?:[^']|'')*'", "", text)
    assert code.count(";") == 1
    assert not re.search(r"\b(insert|update|delete|merge|truncate|create|alter|drop|set_config)\b", code)
    assert re.search(r"\border by\b[^()]*;\s*$", code), "the same finding is told alike twice"


def test_no_text_of_sql_stands_in_python() -> None:
    found = {
        name_of(path)
        for path in MODULES.values()
        if path.name != "queries.py" and any(STATEMENT.match(text) for text in texts(path))
    }
    assert found <= SQL_TEXT, found - SQL_TEXT


def test_only_the_named_modules_catch_what_psycopg_raises() -> None:
    catching = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and node.type and "psycopg" in ast.unparse(node.type):
                catching.add(name_of(path))
    assert catching <= CATCHES, catching - CATCHES


def test_every_query_is_used() -> None:
    used: dict[str, set[str]] = {}
    for path in MODULES.values():
        if path.name == "queries.py":
            continue
        tree = ast.parse(path.read_text())
        used[name_of(path)] = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used[name_of(path)] |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    everything = set[str]().union(*used.values())
    unused = set()
    for domain in DOMAINS:
        tree = ast.parse((APP / domain / "queries.py").read_text())
        unused |= {f"{domain}.{node.name}" for node in tree.body if isinstance(node, ast.AsyncFunctionDef)
                   and node.name not in everything}  # fmt: skip
    assert unused == set()


def test_every_query_of_the_stress_is_used() -> None:
    told = {text for path in (APP / "stress").glob("*.py") for text in texts(path)} | set(ledger.KINDS)
    queries = set(load("stress", ROOT / "sql"))
    assert len(queries) > 30
    assert queries <= told


def test_every_query_says_what_it_does() -> None:
    heads = [
        (name_of(path), head)
        for path in [*QUERIES, *sorted((ROOT / "sql" / "stress").glob("*.sql"))]
        for head in re.findall(r"^-- name: .*\n(.*)$", path.read_text(), re.MULTILINE)
    ]
    assert len(heads) > 100
    for name, head in heads:
        assert re.match(r"-- [A-Z].*[.,;:\w]$", head), f"{name}: {head}"


def test_queries_write_no_other_domains_tables() -> None:
    writing = re.compile(r"\b(?:insert into|update|delete from|merge into) (\w+)\.\w+")
    written = [(path, schema) for path in QUERIES for schema in writing.findall(path.read_text())]
    assert len(written) > 10
    for path, schema in written:
        assert schema == path.parent.name, name_of(path)
