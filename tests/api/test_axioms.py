"""The axioms are read off the catalog by anybody."""

import json
from datetime import datetime

import httpx

from tests.api.conftest import Look


def test_anybody_reads_the_axioms_in_order(client: httpx.Client, look: Look) -> None:
    answer = client.get("/api/axioms").json()
    rows = look.execute("select id, rule from shared.axioms order by substr(id, 2)::integer").fetchall()
    assert [(axiom["id"], axiom["rule"]) for axiom in answer["items"]] == rows
    assert answer["next_cursor"] is None
    assert [axiom["oracle"] for axiom in answer["items"]] == [None] * len(rows)


def test_each_axiom_tells_what_its_oracles_found_last(client: httpx.Client, look: Look) -> None:
    results = [
        {"oracle": "O7", "axioms": ["A8"], "violations": 2, "seconds": 0.1},
        {"oracle": "O9", "axioms": [], "violations": 1, "seconds": 0.1},
        {"oracle": "O12", "axioms": ["A8"], "violations": 0, "seconds": 0.1},
    ]
    look.execute("select shared.record_oracle_results(%s)", [json.dumps(results)])
    told = {axiom["id"]: axiom["oracle"] for axiom in client.get("/api/axioms").json()["items"]}
    assert (told["A8"]["oracles"], told["A8"]["violations"]) == (["O7", "O9", "O12"], 3)
    assert (told["A1"]["oracles"], told["A1"]["violations"]) == (["O9"], 1)
    checked = look.execute("select min(checked_at) from shared.oracle_results").fetchone()
    assert checked == (datetime.fromisoformat(told["A8"]["checked_at"]),)


def test_an_oracle_that_is_no_more_has_no_result(client: httpx.Client, look: Look) -> None:
    for names in (["O1", "O2"], ["O2"]):
        results = [{"oracle": name, "axioms": ["A1"], "violations": 0, "seconds": 0} for name in names]
        look.execute("select shared.record_oracle_results(%s)", [json.dumps(results)])
    assert client.get("/api/axioms").json()["items"][0]["oracle"]["oracles"] == ["O2"]


def test_each_axiom_names_what_enforces_it_and_why(client: httpx.Client) -> None:
    axioms = {axiom["id"]: axiom for axiom in client.get("/api/axioms").json()["items"]}
    for axiom in axioms.values():
        assert axiom["enforced_by"], axiom["id"]
        for each in axiom["enforced_by"]:
            assert each.keys() == {"object", "kind", "location", "why"}
            assert all(each.values()), each
    first = axioms["A1"]["enforced_by"][0]
    assert (first["object"], first["kind"], first["location"]) == (
        "agreements_one_live_per_referral",
        "index",
        "agreement.agreements",
    )


def test_what_no_longer_stands_is_no_longer_listed(client: httpx.Client, look: Look) -> None:
    look.execute("drop index agreement.agreements_one_live_per_referral")
    answer = client.get("/api/axioms")
    assert "agreements_one_live_per_referral" not in answer.text


def test_every_comment_that_names_an_axiom_is_listed(client: httpx.Client, look: Look) -> None:
    listed = sum(len(axiom["enforced_by"]) for axiom in client.get("/api/axioms").json()["items"])
    commented = look.execute(
        "select count(*) from pg_description as d where d.description like 'Axiom A%' and not exists ("
        "select from pg_trigger as t join pg_class as c on c.oid = t.tgrelid "
        "where t.oid = d.objoid and d.classoid = 'pg_trigger'::regclass and c.relispartition)"
    )
    assert commented.fetchone() == (listed,), "a partition's are its table's"
