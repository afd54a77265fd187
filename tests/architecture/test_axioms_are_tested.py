"""Every axiom has a file of tests and an oracle, and every object that keeps one is named by a test."""

import re
from pathlib import Path

from app import oracles
from tests.architecture.conftest import Ask

TESTS = Path(__file__).parents[1] / "schema"


def test_every_axiom_has_its_tests(ask: Ask) -> None:
    axioms = {axiom for (axiom,) in ask("select id from shared.axioms")}
    told = {f"A{int(found[1])}" for path in TESTS.glob("test_a*.py") if (found := re.match(r"test_a(\d+)_", path.name))}
    assert told == axioms


def test_every_axiom_has_an_oracle_of_its_own(ask: Ask) -> None:
    """Beside the one that watches over what enforces them all."""
    axioms = {axiom for (axiom,) in ask("select id from shared.axioms")}
    watched = [oracle.axioms for oracle in oracles.load()]
    assert {axiom for each in watched for axiom in each} == axioms
    assert watched.count(()) == 1


def test_every_enforcing_object_is_named_by_a_test(ask: Ask) -> None:
    text = "".join(path.read_text() for path in TESTS.glob("*.py"))
    objects = ask(
        """
        select o.name from (
            select 'pg_class'::regclass as class, oid, relname as name from pg_class
            union all select 'pg_constraint'::regclass, oid, conname from pg_constraint
            union all select 'pg_trigger'::regclass, oid, tgname from pg_trigger
            union all select 'pg_policy'::regclass, oid, polname from pg_policy
            union all select 'pg_proc'::regclass, oid, proname from pg_proc
        ) as o
        join pg_description as d on d.classoid = o.class and d.objoid = o.oid and d.objsubid = 0
        where d.description like 'Axiom A%%:%%'
        """
    )
    assert len(objects) > 90
    assert [name for (name,) in objects if not re.search(rf"\b{name}\b", text)] == []
