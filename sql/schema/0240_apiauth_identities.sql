-- Identities at an OpenID provider, and the login role that opens their sessions.
--
-- PostgreSQL proves passwords, tokens and JWTs itself. The signature of a provider's ID token it cannot verify, so here
-- and nowhere else it takes a word for who asks: that of brokerflow_login, as whom the service does this one thing on
-- connections of their own. What the service does otherwise it does as brokerflow_app, which may not execute the
-- function below: no handler and no injection opens a session for a user without his proof. And brokerflow_login reads
-- no table, has no entrance and no other function, so that what it opened is of use only to the token's bearer.
--
-- Who steals that login logs in as whomever he can name by an address or an identity, judges of disputes included:
-- guard its URL like the master key. He cannot read what there is, take more than that user has, stay longer than a
-- session lasts, or do it unseen: each session and each link has its row in the audit log, which he can neither read
-- nor change. Against him: a new password for the role, and an end to the sessions that the log names.
-- depends: 0230_apiauth_access

set local role brokerflow_guard;

-- The provider's two names for a person, as OpenID Connect Core says: they never change and never pass to another.
-- An address does both.
create table apiauth.identities (
    id uuid primary key default shared.uuidv7(),
    user_id uuid not null references shared.users (id) on delete cascade,
    issuer text not null,
    subject text not null,
    linked_at timestamptz not null default shared.clock(),
    constraint identities_of_one_user unique (issuer, subject),
    constraint identities_one_a_user_an_issuer unique (user_id, issuer),
    constraint identities_issuer_is_a_url check (issuer ~ '^https?://[\x21-\x7e]+$' and length(issuer) <= 1000),
    constraint identities_subject_is_short_ascii check (subject ~ '^[\x20-\x7e]{1,255}$')
);

comment on table apiauth.identities is 'Who a user is at a provider. A user who has one has shown that his address is his.';
comment on constraint identities_of_one_user on apiauth.identities is
    'Axiom A9: who asks is proved. An identity is one user''s for good, whoever has his address by now.';
comment on constraint identities_one_a_user_an_issuer on apiauth.identities is
    'Axiom A9: who asks is proved. A provider that gave an address to another person has thereby not given him its former bearer''s account.';

alter table apiauth.identities enable row level security;

-- Anybody may register any address with a password, and wait for its owner: accounts that are opened in advance are
-- how accounts at a provider are hijacked. So before the owner moves in, whatever may be another's goes: the password,
-- the sessions, the device codes (0250) that they approved, the tokens. In this order, since who is just using one to
-- beget the next holds its row, and what he begot is seen by the statement after; and again, as long as there is any,
-- where they beget their like.
create function apiauth.disown(user_id uuid) returns void
language plpgsql volatile
set search_path = ''
as $$
begin
    delete from apiauth.passwords as p where p.user_id = disown.user_id;
    perform apiauth.end_sessions(disown.user_id, shared.clock());
    delete from apiauth.device_codes as c where c.user_id = disown.user_id and c.token_id is null;
    loop
        update apiauth.personal_tokens as t set revoked_at = shared.clock() where t.user_id = disown.user_id and t.revoked_at is null;
        exit when not exists (select from apiauth.personal_tokens as t where t.user_id = disown.user_id and t.revoked_at is null);
    end loop;
end;
$$;

comment on function apiauth.disown(uuid) is 'Ends whatever opens a user''s account. Granted to nobody: it is for an account whose address turned out to be another''s.';

-- What the password's holder did in the meantime stays: organizations that he founded, with the members whom he gave
-- them. Their owner sees them, and the audit log tells whose work they are.
--
-- Nobody is disowned who holds both ends: the browser that comes from the provider is logged in to the very account.
-- Nor is an account that has an identity already, since whoever linked that one has shown the address to be his.
--
-- Addresses are the same here when they differ in the case of ASCII letters only. The unique index sees more of them
-- as one, so that nobody registers a look-alike; to open an account, a look-alike is not enough.
create function apiauth.link_identity(
    issuer text, subject text, verified_email text, full_name text, held bytea, held_ticket text default null, half bytea default null
) returns apiauth.identities
language plpgsql volatile
set search_path = ''
as $$
declare
    v_user_id uuid;
    v_is_new boolean;
    v_is_disowned boolean := false;
    v_identity apiauth.identities;
begin
    if link_identity.verified_email is null then
        perform shared.refuse(
            'credential_authenticates', 'the provider has not verified an email address of yours', 'invalid_authorization_specification'
        );
    end if;
    begin
        insert into shared.users as u (email, full_name)
        values (link_identity.verified_email, link_identity.full_name)
        on conflict do nothing
        returning u.id into v_user_id;
        v_is_new := found;
    exception
        when check_violation then
            perform shared.refuse(
                'users_email_is_an_address', 'the provider names no email address and name that can be registered',
                'invalid_authorization_specification'
            );
    end;
    if not v_is_new then
        select u.id into v_user_id
        from shared.users as u
        where shared.address_key(u.email) = shared.address_key(link_identity.verified_email)
            and lower(u.email collate "C") = lower(link_identity.verified_email collate "C");
        if not found then
            perform shared.refuse(
                'users_email_in_any_case', 'your email address looks like another that is registered', 'invalid_authorization_specification'
            );
        end if;
    end if;
    -- Of two logins that link at once the second waits here, and finds the identity that the first one made.
    insert into apiauth.identities as i (user_id, issuer, subject)
    values (v_user_id, link_identity.issuer, link_identity.subject)
    on conflict do nothing
    returning i.* into v_identity;
    if not found then
        select * into v_identity
        from apiauth.identities as i
        where i.issuer = link_identity.issuer and i.subject = link_identity.subject;
        if not found then
            perform shared.refuse(
                'identities_one_a_user_an_issuer', 'your email address is that of another identity at the provider',
                'invalid_authorization_specification'
            );
        end if;
        return v_identity;
    end if;
    if not v_is_new
        and not exists (select from apiauth.identities as i where i.user_id = v_user_id and i.id <> v_identity.id)
        and not exists (
            select from apiauth.sessions as s
            where s.digest = sha256(link_identity.held) and s.user_id = v_user_id and s.revoked_at is null
                and s.expires_at > shared.clock() and s.last_seen_at + s.idle > shared.clock()
        )
        and not exists (
            select from apiauth.read_ticket(link_identity.held_ticket, link_identity.half) as t
            where t.digest = sha256(link_identity.held) and t.user_id = v_user_id and apiauth.is_live(t)
        )
    then
        v_is_disowned := true;
        perform apiauth.disown(v_user_id);
    end if;
    perform shared.write_audit(
        'identity.link', 'user/' || v_user_id,
        detail => jsonb_build_object(
            'identity_id', v_identity.id, 'issuer', v_identity.issuer, 'is_new_user', v_is_new, 'is_disowned', v_is_disowned
        )
    );
    return v_identity;
end;
$$;

comment on function apiauth.link_identity(text, text, text, text, bytea, text, bytea) is
    'Gives an identity to the user of its verified address, whom it makes if need be. Granted to nobody: open_identity_session calls it.';

-- Crosses from brokerflow_login to the guard's tables. An identity that is linked needs no address any more.
create function apiauth.open_identity_session(
    issuer text, subject text, verified_email text, full_name text, held bytea, digest bytea, idle interval, lifetime interval,
    held_ticket text default null, half bytea default null
) returns timestamptz
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_identity apiauth.identities;
begin
    select * into v_identity
    from apiauth.identities as i
    where i.issuer = open_identity_session.issuer and i.subject = open_identity_session.subject;
    if not found then
        v_identity := apiauth.link_identity(
            open_identity_session.issuer, open_identity_session.subject, open_identity_session.verified_email,
            open_identity_session.full_name, open_identity_session.held, open_identity_session.held_ticket, open_identity_session.half
        );
    end if;
    return (apiauth.begin_session(
        v_identity.user_id, open_identity_session.digest, open_identity_session.idle, open_identity_session.lifetime,
        jsonb_build_object('identity_id', v_identity.id)
    )).expires_at;
end;
$$;

comment on function apiauth.open_identity_session(text, text, text, text, bytea, bytea, interval, interval, text, bytea) is
    'Axiom A9: who asks is proved to the database, not told to it. Its one exception: what a provider has signed, on the word of the role that verifies that and may do nothing else.';

revoke execute on function apiauth.open_identity_session(text, text, text, text, bytea, bytea, interval, interval, text, bytea) from public;
grant execute on function apiauth.open_identity_session(text, text, text, text, bytea, bytea, interval, interval, text, bytea) to brokerflow_login;

-- To call that function. Nothing else of the schema is granted to it, and no other schema.
set local role brokerflow_owner;
grant usage on schema apiauth to brokerflow_login;
