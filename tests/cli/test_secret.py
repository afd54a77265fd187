"""`brokerflow secret`: values come and go without being an argument, and the master key rotates."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg
import pyrage  # type: ignore[import-untyped]
import pytest

from app.sealing import key_id
from tests.cli.conftest import COMMAND, NOWHERE, Finished, Variables, environment, run
from tests.conftest import Database

CANARY = "canary-5b21"
OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))

Secret = Callable[..., Finished]


@pytest.fixture
def url(variables: Variables, serve: Callable[[Variables], str]) -> str:
    """A service that seals with the old master key."""
    return serve({**variables, "BROKERFLOW_MASTER_KEY": OLD})


@pytest.fixture
def token(url: str) -> str:
    """A token of an organization's owner."""
    person = {"email": "nora@north.example", "password": "correct horse battery staple"}
    with httpx.Client(base_url=url) as client:
        assert client.post("/auth/register", json={**person, "full_name": "Nora"}).is_success
        token = str(client.post("/auth/login", json=person).json()["token"])
        client.cookies.clear()
        headers = {"Authorization": f"Bearer {token}"}
        assert client.post("/api/organizations", json={"title": "N", "slug": "n"}, headers=headers).is_success
    return token


@pytest.fixture
def secret(url: str, token: str) -> Secret:
    """Run `brokerflow secret` against the service."""

    def call(action: str, *arguments: str, stdin: str | None = None) -> Finished:
        return run({"BROKERFLOW_TOKEN": token}, "secret", action, "--url", url, *arguments, stdin=stdin)

    return call


@pytest.fixture
def at_terminal() -> Callable[..., bytes]:
    """Run `brokerflow` at a terminal of its own, answering what it asks; returns all that was shown."""

    def call(variables: Variables, answers: Iterable[tuple[bytes, bytes]], *arguments: str) -> bytes:
        terminal, theirs = os.openpty()
        command = [*COMMAND, *arguments]
        shown, asked = b"", list(answers)
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(variables), start_new_session=True
        ):
            os.close(theirs)
            with suppress(OSError):  # the end, as Linux tells it
                while read := os.read(terminal, 65536):
                    shown += read
                    if asked and asked[0][0] in shown:
                        os.write(terminal, asked.pop(0)[1])
        os.close(terminal)
        return shown

    return call


def done(finished: Finished) -> str:
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_a_secret_is_put_read_listed_rolled_back_and_deleted(secret: Secret, tmp_path: Path) -> None:
    assert secret("set", "db/password", stdin=f"{CANARY}\n").stderr == "db/password is at version 1.\n"
    assert done(secret("get", "db/password")) == f"{CANARY}\n"
    (tmp_path / "value").write_text('{"b": 1.50, "a": [12345678901234567890123]}')
    done(secret("set", "db/password", "--json", "--file", str(tmp_path / "value"), "--expect", "1"))
    assert done(secret("get", "db/password")) == '{"b": 1.50, "a": [12345678901234567890123]}\n'
    assert done(secret("get", "db/password", "--version", "1", "--json")) == f'"{CANARY}"\n'
    listed = done(secret("list", "--prefix", "db/"))
    assert "db/password" in listed
    assert CANARY not in listed
    done(secret("rollback", "db/password", "1"))
    assert done(secret("get", "db/password")) == f"{CANARY}\n"
    assert [line.split()[0] for line in done(secret("versions", "db/password")).splitlines()[1:]] == ["3", "2", "1"]
    told = done(secret("who", "db/password", "--at", "2099-01-01T00:00:00Z")).splitlines()[1].split()
    assert (told[0], told[1], told[2], told[4]) == ("Nora", "owner", "yes", "5")  # to roll back is to read
    done(secret("delete", "db/password"))
    missing = secret("get", "db/password")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "brokerflow: There is no such thing, or it is not yours. (not_found)\n"
    done(secret("undelete", "db/password"))
    assert done(secret("get", "db/password")) == f"{CANARY}\n"


def test_a_command_runs_with_secrets_in_its_environment_alone(secret: Secret) -> None:
    done(secret("set", "app/db-host", stdin="db.example"))
    done(secret("set", "app/port", "--json", stdin="5432"))
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    shown = json.loads(done(secret("run", "--prefix", "app/", "--", sys.executable, "-c", script)))
    assert (shown["DB_HOST"], shown["PORT"]) == ("db.example", "5432")
    assert "BROKERFLOW_TOKEN" not in shown
    ended = secret("run", "--prefix", "app/", "--", sys.executable, "-c", "raise SystemExit(7)")
    assert ended.returncode == 7
    assert secret("run", "--prefix", "app/", "--", "no-such-command").returncode == 2
    without = json.loads(done(secret("run", "--prefix", "app", "--", sys.executable, "-c", script)))
    assert (without["DB_HOST"], without["PORT"]) == ("db.example", "5432")


def test_a_command_does_not_run_with_other_variables_than_were_meant(secret: Secret) -> None:
    for key, value in {"app/db-host": CANARY, "app/db_host": CANARY, "nul/a": "\0"}.items():
        done(secret("set", key, stdin=value))
    for prefix, status, told in [
        ("app/", 2, "several keys would be one variable: app/db-host, app/db_host."),
        ("nul/", 2, "a variable holds no NUL, as there is in nul/a."),
        ("ap/", 1, "no key begins with ap/."),
    ]:
        refused = secret("run", "--prefix", prefix, "--", "echo", "it ran")
        assert (refused.returncode, refused.stdout, refused.stderr) == (status, "", f"brokerflow: {told}\n")
    assert secret("export", "--plain", "--prefix", "ap/").stderr == "brokerflow: no key begins with ap/.\n"


def test_a_command_says_nothing_but_what_was_asked(url: str, token: str) -> None:
    """At the level that is the default, a line of log a request is not asked for."""
    told = {"BROKERFLOW_TOKEN": token, "BROKERFLOW_LOG_LEVEL": "info"}
    assert run(told, "secret", "set", "k", "--url", url, stdin=CANARY).stderr == "k is at version 1.\n"
    shown = run(told, "secret", "versions", "--url", url, "k")
    assert shown.stderr == ""
    [row] = shown.stdout.splitlines()[1:]
    assert all(len(part) in {1, 27, 36} for part in row.split()), "into a pipe nothing is cut off"


def test_bytes_that_are_no_text_are_refused_in_a_sentence(url: str, token: str, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"\xff" + CANARY.encode())
    for given in ([], ["--file", str(tmp_path / "value")], ["--json"]):
        refused = subprocess.run(
            [*COMMAND, "secret", "set", "k", "--url", url, *given],
            env=environment({"BROKERFLOW_TOKEN": token}),
            input=(tmp_path / "value").read_bytes(),
            capture_output=True,
            check=False,
        )
        assert (refused.returncode, refused.stderr.count(b"\n")) == (2, 1), refused.stderr
        assert CANARY.encode() not in refused.stderr


def test_a_version_is_destroyed_after_a_question(secret: Secret) -> None:
    for _ in range(3):
        done(secret("set", "k", "--keep", "2", stdin=CANARY))
    told = secret("destroy", "k", "2", stdin="n\n")
    assert (told.returncode, "for good?" in told.stderr) == (130, True)
    done(secret("get", "k", "--version", "2"))
    done(secret("destroy", "k", "2", "--yes"))
    for version in ("1", "2"):
        assert "(not_found)" in secret("get", "k", "--version", version).stderr
    assert done(secret("get", "k")) == f"{CANARY}\n"
    done(secret("set", "k", "--expires", "2001-01-01T00:00:00Z", stdin=CANARY))
    assert "(not_found)" in secret("get", "k").stderr


VALUES = {"text": '"Zaunk\u00f6nig \\n"', "number": "12345678901234567890.50", "nested": '{"b":1, "a" : [null]}'}


def test_an_export_opens_for_its_recipients_and_comes_back_to_the_byte(secret: Secret, tmp_path: Path) -> None:
    for key, value in VALUES.items():
        done(secret("set", f"from/{key}", "--json", stdin=value))
    one, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    for name, identity in (("one", one), ("other", other)):
        (tmp_path / name).write_text(f"# a key\n{identity}\n")
    exported = secret("export", "--prefix", "from/", "--recipient", str(one.to_public()))
    assert exported.stderr == "3 secrets were exported.\n"
    (tmp_path / "export.age").write_text(done(exported))
    assert "from/" not in exported.stdout
    refused = secret("import", str(tmp_path / "export.age"), "--identity", str(tmp_path / "other"))
    assert (refused.returncode, "does not open with this identity" in refused.stderr) == (2, True)
    arguments = (str(tmp_path / "export.age"), "--identity", str(tmp_path / "one"), "--prefix", "to/")
    shown = done(secret("import", *arguments, "--dry-run"))
    assert [line.split() for line in shown.splitlines()[1:]] == [[f"to/from/{key}", "new"] for key in sorted(VALUES)]
    assert "(not_found)" in secret("get", "to/from/text").stderr
    assert secret("import", *arguments).stderr == "3 secrets were put.\n"
    for key, value in VALUES.items():
        assert done(secret("get", f"to/from/{key}", "--json")) == f"{value}\n"
    assert "version 2, after 1" in done(secret("import", *arguments, "--dry-run"))
    plain = done(secret("export", "--prefix", "from/", "--plain"))
    assert plain == "{\n" + ",\n".join(f'"from/{key}": {VALUES[key]}' for key in sorted(VALUES)) + "\n}\n"


def test_a_passphrase_is_asked_for_at_the_terminal(
    secret: Secret, url: str, token: str, tmp_path: Path, at_terminal: Callable[..., bytes]
) -> None:
    done(secret("set", "k", stdin=CANARY))
    answers = (b"Passphrase: ", b"correct horse\n"), (b"confirmation: ", b"correct horse\n")
    exported = at_terminal({"BROKERFLOW_TOKEN": token}, answers, "secret", "export", "--url", url)
    begins = exported.index(b"-----BEGIN AGE")
    text = exported[begins : exported.index(b"END AGE ENCRYPTED FILE-----") + 27].replace(b"\r\n", b"\n") + b"\n"
    assert pyrage.passphrase.decrypt(text, "correct horse") == b'{\n"k": "%s"\n}\n' % CANARY.encode()
    shown = at_terminal({"BROKERFLOW_TOKEN": token}, (), "secret", "export", "--plain", "--url", url)
    assert b"--plain goes into a file" in shown
    assert CANARY.encode() not in shown


def test_a_dotenv_file_is_imported(secret: Secret, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"# comment\nexport HOST=db.example\nPASSWORD='{CANARY} # $HOST'\nLINES=\"a\\nb\"\nEMPTY=\n")
    done(secret("import", str(file), "--prefix", "app/"))
    read = {name: done(secret("get", f"app/{name}", "--json")) for name in ("HOST", "PASSWORD", "LINES", "EMPTY")}
    assert read == {
        "HOST": '"db.example"\n',
        "PASSWORD": f'"{CANARY} # $HOST"\n',
        "LINES": '"a\\nb"\n',
        "EMPTY": '""\n',
    }
    for text, told in [
        ("A=1\nno assignment\n", "line 2 of the file is no assignment"),
        ("A=1\nB='open\n", "line 2 of the file is no assignment"),
        ('{"a": tru}', "neither a JSON object"),
        ("[1]", "line 1 of the file is no assignment"),
        ('{"new": 1, "a b": 2}', "'a b' is no key"),
    ]:
        file.write_text(text)
        failed = secret("import", str(file))
        assert (failed.returncode in {1, 2}, told in failed.stderr) == (True, True), failed.stderr
        assert CANARY not in failed.stderr
    assert "(not_found)" in secret("get", "new").stderr, "nothing is put of a file that cannot be put whole"


def test_a_long_import_tells_how_far_it_is(secret: Secret, tmp_path: Path) -> None:
    file = tmp_path / "many.json"
    for number, told in [
        (25, "25 secrets were put.\n"),
        (51, "25 of 51 secrets were put ...\n50 of 51 secrets were put ...\n51 secrets were put.\n"),
    ]:
        file.write_text(json.dumps({f"k{each}": each for each in range(number)}))
        imported = secret("import", str(file))
        assert (imported.returncode, imported.stdout, imported.stderr) == (0, "", told)


def test_a_service_that_is_not_reached_is_told_with_the_reason(url: str) -> None:
    for where, reason in [
        (url.replace("http:", "https:"), "does not answer: ConnectError: [SSL"),
        ("http://nowhere.invalid", "does not answer: ConnectError: [Errno -"),
        (NOWHERE, "Connection refused."),
        (NOWHERE.replace("//", "//nora:pass-word@"), f"brokerflow: {NOWHERE} does not answer: ConnectError: "),
    ]:
        unanswered = run({"BROKERFLOW_TOKEN": "t"}, "secret", "get", "--url", where, "k")
        assert (unanswered.returncode, unanswered.stdout) == (1, "")
        assert reason in unanswered.stderr
        assert "pass-word" not in unanswered.stderr


def test_what_goes_wrong_is_told_in_a_sentence(secret: Secret, token: str) -> None:
    for finished, status, told in [
        (secret("set", "k", "--json", stdin=CANARY), 2, "is not JSON"),
        *((secret("set", key, stdin="1"), 2, f"{key!r} is no key: it takes") for key in ("a b", "", "a/../b", "ключ")),
        (secret("get", "a/versions"), 2, "at its end none of destroy, rollback,"),
        (secret("set", "k", "--expect", "1", stdin="1"), 1, "There is no such secret now. (version_mismatch)"),
        (run({"BROKERFLOW_TOKEN": token}, "secret", "get", "--url", NOWHERE, "k"), 1, "does not answer"),
        (run({}, "secret", "get", "k"), 2, "a token is needed"),
        (secret("set", "k", CANARY, stdin="1"), 2, "unexpected extra argument"),
    ]:
        assert (finished.returncode, finished.stdout) == (status, ""), finished.stderr
        assert told in finished.stderr
        assert "Traceback" not in finished.stderr


def test_a_wrong_master_key_does_not_start(
    secret: Secret, variables: Variables, serve: Callable[[Variables], str]
) -> None:
    done(secret("set", "k", stdin=CANARY))
    for keys in (NEW, ""):  # another, and one that is made for this home
        for command in (["serve", "--port", "0"], ["check"], ["secret", "rotate-master"]):
            refused = run({**variables, "BROKERFLOW_MASTER_KEY": keys}, *command)
            assert refused.returncode in {1, 2}
            told = refused.stdout + refused.stderr
            assert f"lacks the master key {key_id(base64.b64decode(OLD))}, which sealed" in told
            assert "list it behind the one that is to seal" in told
    run({**variables, "BROKERFLOW_MASTER_KEY": f"{NEW} {OLD}"}, "check")  # introduces nothing
    serve({**variables, "BROKERFLOW_MASTER_KEY": OLD})
    serve({**variables, "BROKERFLOW_MASTER_KEY": f"{NEW} {OLD}"})
    assert key_id(base64.b64decode(NEW)) in run({**variables, "BROKERFLOW_MASTER_KEY": OLD}, "check").stdout


def test_a_rotation_that_cannot_be_says_why_in_a_sentence(variables: Variables, database: Database) -> None:
    told = 'the login may not do this (permission denied to set role "brokerflow_vault"): set BROKERFLOW_OWNER_URL to '
    refused = run({**variables, "BROKERFLOW_OWNER_URL": database.app_url}, "secret", "rotate-master")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"brokerflow: {told}the login that owns the database, and run brokerflow migrate up.\n"
    assert run(variables, "migrate", "down", "--all", "--yes").returncode == 0
    refused = run(variables, "secret", "rotate-master")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.endswith(" does not exist): run brokerflow migrate up.\n")
    assert refused.stderr.startswith("brokerflow: BrokerFlow's schema is missing or older (")


def test_a_lost_master_key_is_forgotten_when_told_so(
    secret: Secret, variables: Variables, serve: Callable[[Variables], str], token: str
) -> None:
    done(secret("set", "k", stdin=CANARY))
    lost = run({**variables, "BROKERFLOW_MASTER_KEY": NEW}, "secret", "rotate-master", "--lost")
    assert (lost.returncode, "1 secret versions open with none of the keys" in lost.stderr) == (1, True)
    url = serve({**variables, "BROKERFLOW_MASTER_KEY": NEW})
    read = run({"BROKERFLOW_TOKEN": token}, "secret", "get", "--url", url, "k")
    assert (read.returncode, "secret_integrity" in read.stderr) == (1, True)


def test_the_master_key_rotates_while_the_service_works(
    secret: Secret, token: str, variables: Variables, serve: Callable[[Variables], str], database: Database
) -> None:
    for number in range(3):
        done(secret("set", f"k{number}", stdin=f"{CANARY}{number}"))
    rotated = run({**variables, "BROKERFLOW_MASTER_KEY": f"{NEW} {OLD}"}, "secret", "rotate-master")
    assert rotated.returncode == 0, rotated.stderr
    assert rotated.stdout.startswith("3 secret versions are wrapped anew, by master key ")
    new = serve({**variables, "BROKERFLOW_MASTER_KEY": NEW})
    read = run({"BROKERFLOW_TOKEN": token}, "secret", "get", "--url", new, "k1")
    assert done(read) == f"{CANARY}1\n"
    stale = secret("get", "k1")  # the first service knows the old key only
    assert (stale.returncode, "secret_integrity" in stale.stderr) == (1, True)
    done(secret("set", "k3", stdin="sealed with the old key"))
    lost = run({**variables, "BROKERFLOW_MASTER_KEY": NEW}, "secret", "rotate-master")
    assert (lost.returncode, "1 secret versions open with none of the keys" in lost.stderr) == (1, True)
    with psycopg.connect(database.superuser_url) as connection:
        rows = connection.execute("select detail from shared.audit_log where action = 'secret.rewrap'").fetchall()
    assert rows == [({"versions": 3},)]
