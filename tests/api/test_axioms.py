"""The axioms are read off the catalog by anybody."""

import httpx

from tests.api.conftest import Look


def test_anybody_reads_the_axioms_in_order(client: httpx.Client, look: Look) -> None:
    answer = client.get("/api/axioms").json()
    rows = look.execute("select id, rule from shared.axioms order by substr(id, 2)::integer").fetchall()
    assert [(axiom["id"], axiom["rule"]) for axiom in answer["items"]] == rows
    assert answer["next_cursor"] is None
    assert {axiom["oracle"] for axiom in answer["items"]} == {None}


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
    assert look.execute("select count(*) from pg_description where description like 'Axiom A%'").fetchone() == (listed,)
