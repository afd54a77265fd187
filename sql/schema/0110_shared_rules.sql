-- What holds across rows in shared: records are written once, organizations keep an owner, messages are announced.
-- depends: 0100_shared_tables

set local role brokerflow_owner;

-- Serves every write-once table: a trigger's own name is the proposition it keeps. Privileges would not bind the
-- owner, a trigger does.
create function shared.refuse_change() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform shared.refuse(tg_name, format('%s.%s is written once: %s is refused', tg_table_schema, tg_table_name, lower(tg_op)));
    return null;
end;
$$;

comment on function shared.refuse_change() is 'Refuses UPDATE, DELETE and TRUNCATE on a table that is written once.';
grant execute on function shared.refuse_change() to brokerflow_guard, brokerflow_vault;

-- Serves every table that is closed to who acts as another; again the trigger's name is the proposition.
create function shared.refuse_impersonator() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if (shared.current_actor()).impersonator_id is not null then
        perform shared.refuse(tg_name, 'this is closed to who acts as another', 'insufficient_privilege');
    end if;
    return new;
end;
$$;

comment on function shared.refuse_impersonator() is 'Refuses to write for a platform admin who acts as a user.';
grant execute on function shared.refuse_impersonator() to brokerflow_guard, brokerflow_vault;

create trigger audit_log_written_once
before update or delete on shared.audit_log
for each row execute function shared.refuse_change();

create trigger audit_log_never_emptied
before truncate on shared.audit_log
for each statement execute function shared.refuse_change();

comment on trigger audit_log_written_once on shared.audit_log is
    'Axiom A7: every read of a contact has a committed audit row. Audit rows are not changed and not removed, also not by the owner.';
comment on trigger audit_log_never_emptied on shared.audit_log is
    'Axiom A7: every read of a contact has a committed audit row. TRUNCATE fires no row trigger, so it has its own.';

-- An archived month arrives as a partition, with all of its rows: none is inserted.
create trigger archived_audit_log_kept
before insert or update or delete on archive.audit_log
for each row execute function shared.refuse_change();

create trigger archived_audit_log_never_emptied
before truncate on archive.audit_log
for each statement execute function shared.refuse_change();

create trigger archived_outbox_kept
before insert or update or delete on archive.outbox
for each row execute function shared.refuse_change();

create trigger archived_outbox_never_emptied
before truncate on archive.outbox
for each statement execute function shared.refuse_change();

comment on trigger archived_audit_log_kept on archive.audit_log is
    'Axiom A7: every read of a contact has a committed audit row. What is archived is neither added to nor changed nor removed, also not by the owner.';
comment on trigger archived_audit_log_never_emptied on archive.audit_log is
    'Axiom A7: every read of a contact has a committed audit row. TRUNCATE fires no row trigger, so the archive has its own.';
comment on trigger archived_outbox_kept on archive.outbox is
    'Axiom A5: an effect leaves only through the outbox. What is archived is neither added to nor changed nor removed, also not by the owner.';
comment on trigger archived_outbox_never_emptied on archive.outbox is
    'Axiom A5: an effect leaves only through the outbox. TRUNCATE fires no row trigger, so the archive has its own.';

-- The audit log's only writer. Crosses into a table that its callers may not write; the actor comes from the seal.
create function shared.write_audit(
    action text, subject text, outcome text default 'done', reason text default null, detail jsonb default '{}', request_id text default null
) returns void
language sql volatile security definer
set search_path = ''
as $$
    insert into shared.audit_log (
        credential_kind, credential_id, user_id, organization_id, environment_id, branch_id, impersonator_id,
        action, subject, outcome, reason, detail, request_id
    )
    select a.kind, a.credential_id, a.user_id, a.organization_id, a.environment_id, a.branch_id, a.impersonator_id,
        write_audit.action, write_audit.subject, write_audit.outcome, write_audit.reason, write_audit.detail, write_audit.request_id
    from shared.current_actor() as a
$$;

comment on function shared.write_audit(text, text, text, text, jsonb, text) is 'Writes one row of the audit log with the proved actor. Granted to the guard and the vault, for their triggers and commands.';

revoke execute on function shared.write_audit(text, text, text, text, jsonb, text) from public;
grant execute on function shared.write_audit(text, text, text, text, jsonb, text) to brokerflow_guard, brokerflow_vault;

-- The same for many subjects at once, by an actor whom the vault has just proved. A subject that has a reason was denied.
-- In plpgsql, which keeps its plan: before PostgreSQL 18 a function in SQL is planned at each call.
create function shared.write_audits(
    actor shared.actor, action text, subjects text[], reasons text[], details jsonb[], request_ids text[]
) returns void
language plpgsql volatile security definer
set search_path = '' set plan_cache_mode = force_generic_plan
as $$
begin
    insert into shared.audit_log (
        credential_kind, credential_id, user_id, organization_id, environment_id, branch_id, impersonator_id,
        action, subject, outcome, reason, detail, request_id
    )
    select (write_audits.actor).kind, (write_audits.actor).credential_id, (write_audits.actor).user_id,
        (write_audits.actor).organization_id, (write_audits.actor).environment_id, (write_audits.actor).branch_id, (write_audits.actor).impersonator_id,
        write_audits.action, w.subject, case when w.reason is null then 'done' else 'denied' end, w.reason, w.detail, w.request_id
    from unnest(write_audits.subjects, write_audits.reasons, write_audits.details, write_audits.request_ids) as w (subject, reason, detail, request_id);
end;
$$;

comment on function shared.write_audits(shared.actor, text, text[], text[], jsonb[], text[]) is
    'Crosses into the audit log: one row a subject. Granted to the vault alone, which names the actor that it proved, for reads of many secrets.';

revoke execute on function shared.write_audits(shared.actor, text, text[], text[], jsonb[], text[]) from public;
grant execute on function shared.write_audits(shared.actor, text, text[], text[], jsonb[], text[]) to brokerflow_vault;

-- A foreign key cannot require a child, and the founder could not insert himself: the policy asks for an admin.
create function shared.organizations_founder_is_owner() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    insert into shared.memberships (organization_id, user_id, role, accepted_at)
    values (new.id, shared.current_user_id(), 'owner', shared.clock());
    return null;
end;
$$;

comment on function shared.organizations_founder_is_owner() is 'Crosses the membership policy once, for the founder.';
revoke execute on function shared.organizations_founder_is_owner() from public;

create trigger organizations_founder_is_owner
after insert on shared.organizations
for each row execute function shared.organizations_founder_is_owner();

comment on trigger organizations_founder_is_owner on shared.organizations is
    'Axiom A9: who asks is proved. The owner of a new organization is the proved actor, nobody he names.';

-- An invariant over the rows of one organization, which no constraint can count. The organization's row is written
-- first: two owners who leave at once would otherwise each see the other. A mere lock would not do, since a snapshot
-- that is older (REPEATABLE READ) may take it afterwards, and sees the other still; writing, it fails.
create function shared.memberships_keep_an_owner() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    update shared.organizations as o set title = o.title where o.id = old.organization_id;
    if found and not exists (
        select from shared.memberships as m where m.organization_id = old.organization_id and m.role = 'owner'
    ) then
        perform shared.refuse('memberships_keep_an_owner', 'an organization keeps at least one owner');
    end if;
    return null;
end;
$$;

comment on function shared.memberships_keep_an_owner() is 'Crosses row security to see all owners.';
revoke execute on function shared.memberships_keep_an_owner() from public;

create trigger memberships_keep_an_owner
after update of role or delete on shared.memberships
for each row when (old.role = 'owner')
execute function shared.memberships_keep_an_owner();

comment on trigger memberships_keep_an_owner on shared.memberships is 'The last owner cannot leave or step down. A trigger, since it counts rows.';

-- Compares the row with the actor; a policy would hide the row and answer "not found" instead of refusing.
create function shared.memberships_role_from_another() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if new.user_id = shared.current_user_id() then
        perform shared.refuse('memberships_role_from_another', 'nobody gives himself a role', 'insufficient_privilege');
    end if;
    return new;
end;
$$;

create trigger memberships_role_from_another
before update of role on shared.memberships
for each row execute function shared.memberships_role_from_another();

comment on trigger memberships_role_from_another on shared.memberships is 'Axiom A9: nobody gives himself a role. A role comes from another member who may give it.';

create function shared.memberships_write_audit() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_row shared.memberships := coalesce(new, old);
begin
    perform shared.write_audit(
        'membership.' || lower(tg_op), 'organization/' || v_row.organization_id,
        detail => jsonb_build_object('user_id', v_row.user_id, 'from', old.role, 'to', new.role)
    );
    return null;
end;
$$;

comment on function shared.memberships_write_audit() is 'Crosses into the audit log.';
revoke execute on function shared.memberships_write_audit() from public;

create trigger memberships_write_audit
after insert or update or delete on shared.memberships
for each row execute function shared.memberships_write_audit();

comment on trigger memberships_write_audit on shared.memberships is 'Axiom A9: who asks is proved. Each change of a role is in the audit log with the one who made it.';

-- Compares the row with what it was, and with the clock.
create function shared.preview_branches_archived_once() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if old.archived_at is not null then
        perform shared.refuse('preview_branches_archived_once', 'an archived branch stays archived');
    end if;
    new.archived_at := shared.clock();
    return new;
end;
$$;

create trigger preview_branches_archived_once
before update of archived_at on shared.preview_branches
for each row execute function shared.preview_branches_archived_once();

comment on trigger preview_branches_archived_once on shared.preview_branches is
    'Axiom A3: no caller sets a recorded time. A branch is archived now, whatever time he names, and for good.';

-- The payload may have any size; a notification of more than 8000 bytes would abort the business transaction.
--
-- A notification is a hint, for listeners who look by themselves as well. PostgreSQL lets one transaction at a time
-- commit with one, until it is on disk, and thus all others wait: so who comes to commit while another with a hint is
-- just doing so leaves his out, since the other's wakes the listeners as well. Deferred, so that the lock is that short.
create function shared.outbox_announce() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if pg_try_advisory_xact_lock('shared.outbox'::regclass::oid::integer, 0) then
        perform pg_notify('outbox', new.event_id::text);
    end if;
    return null;
end;
$$;

create constraint trigger outbox_announce
after insert on shared.outbox
deferrable initially deferred
for each row execute function shared.outbox_announce();

comment on trigger outbox_announce on shared.outbox is 'Axiom A5: an effect leaves only through the outbox. Listeners are told the event''s id, and nothing else; of messages that commit at once, of one at least.';
