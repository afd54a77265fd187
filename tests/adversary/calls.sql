do $$
declare
    v_call text;
    v_rows text[];
    v_state text;
    v_told text;
    v_answers jsonb[] := '{}';
begin
    for v_call in select jsonb_array_elements_text(current_setting('adversary.calls')::jsonb) loop
        begin
            execute v_call into v_rows;
            set constraints all immediate;
            v_state := null;
            v_told := v_rows::text;
            if not current_setting('adversary.keep')::boolean then
                raise exception using errcode = 'AD000';
            end if;
        exception
            when sqlstate 'AD000' then null;
            when others then
                get stacked diagnostics v_state = returned_sqlstate, v_told = message_text;
        end;
        v_answers := v_answers || jsonb_build_object('state', v_state, 'told', v_told);
    end loop;
    perform set_config('adversary.told', to_jsonb(v_answers)::text, true);
end;
$$;
