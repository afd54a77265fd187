drop function secretstore.list_readers(text, uuid, timestamptz, uuid, integer);
drop function secretstore.was_readable(secretstore.secrets, timestamptz);
drop function apiauth.programs_with(text, uuid, uuid);
drop function shared.last_told(text, text[], timestamptz);
drop function shared.accesses_until(uuid, text, text, timestamptz);
drop function shared.members_at(uuid, timestamptz);
