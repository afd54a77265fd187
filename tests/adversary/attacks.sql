do $$
declare
    v_attack text;
    v_let_through text[] := '{}';
begin
    for v_attack in select jsonb_array_elements_text(current_setting('adversary.calls')::jsonb) loop
        begin
            execute v_attack;
            raise exception using errcode = 'AD000';
        exception
            when insufficient_privilege then null;
            when others then v_let_through := v_let_through || format('%s: %s', v_attack, sqlstate);
        end;
    end loop;
    perform set_config('adversary.told', to_jsonb(v_let_through)::text, true);
end;
$$;
