-- What holds across rows and over time in the secret store: versions without gap, written once; grants used once.
-- depends: 0300_secretstore_tables

set local role brokerflow_vault;

-- The secret's row is the lock: writers of one key queue, writers of others do not. A counter that a sequence kept
-- would have gaps, and a constraint does not count. A value is sealed to the moment at which its number was reserved, so
-- the row keeps that moment, and in which transaction that was: any other is another version's.
create function secretstore.secret_versions_number() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
begin
    update secretstore.secrets as s set version = s.version + 1, expires_at = new.expires_at
    where s.id = new.secret_id and s.version + 1 = new.version and s.reserved_in = pg_current_xact_id()
    returning s.updated_at into new.created_at;
    if not found then
        perform shared.refuse('secret_versions_number', 'a new version has the number after the latest, reserved in its transaction');
    end if;
    new.credential_kind := v_actor.kind;
    new.credential_id := v_actor.credential_id;
    new.created_by := v_actor.user_id;
    new.destroyed_at := null;
    return new;
end;
$$;

create trigger secret_versions_number
before insert on secretstore.secret_versions
for each row execute function secretstore.secret_versions_number();

comment on trigger secret_versions_number on secretstore.secret_versions is
    'Axiom A11: versions are immutable. They are numbered 1..n without a gap under the lock of their secret, and say which proved actor put them.';

-- Compares the row with what it was. Two changes are lawful: the key goes for good, or is wrapped by another master key.
create function secretstore.secret_versions_immutable() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if (old.secret_id, old.version, old.ciphertext, old.restores, old.expires_at, old.credential_kind, old.credential_id, old.created_by, old.created_at)
            is distinct from
            (new.secret_id, new.version, new.ciphertext, new.restores, new.expires_at, new.credential_kind, new.credential_id, new.created_by, new.created_at)
        or old.wrapped_key is null
        or new.wrapped_key is not null and (new.wrapped_key <> old.wrapped_key) <> (new.master_key_id <> old.master_key_id)
        or new.wrapped_key is null and new.master_key_id <> old.master_key_id
    then
        perform shared.refuse('secret_versions_immutable', 'a version never changes; its key is destroyed for good, or wrapped by another master key');
    end if;
    return new;
end;
$$;

create trigger secret_versions_immutable
before update on secretstore.secret_versions
for each row execute function secretstore.secret_versions_immutable();

create trigger secret_versions_never_deleted
before delete on secretstore.secret_versions
for each row execute function shared.refuse_change();

create trigger secret_versions_never_emptied
before truncate on secretstore.secret_versions
for each statement execute function shared.refuse_change();

comment on trigger secret_versions_immutable on secretstore.secret_versions is
    'Axiom A11: versions are immutable. Also to the vault, which owns them; what was destroyed stays destroyed.';
comment on trigger secret_versions_never_deleted on secretstore.secret_versions is
    'Axiom A11: versions are immutable. A version is destroyed by its key, its row stays.';
comment on trigger secret_versions_never_emptied on secretstore.secret_versions is
    'Axiom A11: versions are immutable. TRUNCATE fires no row trigger, so it has its own.';

-- Compares the row with what it was.
create function secretstore.secrets_stay_where_sealed() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if (old.id, old.organization_id, old.environment_id, old.key, old.created_at)
            is distinct from (new.id, new.organization_id, new.environment_id, new.key, new.created_at)
        or new.version not in (old.version, old.version + 1)
    then
        perform shared.refuse('secrets_stay_where_sealed', 'a secret keeps its scope and key, and its versions are counted by one');
    end if;
    return new;
end;
$$;

create trigger secrets_stay_where_sealed
before update on secretstore.secrets
for each row execute function secretstore.secrets_stay_where_sealed();

create trigger secrets_never_deleted
before delete on secretstore.secrets
for each row execute function shared.refuse_change();

create trigger secrets_never_emptied
before truncate on secretstore.secrets
for each statement execute function shared.refuse_change();

comment on trigger secrets_stay_where_sealed on secretstore.secrets is
    'Axiom A11: a secret''s value is sealed to its scope, key and version. None of them changes under a value.';
comment on trigger secrets_never_deleted on secretstore.secrets is
    'Axiom A11: versions are immutable. A key is deleted by a mark that can be taken back; its row stays.';
comment on trigger secrets_never_emptied on secretstore.secrets is
    'Axiom A11: versions are immutable. TRUNCATE fires no row trigger, so it has its own.';

-- Deferred, because a secret comes before its first version: a constraint does not look into another table. By the
-- commit the command has ended, and with it the vault's rights.
create function secretstore.secrets_begin_with_a_version() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    if not exists (select from secretstore.secret_versions as v where v.secret_id = new.id) then
        perform shared.refuse('secrets_begin_with_a_version', 'a secret is made with its first version');
    end if;
    return null;
end;
$$;

-- Spared by scripts/mutate: function secretstore.secrets_begin_with_a_version(): as its caller. From PostgreSQL 18 on a deferred trigger runs as who caused it, here the vault; before, as who commits.
comment on function secretstore.secrets_begin_with_a_version() is 'Crosses into the vault, to see the version.';
revoke execute on function secretstore.secrets_begin_with_a_version() from public;

create constraint trigger secrets_begin_with_a_version
after insert on secretstore.secrets
deferrable initially deferred
for each row execute function secretstore.secrets_begin_with_a_version();

comment on trigger secrets_begin_with_a_version on secretstore.secrets is
    'Axiom A11: versions are immutable, 1..n. There is no key without a value.';

-- Compares the row with this transaction.
create function secretstore.read_grants_committed_first() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if old.granted_in = pg_current_xact_id() then
        perform shared.refuse('read_grants_committed_first', 'a grant is used only after it was committed');
    end if;
    return old;
end;
$$;

create trigger read_grants_committed_first
before delete on secretstore.read_grants
for each row execute function secretstore.read_grants_committed_first();

create trigger read_grants_written_once
before update on secretstore.read_grants
for each row execute function shared.refuse_change();

comment on trigger read_grants_committed_first on secretstore.read_grants is
    'Axiom A11: reads are audited. A value is handed out once the audit row of its read is committed, so no rollback takes the trace of what was seen.';
comment on trigger read_grants_written_once on secretstore.read_grants is
    'Axiom A11: reads are audited. A grant opens the versions that its audit rows name, and no others.';
