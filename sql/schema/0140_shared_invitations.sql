-- Invitations: an admin invites an address, and whoever is logged in with it accepts or declines.
--
-- No token proves the address, since the login has: neither the message that leaves nor a dump holds what would let
-- anybody in.
-- depends: 0130_shared_access

set local role brokerflow_owner;

create type shared.invitation_state as enum ('open', 'accepted', 'declined', 'revoked');

create table shared.invitations (
    id uuid primary key default shared.uuidv7(),
    organization_id uuid not null references shared.organizations (id) on delete cascade,
    email text not null,
    address text not null generated always as (shared.address_key(email)) stored,
    role shared.member_role not null,
    state shared.invitation_state not null default 'open',
    invited_by uuid default shared.current_user_id() references shared.users (id) on delete set null,
    created_at timestamptz not null default shared.clock(),
    expires_at timestamptz not null default shared.clock() + interval '7 days',
    settled_at timestamptz,
    constraint invitations_email_is_an_address check (email ~ '^[^@\s]+@[^@\s]+\.[^@\s]+$' and length(email) <= 254),
    constraint invitations_expires_within_30_days check (expires_at > created_at and expires_at <= created_at + interval '30 days'),
    constraint invitations_settled_unless_open check ((state = 'open') = (settled_at is null))
);

create unique index invitations_email_once_open on shared.invitations (organization_id, address) where state = 'open';

-- Serve the foreign keys, the list of an organization, newest first, and the list of an invited user.
create index invitations_organization_id_idx on shared.invitations (organization_id, id);
create index invitations_invited_by_idx on shared.invitations (invited_by) where invited_by is not null;
create index invitations_address_idx on shared.invitations (address, id) where state = 'open';

comment on table shared.invitations is 'Who was asked to join an organization, as what, and what came of it.';

create function shared.current_address() returns text
language sql stable parallel restricted
as $$ select shared.address_key(u.email) from shared.users as u where u.id = shared.current_user_id() $$;

comment on function shared.current_address() is 'The email address of the proved user as one key, or null.';
grant execute on function shared.current_address() to brokerflow_app;

-- Looks at other tables. Before the insertion, so that the refusal is this one whoever else refuses; the address has
-- not been computed yet.
create function shared.invitations_to_outsiders() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_user_id uuid;
begin
    select m.user_id into v_user_id
    from shared.memberships as m
    join shared.users as u on u.id = m.user_id
    where m.organization_id = new.organization_id and shared.address_key(u.email) = shared.address_key(new.email);
    if found then
        perform shared.refuse(
            'invitations_to_outsiders',
            case when v_user_id = shared.current_user_id() then 'nobody invites himself' else 'who is invited is a member already' end
        );
    end if;
    return new;
end;
$$;

create trigger invitations_to_outsiders
before insert on shared.invitations
for each row execute function shared.invitations_to_outsiders();

comment on trigger invitations_to_outsiders on shared.invitations is 'Members are not invited, whoever invites himself among them. A trigger, since it looks at other tables.';

-- Compares the row with what it was, and with the clock.
create function shared.invitations_settled_once() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if old.state <> 'open' then
        perform shared.refuse('invitations_settled_once', format('the invitation was %s already', old.state));
    end if;
    if new.state in ('accepted', 'declined') and old.expires_at <= shared.clock() then
        perform shared.refuse('invitations_settled_once', 'the invitation has expired');
    end if;
    new.settled_at := shared.clock();
    return new;
end;
$$;

create trigger invitations_settled_once
before update of state on shared.invitations
for each row execute function shared.invitations_settled_once();

comment on trigger invitations_settled_once on shared.invitations is
    'Axiom A3: no caller sets a recorded time. An invitation is answered or revoked now, once, and answered before it expires.';

-- Crosses the membership policy for who was invited: he is not yet one who may add members.
create function shared.invitations_admit() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    if new.address is distinct from shared.current_address() then
        perform shared.refuse('invitations_admit', 'an invitation is accepted by whoever is logged in with its address', 'insufficient_privilege');
    end if;
    insert into shared.memberships (organization_id, user_id, role, accepted_at)
    values (new.organization_id, shared.current_user_id(), new.role, shared.clock())
    on conflict on constraint memberships_pkey do nothing;
    if not found then
        perform shared.refuse('invitations_admit', 'who was invited has become a member otherwise', 'unique_violation');
    end if;
    return null;
end;
$$;

comment on function shared.invitations_admit() is 'Crosses the membership policy once, for who was invited.';
revoke execute on function shared.invitations_admit() from public;

create trigger invitations_admit
after update of state on shared.invitations
for each row when (new.state = 'accepted')
execute function shared.invitations_admit();

comment on trigger invitations_admit on shared.invitations is
    'Axiom A9: who asks is proved. Who accepts becomes a member in the role that was offered, and is the proved user of the address, nobody else.';

-- Crosses into the outbox. The message holds no link with a token: who reads it still has to log in.
create function shared.invitations_leave() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    insert into shared.outbox (topic, event_id, payload)
    select 'organization.invitation', new.id, jsonb_build_object(
        'invitation_id', new.id, 'email', new.email, 'role', new.role, 'organization_id', o.id, 'organization', o.slug,
        'title', o.title, 'expires_at', shared.iso8601(new.expires_at),
        'invited_by', (select u.full_name from shared.users as u where u.id = new.invited_by)
    )
    from shared.organizations as o
    where o.id = new.organization_id;
    return null;
end;
$$;

comment on function shared.invitations_leave() is 'Crosses into the outbox.';
revoke execute on function shared.invitations_leave() from public;

create trigger invitations_leave
after insert on shared.invitations
for each row execute function shared.invitations_leave();

comment on trigger invitations_leave on shared.invitations is
    'Axiom A5: an effect leaves only through the outbox, in the transaction that caused it. Every invitation is one message, whatever path wrote it.';

create function shared.invitations_write_audit() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    perform shared.write_audit(
        'invitation.' || new.state, 'organization/' || new.organization_id,
        detail => jsonb_build_object('invitation_id', new.id, 'role', new.role)
    );
    return null;
end;
$$;

comment on function shared.invitations_write_audit() is 'Crosses into the audit log.';
revoke execute on function shared.invitations_write_audit() from public;

create trigger invitations_write_audit
after insert or update of state on shared.invitations
for each row execute function shared.invitations_write_audit();

comment on trigger invitations_write_audit on shared.invitations is
    'Axiom A9: who asks is proved. Who invited, accepted, declined and revoked is in the audit log.';

-- One that expired makes room for another. The clock is read before created_at is, so that a lifetime of nothing is
-- refused, and one of thirty days is not, whatever passes between the two.
create function shared.create_invitation(organization_id uuid, email text, role shared.member_role, lifetime interval)
returns shared.invitations
language plpgsql volatile
set search_path = ''
as $$
declare
    v_invitation shared.invitations;
    v_now timestamptz := shared.clock();
begin
    if not shared.can_administer(create_invitation.organization_id, greatest(create_invitation.role, 'admin')) then
        perform shared.refuse('not_found', 'there is no such organization, or it is not yours', 'no_data_found');
    end if;
    update shared.invitations as i set state = 'revoked'
    where i.organization_id = create_invitation.organization_id and i.address = shared.address_key(create_invitation.email)
        and i.state = 'open' and i.expires_at <= v_now;
    insert into shared.invitations as i (organization_id, email, role, expires_at)
    values (
        create_invitation.organization_id, create_invitation.email, create_invitation.role,
        v_now + create_invitation.lifetime
    )
    returning i.* into v_invitation;
    return v_invitation;
end;
$$;

comment on function shared.create_invitation(uuid, text, shared.member_role, interval) is
    'Invites an address to an organization that the actor administers; an owner is invited by an owner.';
grant execute on function shared.create_invitation(uuid, text, shared.member_role, interval) to brokerflow_app;

create type shared.received_invitation as (
    id uuid, organization_id uuid, organization text, title text, role shared.member_role, created_at timestamptz, expires_at timestamptz
);

-- Crosses the organizations' policy: who is invited sees who invites him, before he is a member.
create function shared.received_invitations() returns setof shared.received_invitation
language sql stable security definer
set search_path = ''
as $$
    select i.id, i.organization_id, o.slug, o.title, i.role, i.created_at, i.expires_at
    from shared.invitations as i
    join shared.organizations as o on o.id = i.organization_id
    where i.address = (select shared.current_address()) and i.state = 'open' and i.expires_at > shared.clock()
$$;

comment on function shared.received_invitations() is 'Crosses the organizations'' policy: the invitations that the proved user may accept, each with the name of the organization.';
revoke execute on function shared.received_invitations() from public;
grant execute on function shared.received_invitations() to brokerflow_app;

alter table shared.invitations enable row level security;

-- Its admins revoke an invitation, its invitee answers it; neither does the other's part. Who invited and when is not
-- granted, an answer is one column. Delete is not granted: invitations are settled.
create policy select_admin on shared.invitations for select to brokerflow_app
using (shared.member_role_in(organization_id) >= 'admin' and shared.can_use('organizations:write'));
-- Waived policies_side_by_side: shared.invitations for r to brokerflow_app. Who invites and who is invited are two.
create policy select_invitee on shared.invitations for select to brokerflow_app
using (address = (select shared.current_address()));
create policy insert_admin on shared.invitations for insert to brokerflow_app
with check (shared.can_administer(organization_id, greatest(role, 'admin')));
create policy update_admin on shared.invitations for update to brokerflow_app
using (shared.member_role_in(organization_id) >= 'admin')
with check (state = 'revoked' and shared.can_administer(organization_id));
-- Waived policies_side_by_side: shared.invitations for w to brokerflow_app. Who revokes and who answers are two.
create policy update_invitee on shared.invitations for update to brokerflow_app
using (address = (select shared.current_address()))
with check (
    state in ('accepted', 'declined') and address = (select shared.current_address()) and shared.can_use('organizations:write')
);
grant select, insert (organization_id, email, role, expires_at), update (state) on shared.invitations to brokerflow_app;

create policy select_auditor on shared.invitations for select to brokerflow_auditor using (true);
grant select on shared.invitations to brokerflow_auditor;
