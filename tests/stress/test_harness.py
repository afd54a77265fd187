"""The stress itself: it decides by its seed, notices what is wrong, and says when it cannot begin."""

import asyncio
from itertools import islice
from pathlib import Path

import pytest
from psycopg import sql

from app import oracles
from app.stress.actors import KINDS
from app.stress.ledger import Entry, Ledger, Row
from app.stress.log import Replay, decisions
from app.stress.run import Run, connected
from tests.cli.conftest import run
from tests.conftest import Server
from tests.stress.conftest import PATIENCE, Stage, Superuser

BUT_THE_CATALOG = [oracle for oracle in oracles.load() if not oracle.takes_manifest]


def complaints(run: Run) -> set[tuple[str, str]]:
    """Compare the ledger of a run with the database once more."""

    async def compare() -> set[tuple[str, str]]:
        async with await connected(run.place.superuser_url) as connection:
            found = await run.ledger.reconcile(connection, is_quiet=True)
        return {(each.kind, each.finding.partition(" (")[0]) for each in found}

    return asyncio.run(compare())


def test_the_same_seed_decides_the_same(stage: Stage, other_stage: Stage) -> None:
    stage.play(seed=2)
    other_stage.play(seed=2)
    first, second = stage.decided(), other_stage.decided()
    assert first.keys() == second.keys() == {f"{kind}-{number}" for kind in KINDS for number in (1, 2)}
    for actor, decided in first.items():
        for one, other in zip(decided, second[actor], strict=False):
            assert one == other


def test_a_log_is_replayed(stage: Stage, other_stage: Stage) -> None:
    stage.play(seed=3)
    first = stage.decided()
    other_stage.play(replay=Replay.of(stage.log))
    assert other_stage.decided() == first


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_or_actor_decides_otherwise(kind: str) -> None:
    deeds = KINDS[kind].deeds
    first = [
        list(islice(decisions(seed, actor, deeds), 20)) for seed, actor in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))
    ]
    assert first[0] == first[1]
    assert len({each.pick for decided in first[1:] for each in decided}) == 60


def test_what_is_acknowledged_and_gone_is_found(stage: Stage, superuser: Superuser) -> None:
    played, report = stage.play()
    assert (report.violations, report.complaints) == ([], [])
    assert complaints(played) == set()
    superuser.execute(
        "delete from agreement.timeline_events where id in "
        "(select id from agreement.timeline_events where payload ? 'mark' limit 1)"
    )
    assert complaints(played) == {("events", "it was acknowledged, and is not there")}
    superuser.execute("delete from shared.outbox")
    assert ("events", "it is there in part") in complaints(played)
    superuser.execute("delete from agreement.timeline_events where type = 'ESIGN_COMPLETED'")
    assert ("signatures", "it is there in part") in complaints(played)


def test_a_move_to_where_an_agreement_began_is_found_there(stage: Stage, superuser: Superuser) -> None:
    played, _ = stage.play()
    begun = superuser.execute(
        "select agreement_id, payload ->> 'status' from agreement.timeline_events where type = 'AGREEMENT_CREATED'"
    ).fetchall()
    assert {status for _, status in begun} == {"draft", "pending_signature"}
    for agreement_id, status in begun:
        played.ledger.open("moves", f"{agreement_id} 1 {status}", "creator-1").verdict = "committed"
    assert complaints(played) == set()


def test_what_nobody_asked_for_is_found(stage: Stage, superuser: Superuser) -> None:
    played, _ = stage.play()
    superuser.execute(
        "insert into vote.votes (user_id, api_identifier) select user_id, 'stuffed' from vote.votes limit 1"
    )
    assert complaints(played) == {("votes", "it is there, and nobody asked for it")}


@pytest.mark.parametrize(
    ("weakening", "found"),
    [
        ("alter table agreement.timeline_events disable trigger timeline_events_gated", {"O2"}),
        ("alter table agreement.disputes disable trigger disputes_freeze", {"O6", "O12"}),
        ("alter table agreement.timeline_events disable trigger timeline_events_leave", {"O5"}),
    ],
)
def test_a_rule_that_is_gone_lets_a_violation_through_that_is_found(
    stage: Stage, superuser: Superuser, weakening: str, found: set[str]
) -> None:
    superuser.execute(weakening.encode())
    _, report = stage.play(asked=BUT_THE_CATALOG, seconds=PATIENCE)
    assert {answer.oracle for answer in report.violations} & found or report.complaints
    assert report.findings
    assert report.last.keys() == {"timeline", "outbox", "audit"}
    assert report.last["timeline"]


def test_a_policy_that_lets_strangers_through_is_found(stage: Stage, superuser: Superuser) -> None:
    superuser.execute("alter policy select_party on agreement.agreements using (true)")
    _, report = stage.play(asked=BUT_THE_CATALOG, seconds=PATIENCE)
    assert any(finding.startswith("stranger-") for finding in report.findings)


@pytest.mark.parametrize(
    ("verdicts", "rows", "finding"),
    [
        (["committed"], [True], None),
        (["committed"], [], "it was acknowledged, and is not there"),
        (["committed", "refused"], [True], None),
        (["committed", "unknown"], [True, True], "it is there 2 times"),
        (["unknown"], [], None),
        (["unknown"], [True], None),
        (["unknown"], [False], "it is there in part"),
        (["refused"], [], None),
        (["refused", "aborted"], [True], "it was refused, and is there"),
        (["refused", "unknown"], [True], None),
    ],
)
def test_the_ledger_judges(verdicts: list[str], rows: list[bool], finding: str | None) -> None:
    ledger = Ledger()
    ledger.entries["events"]["mark"] = [Entry("writer-1", verdict) for verdict in verdicts]
    there = [Row("mark", None, whole, done=True) for whole in rows]
    told = {"mark": {""}} if "committed" in verdicts else {}
    found = [each for _, each in ledger.compared_with("events", told, there, is_quiet=True)]
    assert found == ([] if finding is None else [f"{finding} (writer-1)"])


def test_an_answer_that_names_another_row_is_found() -> None:
    ledger = Ledger()
    ledger.entries["events"]["mark"] = [Entry("writer-1", "committed", "one")]
    there = [Row("mark", "another", whole=True, done=True)]
    [(_, found)] = ledger.compared_with("events", {"mark": {"one"}}, there, is_quiet=True)
    assert found.startswith("the answer named one, and there is another")


def test_a_server_where_brokerflow_lives_is_spared(server: Server) -> None:
    name = f"inhabited_{server.run}"
    server.admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    try:
        server.admin.execute(sql.SQL("grant connect on database {} to brokerflow_app").format(sql.Identifier(name)))
        refused = run({}, "stress", "--dsn", server.superuser_url)
    finally:
        server.admin.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))
    assert refused.returncode == 2
    assert name in refused.stderr
    assert "a stress would change the passwords of its logins" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dsn", "nonsense"], "the server cannot be used: the DSN is no URL."),
        (["--dsn", "postgresql://nobody@127.0.0.1:1/x"], "the database does not answer: "),
        (["--duration", "0"], "0.0 is not in the range"),
        (["--replay", "pyproject.toml"], "pyproject.toml is no log of decisions: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_told_in_a_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    refused = run({}, "stress", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
