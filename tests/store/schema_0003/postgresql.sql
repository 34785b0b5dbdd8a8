SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.answers (
    task_row bigint NOT NULL,
    output text NOT NULL
);
CREATE TABLE public.attempts (
    task_row bigint NOT NULL,
    seq integer NOT NULL,
    number integer NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    agent text NOT NULL,
    outcome text NOT NULL,
    started_at double precision NOT NULL,
    latency_s double precision NOT NULL,
    choice text NOT NULL,
    reasons text NOT NULL,
    forced smallint NOT NULL,
    error_kind text NOT NULL,
    error text NOT NULL,
    status integer,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cost_nanos bigint,
    max_tokens bigint NOT NULL
);
CREATE TABLE public.batch_calls (
    batch_id bigint NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    calls bigint NOT NULL,
    ok bigint NOT NULL,
    failed bigint NOT NULL,
    neutral bigint NOT NULL,
    cancelled bigint NOT NULL,
    uncertain bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cost_nanos bigint NOT NULL,
    uncertain_nanos bigint NOT NULL,
    unknown_cost_calls bigint NOT NULL,
    latency_us bigint NOT NULL,
    bin_00 bigint NOT NULL,
    bin_01 bigint NOT NULL,
    bin_02 bigint NOT NULL,
    bin_03 bigint NOT NULL,
    bin_04 bigint NOT NULL,
    bin_05 bigint NOT NULL,
    bin_06 bigint NOT NULL,
    bin_07 bigint NOT NULL,
    bin_08 bigint NOT NULL,
    bin_09 bigint NOT NULL,
    bin_10 bigint NOT NULL,
    bin_11 bigint NOT NULL,
    bin_12 bigint NOT NULL,
    bin_13 bigint NOT NULL,
    bin_14 bigint NOT NULL,
    bin_15 bigint NOT NULL,
    bin_16 bigint NOT NULL,
    bin_17 bigint NOT NULL,
    bin_18 bigint NOT NULL,
    bin_19 bigint NOT NULL,
    bin_20 bigint NOT NULL,
    bin_21 bigint NOT NULL,
    bin_22 bigint NOT NULL,
    bin_23 bigint NOT NULL,
    bin_24 bigint NOT NULL,
    bin_25 bigint NOT NULL,
    bin_26 bigint NOT NULL,
    bin_27 bigint NOT NULL,
    bin_28 bigint NOT NULL,
    bin_29 bigint NOT NULL,
    bin_30 bigint NOT NULL,
    bin_31 bigint NOT NULL,
    bin_32 bigint NOT NULL,
    bin_33 bigint NOT NULL,
    bin_34 bigint NOT NULL,
    bin_35 bigint NOT NULL,
    bin_36 bigint NOT NULL,
    bin_37 bigint NOT NULL,
    bin_38 bigint NOT NULL,
    bin_39 bigint NOT NULL
);
CREATE TABLE public.batch_tasks (
    batch_id bigint NOT NULL,
    agent text NOT NULL,
    tier text NOT NULL,
    tasks bigint NOT NULL,
    succeeded bigint NOT NULL,
    truncated bigint NOT NULL,
    cost_nanos bigint NOT NULL,
    unknown_cost_tasks bigint NOT NULL,
    baseline_nanos bigint NOT NULL,
    unknown_baseline_tasks bigint NOT NULL
);
CREATE TABLE public.batches (
    id bigint NOT NULL,
    name text NOT NULL,
    source text NOT NULL,
    output_path text NOT NULL,
    options text NOT NULL,
    submitter text NOT NULL,
    created_at double precision NOT NULL
);
CREATE SEQUENCE public.batches_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.batches_id_seq OWNED BY public.batches.id;
CREATE TABLE public.commands (
    id bigint NOT NULL,
    kind text NOT NULL,
    args text NOT NULL,
    who text NOT NULL,
    at double precision NOT NULL,
    taken_by bigint,
    taken_at double precision,
    outcome text NOT NULL,
    finished_at double precision
);
CREATE SEQUENCE public.commands_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.commands_id_seq OWNED BY public.commands.id;
CREATE TABLE public.counts (
    batch_id bigint NOT NULL,
    status text NOT NULL,
    tasks bigint NOT NULL
);
CREATE TABLE public.covers (
    orchestrator_id bigint NOT NULL,
    provider text NOT NULL,
    batch text NOT NULL,
    submitter text NOT NULL,
    nanos bigint NOT NULL
);
CREATE TABLE public.events (
    id bigint NOT NULL,
    at double precision NOT NULL,
    kind text NOT NULL,
    level text NOT NULL,
    provider text NOT NULL,
    task_id text NOT NULL,
    message text NOT NULL,
    fields text NOT NULL
);
CREATE SEQUENCE public.events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.events_id_seq OWNED BY public.events.id;
CREATE TABLE public.lanes (
    id bigint NOT NULL,
    batch_id bigint NOT NULL,
    submitter text NOT NULL,
    task_type text NOT NULL
);
CREATE SEQUENCE public.lanes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.lanes_id_seq OWNED BY public.lanes.id;
CREATE TABLE public.leaders (
    batch_id bigint NOT NULL,
    content_hash bytea NOT NULL,
    task_row bigint NOT NULL
);
CREATE TABLE public.leadership (
    id integer NOT NULL,
    epoch bigint NOT NULL,
    holder text NOT NULL,
    pid integer NOT NULL,
    host text NOT NULL,
    lease_s double precision NOT NULL,
    renewals bigint NOT NULL,
    renewed_at double precision NOT NULL
);
CREATE TABLE public.learned (
    base_url text NOT NULL,
    fingerprint text NOT NULL,
    payload text NOT NULL,
    at double precision NOT NULL
);
CREATE TABLE public.meta (
    key text NOT NULL,
    value bigint NOT NULL
);
CREATE TABLE public.orchestrators (
    id bigint NOT NULL,
    incarnation text NOT NULL,
    pid integer NOT NULL,
    host text NOT NULL,
    mode text NOT NULL,
    batch text NOT NULL,
    started_at double precision NOT NULL,
    heartbeat_at double precision NOT NULL,
    retired_at double precision,
    finished bigint DEFAULT '0'::bigint NOT NULL
);
CREATE SEQUENCE public.orchestrators_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.orchestrators_id_seq OWNED BY public.orchestrators.id;
CREATE TABLE public.outdated (
    batch_id bigint NOT NULL,
    task_row bigint NOT NULL
);
CREATE TABLE public.prompts (
    task_row bigint NOT NULL,
    preview text NOT NULL,
    body text NOT NULL
);
CREATE TABLE public.settings (
    version bigint NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    previous text NOT NULL,
    who text NOT NULL,
    at double precision NOT NULL
);
CREATE SEQUENCE public.settings_version_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.settings_version_seq OWNED BY public.settings.version;
CREATE TABLE public.snapshots (
    orchestrator_id bigint NOT NULL,
    at double precision NOT NULL,
    body text NOT NULL
);
CREATE TABLE public.tasks (
    task_row bigint NOT NULL,
    batch_id bigint NOT NULL,
    id text NOT NULL,
    lane_id bigint NOT NULL,
    status text NOT NULL,
    priority integer NOT NULL,
    line integer,
    deadline_at double precision,
    created_at double precision NOT NULL,
    since double precision NOT NULL,
    content_hash bytea NOT NULL,
    claims integer NOT NULL,
    claimed_by bigint,
    attempts integer NOT NULL,
    cost_nanos bigint NOT NULL,
    unknown_cost_calls integer NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    agent text NOT NULL,
    tier text NOT NULL,
    finish_reason text NOT NULL,
    truncated smallint NOT NULL,
    error text NOT NULL,
    warnings text NOT NULL,
    baseline_nanos bigint,
    leader_row bigint
);
CREATE TABLE public.usage (
    minute integer NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    task_type text NOT NULL,
    submitter text NOT NULL,
    calls bigint NOT NULL,
    ok bigint NOT NULL,
    failed bigint NOT NULL,
    neutral bigint NOT NULL,
    cancelled bigint NOT NULL,
    uncertain bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cost_nanos bigint NOT NULL,
    uncertain_nanos bigint NOT NULL,
    unknown_cost_calls bigint NOT NULL,
    latency_us bigint NOT NULL,
    bin_00 bigint NOT NULL,
    bin_01 bigint NOT NULL,
    bin_02 bigint NOT NULL,
    bin_03 bigint NOT NULL,
    bin_04 bigint NOT NULL,
    bin_05 bigint NOT NULL,
    bin_06 bigint NOT NULL,
    bin_07 bigint NOT NULL,
    bin_08 bigint NOT NULL,
    bin_09 bigint NOT NULL,
    bin_10 bigint NOT NULL,
    bin_11 bigint NOT NULL,
    bin_12 bigint NOT NULL,
    bin_13 bigint NOT NULL,
    bin_14 bigint NOT NULL,
    bin_15 bigint NOT NULL,
    bin_16 bigint NOT NULL,
    bin_17 bigint NOT NULL,
    bin_18 bigint NOT NULL,
    bin_19 bigint NOT NULL,
    bin_20 bigint NOT NULL,
    bin_21 bigint NOT NULL,
    bin_22 bigint NOT NULL,
    bin_23 bigint NOT NULL,
    bin_24 bigint NOT NULL,
    bin_25 bigint NOT NULL,
    bin_26 bigint NOT NULL,
    bin_27 bigint NOT NULL,
    bin_28 bigint NOT NULL,
    bin_29 bigint NOT NULL,
    bin_30 bigint NOT NULL,
    bin_31 bigint NOT NULL,
    bin_32 bigint NOT NULL,
    bin_33 bigint NOT NULL,
    bin_34 bigint NOT NULL,
    bin_35 bigint NOT NULL,
    bin_36 bigint NOT NULL,
    bin_37 bigint NOT NULL,
    bin_38 bigint NOT NULL,
    bin_39 bigint NOT NULL
);
ALTER TABLE ONLY public.batches ALTER COLUMN id SET DEFAULT nextval('public.batches_id_seq'::regclass);
ALTER TABLE ONLY public.commands ALTER COLUMN id SET DEFAULT nextval('public.commands_id_seq'::regclass);
ALTER TABLE ONLY public.events ALTER COLUMN id SET DEFAULT nextval('public.events_id_seq'::regclass);
ALTER TABLE ONLY public.lanes ALTER COLUMN id SET DEFAULT nextval('public.lanes_id_seq'::regclass);
ALTER TABLE ONLY public.orchestrators ALTER COLUMN id SET DEFAULT nextval('public.orchestrators_id_seq'::regclass);
ALTER TABLE ONLY public.settings ALTER COLUMN version SET DEFAULT nextval('public.settings_version_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0003');
INSERT INTO public.answers VALUES (1, 'On “Is it so?”: It pays to write the test before deciding which of the two designs to keep.');
INSERT INTO public.answers VALUES (6, 'On “Question 4?”: There are three reasons for this, and the least obvious one matters most.');
INSERT INTO public.answers VALUES (11, 'On “Question 9?”: Keep the names close to the words people already use for these things.');
INSERT INTO public.answers VALUES (2, 'On “Question 0?”: Start with the case that costs the most and leave the rare ones for later.');
INSERT INTO public.answers VALUES (12, 'On “Question 0?”: Start with the case that costs the most and leave the rare ones for later.');
INSERT INTO public.attempts VALUES (1, 1, 1, 'openai', 'gpt-6-luna', 'only', 'failed', 1795873587.413145, 0.01031637191772461, 'weighted', '[["openai","gpt-6-luna",0.4,""]]', 0, 'Overloaded', 'openai: answered 503 server_error: The engine is currently unavailable, please try again later.', 503, 0, 0, 0, 0, 0, 0, 60);
INSERT INTO public.attempts VALUES (1, 2, 2, 'openai', 'gpt-6-luna', 'only', 'ok', 1795873588.4431827, 1.004272222518921, 'failover', '[["openai","gpt-6-luna",0.2,""]]', 0, '', '', NULL, 7, 0, 0, 23, 0, 12200, 60);
INSERT INTO public.attempts VALUES (3, 1, 1, 'openai', 'gpt-6-luna', 'only', 'failed', 1795873594.6861413, 0.004172325134277344, 'weighted', '[["openai","gpt-6-luna",0.4,""]]', 0, 'Overloaded', 'openai: answered 503 server_error: The engine is currently unavailable, please try again later.', 503, 0, 0, 0, 0, 0, 0, 60);
INSERT INTO public.attempts VALUES (2, 1, 1, 'openai', 'gpt-6-luna', 'only', 'failed', 1795873594.6874478, 0.004267692565917969, 'weighted', '[["openai","gpt-6-luna",0.4,""]]', 0, 'Overloaded', 'openai: answered 503 server_error: The engine is currently unavailable, please try again later.', 503, 0, 0, 0, 0, 0, 0, 60);
INSERT INTO public.attempts VALUES (4, 1, 1, 'openai', 'gpt-6-luna', 'only', 'failed', 1795873595.4075835, 0.004786014556884766, 'weighted', '[["openai","gpt-6-luna",0.2,""]]', 0, 'Overloaded', 'openai: answered 503 server_error: The engine is currently unavailable, please try again later.', 503, 0, 0, 0, 0, 0, 0, 60);
INSERT INTO public.attempts VALUES (5, 1, 1, 'openai', 'gpt-6-luna', 'only', 'failed', 1795873598.8744667, 0.004029512405395508, 'probe', '[["openai","gpt-6-luna",0.2,""]]', 0, 'Overloaded', 'openai: answered 503 server_error: The engine is currently unavailable, please try again later.', 503, 0, 0, 0, 0, 0, 0, 60);
INSERT INTO public.attempts VALUES (8, 1, 1, 'openai', 'gpt-6-luna', 'only', 'failed', 1795873606.7722645, 0.003804445266723633, 'probe', '[["openai","gpt-6-luna",0.2,""]]', 0, 'Overloaded', 'openai: answered 503 server_error: The engine is currently unavailable, please try again later.', 503, 0, 0, 0, 0, 0, 0, 60);
INSERT INTO public.attempts VALUES (2, 2, 2, 'openai', 'gpt-6-luna', 'only', 'failed', 1795873630.8818884, 0.0047647953033447266, 'failover', '[["openai","gpt-6-luna",0.020114742755889897,""]]', 0, 'Overloaded', 'openai: answered 503 server_error: The engine is currently unavailable, please try again later.', 503, 0, 0, 0, 0, 0, 0, 60);
INSERT INTO public.attempts VALUES (7, 1, 1, 'openai', 'gpt-6-luna', 'only', 'failed', 1795873631.9321465, 0.0070362091064453125, 'weighted', '[["openai","gpt-6-luna",0.040589914995068296,""]]', 0, 'Overloaded', 'openai: answered 503 server_error: The engine is currently unavailable, please try again later.', 503, 0, 0, 0, 0, 0, 0, 60);
INSERT INTO public.attempts VALUES (6, 1, 1, 'openai', 'gpt-6-luna', 'only', 'ok', 1795873630.901856, 1.025017499923706, 'weighted', '[["openai","gpt-6-luna",0.020436204433441164,""]]', 0, '', '', NULL, 7, 0, 0, 23, 0, 12200, 60);
INSERT INTO public.attempts VALUES (9, 1, 1, 'openai', 'gpt-6-luna', 'only', 'failed', 1795873631.9455132, 0.004576921463012695, 'weighted', '[["openai","gpt-6-luna",0.040186586137900875,""]]', 0, 'Overloaded', 'openai: answered 503 server_error: The engine is currently unavailable, please try again later.', 503, 0, 0, 0, 0, 0, 0, 60);
INSERT INTO public.attempts VALUES (10, 1, 1, 'openai', 'gpt-6-luna', 'only', 'failed', 1795873631.9784455, 0.006679534912109375, 'weighted', '[["openai","gpt-6-luna",0.03989085648479786,""]]', 0, 'Overloaded', 'openai: answered 503 server_error: The engine is currently unavailable, please try again later.', 503, 0, 0, 0, 0, 0, 0, 60);
INSERT INTO public.attempts VALUES (11, 1, 1, 'openai', 'gpt-6-luna', 'only', 'ok', 1795873632.0468018, 0.7238872051239014, 'weighted', '[["openai","gpt-6-luna",0.04012156465052812,""]]', 0, '', '', NULL, 7, 0, 0, 22, 0, 11700, 60);
INSERT INTO public.attempts VALUES (2, 3, 3, 'openai', 'gpt-6-luna', 'only', 'ok', 1795873632.8901782, 1.4365954399108887, 'failover', '[["openai","gpt-6-luna",0.06138707779252458,""]]', 0, '', '', NULL, 7, 0, 0, 23, 0, 12200, 60);
INSERT INTO public.attempts VALUES (3, 2, 2, 'openai', 'gpt-6-luna', 'only', 'failed', 1795873634.3665395, 0.008778572082519531, 'failover', '[["openai","gpt-6-luna",0.0930632829383612,""]]', 0, 'Overloaded', 'openai: answered 503 server_error: The engine is currently unavailable, please try again later.', 503, 0, 0, 0, 0, 0, 0, 60);
INSERT INTO public.batch_calls VALUES (1, 'openai', 'gpt-6-luna', 2, 1, 1, 0, 0, 0, 7, 0, 0, 23, 0, 12200, 0, 0, 1004272, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO public.batch_calls VALUES (2, 'openai', 'gpt-6-luna', 13, 3, 10, 0, 0, 0, 21, 0, 0, 68, 0, 36100, 0, 0, 3185499, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO public.batch_tasks VALUES (1, 'only', 'economy', 1, 1, 0, 12200, 0, 244000, 0);
INSERT INTO public.batch_tasks VALUES (2, 'only', 'economy', 4, 4, 0, 36100, 0, 722000, 0);
INSERT INTO public.batches VALUES (1, '/FOLDER/first.results.jsonl', 'first.jsonl', 'first.results.jsonl', '{"ids":2}', 'local', 1795873585.9071302);
INSERT INTO public.batches VALUES (2, '/FOLDER/out.jsonl', 'tasks.jsonl', 'out.jsonl', '{"ids":2}', 'local', 1795873592.8107293);
INSERT INTO public.batches VALUES (3, 'questions', '', '', '{}', 'anna', 1795873634.8873782);
INSERT INTO public.commands VALUES (1, 'reset', '{"provider":"openai"}', 'admin', 1795873634.8873782, NULL, NULL, '', NULL);
INSERT INTO public.counts VALUES (1, 'queued', 0);
INSERT INTO public.counts VALUES (1, 'running', 0);
INSERT INTO public.counts VALUES (1, 'succeeded', 1);
INSERT INTO public.counts VALUES (0, 'running', 7);
INSERT INTO public.counts VALUES (2, 'running', 7);
INSERT INTO public.counts VALUES (0, 'succeeded', 5);
INSERT INTO public.counts VALUES (2, 'queued', 2);
INSERT INTO public.counts VALUES (2, 'succeeded', 4);
INSERT INTO public.counts VALUES (0, 'queued', 3);
INSERT INTO public.counts VALUES (3, 'queued', 1);
INSERT INTO public.covers VALUES (2, 'openai', '/FOLDER/out.jsonl', 'local', 66750);
INSERT INTO public.events VALUES (1, 1795873587.3556273, 'started', 'info', '', '', 'ready after 1.0 s: openai', '{"start_s":1.01}');
INSERT INTO public.events VALUES (2, 1795873594.6451995, 'started', 'info', '', '', 'ready after 1.0 s: openai', '{"start_s":1.03}');
INSERT INTO public.events VALUES (3, 1795873595.4123695, 'provider_open', 'alert', 'openai', '', 'openai gets no tasks: 3 failures in a row', '{"until":1795873598.8570056}');
INSERT INTO public.events VALUES (4, 1795873629.7068017, 'provider_half_open', 'info', 'openai', '', 'openai is tried with one call: one probe decides', '{}');
INSERT INTO public.events VALUES (5, 1795873630.86284, 'canary', 'info', 'openai', '', 'openai: the canary (one token) was answered, so the failures before it are the tasks'' own', '{}');
INSERT INTO public.events VALUES (6, 1795873630.86284, 'provider_degraded', 'alert', 'openai', '', 'openai is back: degraded, 100% of recent calls failed', '{}');
INSERT INTO public.lanes VALUES (1, 1, 'local', 'general');
INSERT INTO public.lanes VALUES (2, 2, 'local', 'general');
INSERT INTO public.lanes VALUES (3, 3, 'anna', 'general');
INSERT INTO public.leaders VALUES (2, '\x5589fc41b8aef89914c665d3aad9e162', 2);
INSERT INTO public.leaders VALUES (2, '\xdee61a0bc835376ca554ca035ca431d5', 3);
INSERT INTO public.leaders VALUES (2, '\x7a322f7f02efdb64cb443b9724c21977', 4);
INSERT INTO public.leaders VALUES (2, '\x4016c3e90020bd2f4c43f2fee08742d2', 5);
INSERT INTO public.leaders VALUES (2, '\x5e20b92eb1101583dc9105a93dda2600', 6);
INSERT INTO public.leaders VALUES (2, '\x644c5f3d6d4853279e59b02d09908220', 7);
INSERT INTO public.leaders VALUES (2, '\xb38ab2ccfc7d1dec747c075c6018cd68', 8);
INSERT INTO public.leaders VALUES (2, '\x5f84311d9e5e9d6bd6110e053c820cfc', 9);
INSERT INTO public.leaders VALUES (2, '\xec8261124e6d91d83c769e16a423ea98', 10);
INSERT INTO public.leaders VALUES (2, '\xf8a39f0ff13a64395810f4948616a2eb', 11);
INSERT INTO public.leadership VALUES (1, 2, 'vm-24718-67b3feb2', 24718, 'vm', 2, 110, 1795873634.618127);
INSERT INTO public.learned VALUES ('http://OPENAI/v1', '57870e17bb7e4840', '{"groups":{},"estimates":{"general":{"tokens_per_char":0.25,"outputs":[23]}}}', 1795873589.5192287);
INSERT INTO public.meta VALUES ('simulated', 0);
INSERT INTO public.meta VALUES ('last_task_row', 15);
INSERT INTO public.orchestrators VALUES (1, 'vm-24678-931dd759', 24678, 'vm', 'live', '/FOLDER/first.results.jsonl', 1795873586.3487504, 1795873589.5266125, 1795873589.5298524, 1);
INSERT INTO public.orchestrators VALUES (2, 'vm-24718-67b3feb2', 24718, 'vm', 'live', '/FOLDER/out.jsonl', 1795873593.6224284, 1795873633.8157334, NULL, 3);
INSERT INTO public.outdated VALUES (2, 14);
INSERT INTO public.prompts VALUES (1, 'Is it so?', '{"messages":[["user","Is it so?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (2, 'Question 0?', '{"messages":[["user","Question 0?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (3, 'Question 1?', '{"messages":[["user","Question 1?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (4, 'Question 2?', '{"messages":[["user","Question 2?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (5, 'Question 3?', '{"messages":[["user","Question 3?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (6, 'Question 4?', '{"messages":[["user","Question 4?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (7, 'Question 5?', '{"messages":[["user","Question 5?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (8, 'Question 6?', '{"messages":[["user","Question 6?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (9, 'Question 7?', '{"messages":[["user","Question 7?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (10, 'Question 8?', '{"messages":[["user","Question 8?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (11, 'Question 9?', '{"messages":[["user","Question 9?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (12, 'Question 0?', '{"messages":[["user","Question 0?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (13, 'Question 1?', '{"messages":[["user","Question 1?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (14, 'Question 9?', '{"messages":[["user","Question 9?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.prompts VALUES (15, 'And this?', '{"messages":[["user","And this?"]],"task_type":"general","max_tokens":60}');
INSERT INTO public.settings VALUES (1, 'max_cost_usd:/FOLDER/out.jsonl', '2.0', 'null', 'run', 1795873593.5420964);
INSERT INTO public.settings VALUES (2, 'weights', '{"openai":0.5,"anthropic":0.3,"gemini":0.2}', 'null', 'admin', 1795873634.8873782);
INSERT INTO public.snapshots VALUES (2, 1795873633.8112936, '{"at":1795873633.8112936,"providers":[{"name":"openai","state":"degraded","reason":"82% of recent calls failed","until":null,"weight":0.4,"score":0.21735681825740835,"performance_multiplier":0.5909090909090908,"time_multiplier":0.9195865387813431,"share":1.0,"error_rate":0.8181818181818182,"avg_response_s":0.8744523525238037,"p50_s":1.025017499923706,"p95_s":1.025017499923706,"in_flight":1,"calls":12,"succeeded":3,"failed":9,"neutral":0,"prompt_tokens":19,"output_tokens":46,"cost_nanos":24900,"limits":[{"group":"*","dimension":"requests","level":950.0,"capacity":950.0,"per_minute":60000.0,"source":"told","window_s":60.0}],"last_errors":["Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later.","Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later.","Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later.","Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later.","Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later."],"models":["gpt-6-luna","gpt-6.1-terra","gpt-6.1-sol"],"opened_count":1,"concurrency_limit":2},{"name":"anthropic","state":"not_configured","reason":"no key in ANTHROPIC_API_KEY","until":null,"weight":0.3,"score":0.0,"performance_multiplier":1.0,"time_multiplier":1.0,"share":0.0,"error_rate":0.0,"avg_response_s":null,"p50_s":null,"p95_s":null,"in_flight":0,"calls":0,"succeeded":0,"failed":0,"neutral":0,"prompt_tokens":0,"output_tokens":0,"cost_nanos":0,"limits":[],"last_errors":[],"models":[],"opened_count":0,"concurrency_limit":0},{"name":"gemini","state":"not_configured","reason":"no key in GOOGLE_API_KEY or GEMINI_API_KEY","until":null,"weight":0.3,"score":0.0,"performance_multiplier":1.0,"time_multiplier":1.0,"share":0.0,"error_rate":0.0,"avg_response_s":null,"p50_s":null,"p95_s":null,"in_flight":0,"calls":0,"succeeded":0,"failed":0,"neutral":0,"prompt_tokens":0,"output_tokens":0,"cost_nanos":0,"limits":[],"last_errors":[],"models":[],"opened_count":0,"concurrency_limit":0}],"agents":[{"name":"only","home":"openai","task_types":[],"in_flight":1,"slots":2,"done":3}],"waiting":7,"in_flight":1,"waiting_for":[{"what":"openai: recovering: calls are let in slowly","tasks":7,"until":1795873635.3082843}],"offline_since":null,"oldest_waiting_at":1795873594.6732707}');
INSERT INTO public.snapshots VALUES (1, 1795873589.526235, '{"at":1795873589.526235,"providers":[{"name":"openai","state":"degraded","reason":"50% of recent calls failed","until":null,"weight":0.4,"score":0.272621390977666,"performance_multiplier":0.75,"time_multiplier":0.9087379699255532,"share":1.0,"error_rate":0.5,"avg_response_s":1.004272222518921,"p50_s":1.004272222518921,"p95_s":1.004272222518921,"in_flight":0,"calls":2,"succeeded":1,"failed":1,"neutral":0,"prompt_tokens":7,"output_tokens":23,"cost_nanos":12200,"limits":[{"group":"*","dimension":"requests","level":950.0,"capacity":950.0,"per_minute":60000.0,"source":"told","window_s":60.0}],"last_errors":["Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later."],"models":["gpt-6-luna"],"opened_count":0,"concurrency_limit":2},{"name":"anthropic","state":"not_configured","reason":"no key in ANTHROPIC_API_KEY","until":null,"weight":0.3,"score":0.0,"performance_multiplier":1.0,"time_multiplier":1.0,"share":0.0,"error_rate":0.0,"avg_response_s":null,"p50_s":null,"p95_s":null,"in_flight":0,"calls":0,"succeeded":0,"failed":0,"neutral":0,"prompt_tokens":0,"output_tokens":0,"cost_nanos":0,"limits":[],"last_errors":[],"models":[],"opened_count":0,"concurrency_limit":0},{"name":"gemini","state":"not_configured","reason":"no key in GOOGLE_API_KEY or GEMINI_API_KEY","until":null,"weight":0.3,"score":0.0,"performance_multiplier":1.0,"time_multiplier":1.0,"share":0.0,"error_rate":0.0,"avg_response_s":null,"p50_s":null,"p95_s":null,"in_flight":0,"calls":0,"succeeded":0,"failed":0,"neutral":0,"prompt_tokens":0,"output_tokens":0,"cost_nanos":0,"limits":[],"last_errors":[],"models":[],"opened_count":0,"concurrency_limit":0}],"agents":[{"name":"only","home":"openai","task_types":[],"in_flight":0,"slots":2,"done":1}],"waiting":0,"in_flight":0,"waiting_for":[],"offline_since":null,"oldest_waiting_at":null}');
INSERT INTO public.tasks VALUES (3, 2, 't1', 2, 'running', 0, 2, NULL, 1795873592.8107293, 1795873594.6461103, '\xdee61a0bc835376ca554ca035ca431d5', 1, 2, 2, 0, 0, '', '', '', '', '', 0, '', '', NULL, NULL);
INSERT INTO public.tasks VALUES (1, 1, 'f', 1, 'succeeded', 0, 1, NULL, 1795873585.9071302, 1795873589.447455, '\xa7525bbd1fecedc83250d42fe25e1d8f', 1, NULL, 2, 12200, 0, 'openai', 'gpt-6-luna', 'only', 'economy', 'stop', 0, '', '', 244000, NULL);
INSERT INTO public.tasks VALUES (13, 2, 't11', 2, 'queued', 0, 12, NULL, 1795873592.8107293, 1795873592.8107293, '\xdee61a0bc835376ca554ca035ca431d5', 0, NULL, 0, 0, 0, '', '', '', '', '', 0, '', '', NULL, 3);
INSERT INTO public.tasks VALUES (4, 2, 't2', 2, 'running', 0, 3, NULL, 1795873592.8107293, 1795873594.6461103, '\x7a322f7f02efdb64cb443b9724c21977', 1, 2, 1, 0, 0, '', '', '', '', '', 0, '', '', NULL, NULL);
INSERT INTO public.tasks VALUES (5, 2, 't3', 2, 'running', 0, 4, NULL, 1795873592.8107293, 1795873594.6461103, '\x4016c3e90020bd2f4c43f2fee08742d2', 1, 2, 1, 0, 0, '', '', '', '', '', 0, '', '', NULL, NULL);
INSERT INTO public.tasks VALUES (8, 2, 't6', 2, 'running', 0, 7, NULL, 1795873592.8107293, 1795873594.6461103, '\xb38ab2ccfc7d1dec747c075c6018cd68', 1, 2, 1, 0, 0, '', '', '', '', '', 0, '', '', NULL, NULL);
INSERT INTO public.tasks VALUES (7, 2, 't5', 2, 'running', 0, 6, NULL, 1795873592.8107293, 1795873594.6461103, '\x644c5f3d6d4853279e59b02d09908220', 1, 2, 1, 0, 0, '', '', '', '', '', 0, '', '', NULL, NULL);
INSERT INTO public.tasks VALUES (6, 2, 't4', 2, 'succeeded', 0, 5, NULL, 1795873592.8107293, 1795873631.9268734, '\x5e20b92eb1101583dc9105a93dda2600', 1, NULL, 1, 12200, 0, 'openai', 'gpt-6-luna', 'only', 'economy', 'stop', 0, '', '', 244000, NULL);
INSERT INTO public.tasks VALUES (9, 2, 't7', 2, 'running', 0, 8, NULL, 1795873592.8107293, 1795873594.6461103, '\x5f84311d9e5e9d6bd6110e053c820cfc', 1, 2, 1, 0, 0, '', '', '', '', '', 0, '', '', NULL, NULL);
INSERT INTO public.tasks VALUES (10, 2, 't8', 2, 'running', 0, 9, NULL, 1795873592.8107293, 1795873594.6461103, '\xec8261124e6d91d83c769e16a423ea98', 1, 2, 1, 0, 0, '', '', '', '', '', 0, '', '', NULL, NULL);
INSERT INTO public.tasks VALUES (11, 2, 't9', 2, 'succeeded', 0, 10, NULL, 1795873592.8107293, 1795873632.770689, '\xf8a39f0ff13a64395810f4948616a2eb', 1, NULL, 1, 11700, 0, 'openai', 'gpt-6-luna', 'only', 'economy', 'stop', 0, '', '', 234000, NULL);
INSERT INTO public.tasks VALUES (2, 2, 't0', 2, 'succeeded', 0, 1, NULL, 1795873592.8107293, 1795873634.3267736, '\x5589fc41b8aef89914c665d3aad9e162', 1, NULL, 3, 12200, 0, 'openai', 'gpt-6-luna', 'only', 'economy', 'stop', 0, '', '', 244000, NULL);
INSERT INTO public.tasks VALUES (12, 2, 't10', 2, 'succeeded', 0, 11, NULL, 1795873592.8107293, 1795873634.3267736, '\x5589fc41b8aef89914c665d3aad9e162', 0, NULL, 0, 0, 0, 'openai', 'gpt-6-luna', 'only', 'economy', 'stop', 0, '', '', 0, 2);
INSERT INTO public.tasks VALUES (14, 2, 't12', 2, 'queued', 0, 13, NULL, 1795873592.8107293, 1795873634.8873782, '\xf8a39f0ff13a64395810f4948616a2eb', 0, NULL, 0, 0, 0, '', '', '', '', '', 0, '', '', NULL, NULL);
INSERT INTO public.tasks VALUES (15, 3, 'question', 3, 'queued', 0, NULL, NULL, 1795873634.8873782, 1795873634.8873782, '\xc325a3b4cd87f0edeb0598a318c01926', 0, NULL, 0, 0, 0, '', '', '', '', '', 0, '', '', NULL, NULL);
INSERT INTO public.usage VALUES (29931226, 'openai', 'gpt-6-luna', 'general', 'local', 7, 1, 6, 0, 0, 0, 7, 0, 0, 23, 0, 12200, 0, 0, 1004272, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO public.usage VALUES (29931227, 'openai', 'gpt-6-luna', 'canary', '', 1, 1, 0, 0, 0, 0, 5, 0, 0, 1, 0, 1000, 0, 0, 1046545, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO public.usage VALUES (29931227, 'openai', 'gpt-6-luna', 'general', 'local', 8, 3, 5, 0, 0, 0, 21, 0, 0, 68, 0, 36100, 0, 0, 3185499, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
SELECT pg_catalog.setval('public.batches_id_seq', 3, true);
SELECT pg_catalog.setval('public.commands_id_seq', 1, true);
SELECT pg_catalog.setval('public.events_id_seq', 6, true);
SELECT pg_catalog.setval('public.lanes_id_seq', 3, true);
SELECT pg_catalog.setval('public.orchestrators_id_seq', 2, true);
SELECT pg_catalog.setval('public.settings_version_seq', 2, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.answers
    ADD CONSTRAINT answers_pkey PRIMARY KEY (task_row);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (task_row, seq);
ALTER TABLE ONLY public.batch_calls
    ADD CONSTRAINT batch_calls_pkey PRIMARY KEY (batch_id, provider, model);
ALTER TABLE ONLY public.batch_tasks
    ADD CONSTRAINT batch_tasks_pkey PRIMARY KEY (batch_id, agent, tier);
ALTER TABLE ONLY public.batches
    ADD CONSTRAINT batches_name_key UNIQUE (name);
ALTER TABLE ONLY public.batches
    ADD CONSTRAINT batches_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.commands
    ADD CONSTRAINT commands_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.counts
    ADD CONSTRAINT counts_pkey PRIMARY KEY (batch_id, status);
ALTER TABLE ONLY public.covers
    ADD CONSTRAINT covers_pkey PRIMARY KEY (orchestrator_id, provider, batch, submitter);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.lanes
    ADD CONSTRAINT lanes_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.leaders
    ADD CONSTRAINT leaders_pkey PRIMARY KEY (batch_id, content_hash);
ALTER TABLE ONLY public.leadership
    ADD CONSTRAINT leadership_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.learned
    ADD CONSTRAINT learned_pkey PRIMARY KEY (base_url, fingerprint);
ALTER TABLE ONLY public.meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.orchestrators
    ADD CONSTRAINT orchestrators_incarnation_key UNIQUE (incarnation);
ALTER TABLE ONLY public.orchestrators
    ADD CONSTRAINT orchestrators_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.outdated
    ADD CONSTRAINT outdated_pkey PRIMARY KEY (batch_id, task_row);
ALTER TABLE ONLY public.prompts
    ADD CONSTRAINT prompts_pkey PRIMARY KEY (task_row);
ALTER TABLE ONLY public.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (version);
ALTER TABLE ONLY public.snapshots
    ADD CONSTRAINT snapshots_pkey PRIMARY KEY (orchestrator_id);
ALTER TABLE ONLY public.tasks
    ADD CONSTRAINT tasks_pkey PRIMARY KEY (task_row);
ALTER TABLE ONLY public.lanes
    ADD CONSTRAINT uq_lanes UNIQUE (batch_id, submitter, task_type);
ALTER TABLE ONLY public.tasks
    ADD CONSTRAINT uq_tasks UNIQUE (batch_id, id);
ALTER TABLE ONLY public.usage
    ADD CONSTRAINT usage_pkey PRIMARY KEY (minute, provider, model, task_type, submitter);
CREATE INDEX ix_commands_open ON public.commands USING btree (id) WHERE (finished_at IS NULL);
CREATE INDEX ix_events_kind ON public.events USING btree (kind, id);
CREATE INDEX ix_settings_key ON public.settings USING btree (key, version);
CREATE INDEX ix_tasks_batch ON public.tasks USING btree (batch_id, task_row);
CREATE INDEX ix_tasks_deadline ON public.tasks USING btree (status, deadline_at) WHERE ((status = 'queued'::text) AND (leader_row IS NULL) AND (deadline_at IS NOT NULL));
CREATE INDEX ix_tasks_followers ON public.tasks USING btree (leader_row, task_row) WHERE ((status = 'queued'::text) AND (leader_row IS NOT NULL));
CREATE INDEX ix_tasks_queue ON public.tasks USING btree (status, priority DESC, lane_id, task_row) WHERE ((status = 'queued'::text) AND (leader_row IS NULL));
CREATE INDEX ix_tasks_status ON public.tasks USING btree (status, task_row);
