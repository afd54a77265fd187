drop function shared.refuse(text, text, text);
drop function shared.iso8601(timestamptz);
drop function shared.made_at(uuid);
drop function shared.uuidv7();
drop function shared.clock();
