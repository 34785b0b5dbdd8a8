BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE answers (
	task_row INTEGER NOT NULL, 
	output TEXT NOT NULL, 
	PRIMARY KEY (task_row)
);
INSERT INTO "answers" VALUES(1,'On “Is this good? Lamp 0: It is 0”: What looks like an exception is in fact the general rule seen from the side. It pays to write the test before deciding which of the two designs to keep. A list of ten items is read to the fourth, so the order is part of the message. None of the sources disagrees about the date, though they differ on the place. One reader will want the figures, another only the conclusion, so give both. In practice the limit is reached in the evening hours and hardly ever before noon. The harbour was quiet, and the lamps along the quay had only just been lit. In practice the limit is reached in the evening hours and hardly ever before noon. It pays to write the test before deciding which of the two designs to keep. The harbour was quiet, and the lamps along the quay had only just been lit.');
INSERT INTO "answers" VALUES(2,'On “Is this good? Lamp 1: It is 1”: Most of the difference comes from how the numbers were gathered, not from what they measure. Ask who is affected, how often, and what they do about it today. The harbour was quiet, and the lamps along the quay had only just been lit. A small table makes the comparison easier to follow than a paragraph would. Keep the names close to the words people already use for these things. Measure it once on the real thing; an estimate here is seldom within a factor of two. The older approach still works for small inputs, and it is simpler to explain. To sum up, the plan is sound, provided the second point is settled first. A list of ten items is read to the fourth, so the order is part of the message. She folded the letter twice and put it back where she had found it.');
INSERT INTO "answers" VALUES(3,'On “Is this good? Lamp 2: It is 2”: If the first step fails, nothing after it needs to be undone. One reader will want the figures, another only the conclusion, so give both. It pays to write the test before deciding which of the two designs to keep. A list of ten items is read to the fourth, so the order is part of the message.');
INSERT INTO "answers" VALUES(4,'On “Question 0?”: Split the work by what changes together rather than by what looks alike.');
INSERT INTO "answers" VALUES(5,'On “Question 0?”: Ask who is affected, how often, and what they do about it today.');
INSERT INTO "answers" VALUES(6,'On “Question 1?”: A list of ten items is read to the fourth, so the order is part of the message. Keep the names close to the words people already use for these things. There are three reasons for this, and the least obvious one matters most. Split the work by what changes together rather than by what looks alike. Keep the names close to the words people already use for these things. Start with the case that costs the most and leave the rare ones for later.');
CREATE TABLE attempts (
	task_row INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	provider TEXT NOT NULL, 
	model TEXT NOT NULL, 
	agent TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	started_at FLOAT NOT NULL, 
	latency_s FLOAT NOT NULL, 
	choice TEXT NOT NULL, 
	reasons TEXT NOT NULL, 
	forced SMALLINT NOT NULL, 
	error_kind TEXT NOT NULL, 
	error TEXT NOT NULL, 
	status INTEGER, 
	input_tokens BIGINT NOT NULL, 
	cache_read_tokens BIGINT NOT NULL, 
	cache_write_tokens BIGINT NOT NULL, 
	output_tokens BIGINT NOT NULL, 
	reasoning_tokens BIGINT NOT NULL, 
	cost_nanos BIGINT, 
	max_tokens BIGINT NOT NULL, 
	PRIMARY KEY (task_row, seq)
)
 WITHOUT ROWID

;
INSERT INTO "attempts" VALUES(1,1,1,'openai','gpt-6-luna','gpt-generalist','ok',1.79586454967231655115e+09,0.651900053024292,'weighted','[["anthropic","claude-haiku-5-5",0.3,""],["openai","gpt-6-luna",0.4,""],["gemini","gemini-3.5-flash-lite",0.3,""]]',0,'','',NULL,13,0,0,205,0,103800,3072);
INSERT INTO "attempts" VALUES(2,1,1,'anthropic','claude-haiku-5-5','gemini-scout','ok',1.79586454967331647872e+09,3.48972082138061523437e-01,'weighted','[["anthropic","claude-haiku-5-5",0.3,""],["openai","gpt-6-luna",0.4,"openai waiting for the first answer to learn the limits"],["gemini","gemini-3.5-flash-lite",0.3,""]]',0,'','',NULL,13,0,0,201,0,101800,1024);
INSERT INTO "attempts" VALUES(3,1,1,'gemini','gemini-3.5-flash-lite','gemini-scout','ok',1795864549.67386,3.48863840103149414062e-01,'weighted','[["anthropic","claude-haiku-5-5",0.3,"anthropic waiting for the first answer to learn the limits"],["openai","gpt-6-luna",0.4,"openai waiting for the first answer to learn the limits"],["gemini","gemini-3.5-flash-lite",0.3,""]]',0,'','',NULL,13,0,0,83,0,211400,3072);
INSERT INTO "attempts" VALUES(4,1,1,'openai','gpt-6-luna','gpt-generalist','ok',1.79586456404483413695e+09,3.93774509429931640625e-01,'weighted','[["anthropic","claude-haiku-5-5",0.3,""],["openai","gpt-6-luna",0.4,""],["gemini","gemini-3.5-flash-lite",0.3,""]]',0,'','',NULL,7,0,0,23,0,12200,3072);
INSERT INTO "attempts" VALUES(5,1,1,'anthropic','claude-haiku-5-5','gemini-scout','ok',1.79586456404973411563e+09,2.22741842269897460937e-01,'weighted','[["anthropic","claude-haiku-5-5",0.3,""],["openai","gpt-6-luna",0.4,"openai waiting for the first answer to learn the limits"],["gemini","gemini-3.5-flash-lite",0.3,""]]',0,'','',NULL,7,0,0,21,0,11200,1024);
INSERT INTO "attempts" VALUES(6,1,1,'gemini','gemini-3.5-flash-lite','gemini-scout','ok',1.79586456405042552944e+09,4.49512481689453125e-01,'weighted','[["anthropic","claude-haiku-5-5",0.3,"anthropic waiting for the first answer to learn the limits"],["openai","gpt-6-luna",0.4,"openai waiting for the first answer to learn the limits"],["gemini","gemini-3.5-flash-lite",0.3,""]]',0,'','',NULL,7,0,0,116,0,292100,3072);
CREATE TABLE batch_calls (
	batch_id INTEGER NOT NULL, 
	provider TEXT NOT NULL, 
	model TEXT NOT NULL, 
	calls BIGINT NOT NULL, 
	ok BIGINT NOT NULL, 
	failed BIGINT NOT NULL, 
	neutral BIGINT NOT NULL, 
	cancelled BIGINT NOT NULL, 
	uncertain BIGINT NOT NULL, 
	input_tokens BIGINT NOT NULL, 
	cache_read_tokens BIGINT NOT NULL, 
	cache_write_tokens BIGINT NOT NULL, 
	output_tokens BIGINT NOT NULL, 
	reasoning_tokens BIGINT NOT NULL, 
	cost_nanos BIGINT NOT NULL, 
	uncertain_nanos BIGINT NOT NULL, 
	unknown_cost_calls BIGINT NOT NULL, 
	latency_us BIGINT NOT NULL, 
	bin_00 BIGINT NOT NULL, 
	bin_01 BIGINT NOT NULL, 
	bin_02 BIGINT NOT NULL, 
	bin_03 BIGINT NOT NULL, 
	bin_04 BIGINT NOT NULL, 
	bin_05 BIGINT NOT NULL, 
	bin_06 BIGINT NOT NULL, 
	bin_07 BIGINT NOT NULL, 
	bin_08 BIGINT NOT NULL, 
	bin_09 BIGINT NOT NULL, 
	bin_10 BIGINT NOT NULL, 
	bin_11 BIGINT NOT NULL, 
	bin_12 BIGINT NOT NULL, 
	bin_13 BIGINT NOT NULL, 
	bin_14 BIGINT NOT NULL, 
	bin_15 BIGINT NOT NULL, 
	bin_16 BIGINT NOT NULL, 
	bin_17 BIGINT NOT NULL, 
	bin_18 BIGINT NOT NULL, 
	bin_19 BIGINT NOT NULL, 
	bin_20 BIGINT NOT NULL, 
	bin_21 BIGINT NOT NULL, 
	bin_22 BIGINT NOT NULL, 
	bin_23 BIGINT NOT NULL, 
	bin_24 BIGINT NOT NULL, 
	bin_25 BIGINT NOT NULL, 
	bin_26 BIGINT NOT NULL, 
	bin_27 BIGINT NOT NULL, 
	bin_28 BIGINT NOT NULL, 
	bin_29 BIGINT NOT NULL, 
	bin_30 BIGINT NOT NULL, 
	bin_31 BIGINT NOT NULL, 
	bin_32 BIGINT NOT NULL, 
	bin_33 BIGINT NOT NULL, 
	bin_34 BIGINT NOT NULL, 
	bin_35 BIGINT NOT NULL, 
	bin_36 BIGINT NOT NULL, 
	bin_37 BIGINT NOT NULL, 
	bin_38 BIGINT NOT NULL, 
	bin_39 BIGINT NOT NULL, 
	PRIMARY KEY (batch_id, provider, model)
)
 WITHOUT ROWID

;
INSERT INTO "batch_calls" VALUES(1,'anthropic','claude-haiku-5-5',1,1,0,0,0,0,13,0,0,201,0,101800,0,0,348972,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "batch_calls" VALUES(1,'gemini','gemini-3.5-flash-lite',1,1,0,0,0,0,13,0,0,83,0,211400,0,0,348863,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "batch_calls" VALUES(1,'openai','gpt-6-luna',1,1,0,0,0,0,13,0,0,205,0,103800,0,0,651900,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "batch_calls" VALUES(2,'anthropic','claude-haiku-5-5',1,1,0,0,0,0,7,0,0,21,0,11200,0,0,222741,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "batch_calls" VALUES(2,'gemini','gemini-3.5-flash-lite',1,1,0,0,0,0,7,0,0,116,0,292100,0,0,449512,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "batch_calls" VALUES(2,'openai','gpt-6-luna',1,1,0,0,0,0,7,0,0,23,0,12200,0,0,393774,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
CREATE TABLE batch_tasks (
	batch_id INTEGER NOT NULL, 
	agent TEXT NOT NULL, 
	tier TEXT NOT NULL, 
	tasks BIGINT NOT NULL, 
	succeeded BIGINT NOT NULL, 
	truncated BIGINT NOT NULL, 
	cost_nanos BIGINT NOT NULL, 
	unknown_cost_tasks BIGINT NOT NULL, 
	baseline_nanos BIGINT NOT NULL, 
	unknown_baseline_tasks BIGINT NOT NULL, 
	PRIMARY KEY (batch_id, agent, tier)
)
 WITHOUT ROWID

;
INSERT INTO "batch_tasks" VALUES(1,'gemini-scout','economy',2,2,0,313200,0,2892000,0);
INSERT INTO "batch_tasks" VALUES(1,'gpt-generalist','economy',1,1,0,103800,0,2076000,0);
INSERT INTO "batch_tasks" VALUES(2,'gemini-scout','economy',2,2,0,303300,0,1398000,0);
INSERT INTO "batch_tasks" VALUES(2,'gpt-generalist','economy',1,1,0,12200,0,244000,0);
CREATE TABLE batches (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	source TEXT NOT NULL, 
	output_path TEXT NOT NULL, 
	options TEXT NOT NULL, 
	submitter TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "batches" VALUES(1,'/gone/project/results/out.csv','tasks.csv','results/out.csv','{}','local',1.79586453964833736422e+09);
INSERT INTO "batches" VALUES(2,'/gone/project/results/out.jsonl','lines.jsonl','results/out.jsonl','{}','local',1.79586455577778029437e+09);
CREATE TABLE commands (
	id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	args TEXT NOT NULL, 
	who TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	taken_by INTEGER, 
	taken_at FLOAT, 
	outcome TEXT NOT NULL, 
	finished_at FLOAT, 
	PRIMARY KEY (id)
);
CREATE TABLE counts (
	batch_id INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	tasks BIGINT NOT NULL, 
	PRIMARY KEY (batch_id, status)
)
 WITHOUT ROWID

;
INSERT INTO "counts" VALUES(0,'queued',0);
INSERT INTO "counts" VALUES(0,'running',0);
INSERT INTO "counts" VALUES(0,'succeeded',6);
INSERT INTO "counts" VALUES(1,'queued',0);
INSERT INTO "counts" VALUES(1,'running',0);
INSERT INTO "counts" VALUES(1,'succeeded',3);
INSERT INTO "counts" VALUES(2,'queued',0);
INSERT INTO "counts" VALUES(2,'running',0);
INSERT INTO "counts" VALUES(2,'succeeded',3);
CREATE TABLE covers (
	orchestrator_id INTEGER NOT NULL, 
	provider TEXT NOT NULL, 
	batch TEXT NOT NULL, 
	submitter TEXT NOT NULL, 
	nanos BIGINT NOT NULL, 
	PRIMARY KEY (orchestrator_id, provider, batch, submitter)
);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	kind TEXT NOT NULL, 
	level TEXT NOT NULL, 
	provider TEXT NOT NULL, 
	task_id TEXT NOT NULL, 
	message TEXT NOT NULL, 
	fields TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE lanes (
	id INTEGER NOT NULL, 
	batch_id INTEGER NOT NULL, 
	submitter TEXT NOT NULL, 
	task_type TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_lanes UNIQUE (batch_id, submitter, task_type)
);
INSERT INTO "lanes" VALUES(1,1,'local','general');
INSERT INTO "lanes" VALUES(2,2,'local','general');
CREATE TABLE leaders (
	batch_id INTEGER NOT NULL, 
	content_hash BLOB NOT NULL, 
	task_row INTEGER NOT NULL, 
	PRIMARY KEY (batch_id, content_hash)
)
 WITHOUT ROWID

;
CREATE TABLE learned (
	base_url TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	payload TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (base_url, fingerprint)
);
CREATE TABLE meta (
	"key" TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('simulated',1);
INSERT INTO "meta" VALUES('last_task_row',6);
CREATE TABLE orchestrators (
	id INTEGER NOT NULL, 
	incarnation TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	mode TEXT NOT NULL, 
	batch TEXT NOT NULL, 
	started_at FLOAT NOT NULL, 
	heartbeat_at FLOAT NOT NULL, 
	retired_at FLOAT, finished BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (incarnation)
);
INSERT INTO "orchestrators" VALUES(1,'vm-14467-dbc3428d',14467,'vm','simulated','/gone/project/results/out.csv',1.79586454197069668773e+09,1.79586455041944575311e+09,1.7958645504418287277e+09,3);
INSERT INTO "orchestrators" VALUES(2,'vm-14640-6478d98c',14640,'vm','simulated','/gone/project/results/out.jsonl',1.79586455741653108599e+09,1.7958645645585725307e+09,1.79586456456564068796e+09,3);
CREATE TABLE outdated (
	batch_id INTEGER NOT NULL, 
	task_row INTEGER NOT NULL, 
	PRIMARY KEY (batch_id, task_row)
)
 WITHOUT ROWID

;
CREATE TABLE prompts (
	task_row INTEGER NOT NULL, 
	preview TEXT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (task_row)
);
INSERT INTO "prompts" VALUES(1,'Is this good? Lamp 0: It is 0 of 5.','{"messages":[["user","Is this good? Lamp 0: It is 0 of 5."]],"task_type":"general","metadata":{"product":"Lamp 0","review":"It is 0 of 5.","stars":"0"}}');
INSERT INTO "prompts" VALUES(2,'Is this good? Lamp 1: It is 1 of 5.','{"messages":[["user","Is this good? Lamp 1: It is 1 of 5."]],"task_type":"general","metadata":{"product":"Lamp 1","review":"It is 1 of 5.","stars":"1"}}');
INSERT INTO "prompts" VALUES(3,'Is this good? Lamp 2: It is 2 of 5.','{"messages":[["user","Is this good? Lamp 2: It is 2 of 5."]],"task_type":"general","metadata":{"product":"Lamp 2","review":"It is 2 of 5.","stars":"2"}}');
INSERT INTO "prompts" VALUES(4,'Question 0?','{"messages":[["user","Question 0?"]],"task_type":"general","metadata":{"n":0}}');
INSERT INTO "prompts" VALUES(5,'Question 0?','{"messages":[["user","Question 0?"]],"task_type":"general","metadata":{"n":1}}');
INSERT INTO "prompts" VALUES(6,'Question 1?','{"messages":[["user","Question 1?"]],"task_type":"general","metadata":{"n":2}}');
CREATE TABLE settings (
	version INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	previous TEXT NOT NULL, 
	who TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (version)
);
CREATE TABLE snapshots (
	orchestrator_id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (orchestrator_id)
);
CREATE TABLE tasks (
	task_row INTEGER NOT NULL, 
	batch_id INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	lane_id INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	priority INTEGER NOT NULL, 
	line INTEGER, 
	deadline_at FLOAT, 
	created_at FLOAT NOT NULL, 
	since FLOAT NOT NULL, 
	content_hash BLOB NOT NULL, 
	claims INTEGER NOT NULL, 
	claimed_by INTEGER, 
	attempts INTEGER NOT NULL, 
	cost_nanos BIGINT NOT NULL, 
	unknown_cost_calls INTEGER NOT NULL, 
	provider TEXT NOT NULL, 
	model TEXT NOT NULL, 
	agent TEXT NOT NULL, 
	tier TEXT NOT NULL, 
	finish_reason TEXT NOT NULL, 
	truncated SMALLINT NOT NULL, 
	error TEXT NOT NULL, 
	warnings TEXT NOT NULL, 
	baseline_nanos BIGINT, leader_row INTEGER, 
	PRIMARY KEY (task_row), 
	CONSTRAINT uq_tasks UNIQUE (batch_id, id)
);
INSERT INTO "tasks" VALUES(1,1,'2e4350b05dd3af597853',1,'succeeded',0,2,NULL,1.79586453964833736422e+09,1.79586455032421660419e+09,X'81209E0CAB6C36461C6FA8A93D23D72F',1,NULL,1,103800,0,'openai','gpt-6-luna','gpt-generalist','economy','stop',0,'','',2076000,NULL);
INSERT INTO "tasks" VALUES(2,1,'9c17e22839dc4b740c23',1,'succeeded',0,3,NULL,1.79586453964833736422e+09,1.79586455002228856086e+09,X'0999A013BF6D1728E6843C7B4B373853',1,NULL,1,101800,0,'anthropic','claude-haiku-5-5','gemini-scout','economy','stop',0,'','',2036000,NULL);
INSERT INTO "tasks" VALUES(3,1,'74b24084ddaebf78c5b4',1,'succeeded',0,4,NULL,1.79586453964833736422e+09,1.79586455002272391313e+09,X'81B12D58D8CB120A654BE0C332113EEC',1,NULL,1,211400,0,'gemini','gemini-3.5-flash-lite','gemini-scout','economy','stop',0,'','',856000,NULL);
INSERT INTO "tasks" VALUES(4,2,'5a0de4a108b9c24841b0',2,'succeeded',0,1,NULL,1.79586455577778029437e+09,1.79586456443860864639e+09,X'FAD8EE1C1C180A028F5FB61366F914B0',1,NULL,1,12200,0,'openai','gpt-6-luna','gpt-generalist','economy','stop',0,'','',244000,NULL);
INSERT INTO "tasks" VALUES(5,2,'1356e897fa4094d16e92',2,'succeeded',0,2,NULL,1.79586455577778029437e+09,1.79586456427247595783e+09,X'FAD8EE1C1C180A028F5FB61366F914B0',1,NULL,1,11200,0,'anthropic','claude-haiku-5-5','gemini-scout','economy','stop',0,'','',224000,NULL);
INSERT INTO "tasks" VALUES(6,2,'30fbfa4140ebbdee4e3c',2,'succeeded',0,3,NULL,1.79586455577778029437e+09,1.79586456449993801115e+09,X'A6793C4B604B88182007F6ADDBA9BDDB',1,NULL,1,292100,0,'gemini','gemini-3.5-flash-lite','gemini-scout','economy','stop',0,'','',1174000,NULL);
CREATE TABLE usage (
	minute INTEGER NOT NULL, 
	provider TEXT NOT NULL, 
	model TEXT NOT NULL, 
	task_type TEXT NOT NULL, 
	submitter TEXT NOT NULL, 
	calls BIGINT NOT NULL, 
	ok BIGINT NOT NULL, 
	failed BIGINT NOT NULL, 
	neutral BIGINT NOT NULL, 
	cancelled BIGINT NOT NULL, 
	uncertain BIGINT NOT NULL, 
	input_tokens BIGINT NOT NULL, 
	cache_read_tokens BIGINT NOT NULL, 
	cache_write_tokens BIGINT NOT NULL, 
	output_tokens BIGINT NOT NULL, 
	reasoning_tokens BIGINT NOT NULL, 
	cost_nanos BIGINT NOT NULL, 
	uncertain_nanos BIGINT NOT NULL, 
	unknown_cost_calls BIGINT NOT NULL, 
	latency_us BIGINT NOT NULL, 
	bin_00 BIGINT NOT NULL, 
	bin_01 BIGINT NOT NULL, 
	bin_02 BIGINT NOT NULL, 
	bin_03 BIGINT NOT NULL, 
	bin_04 BIGINT NOT NULL, 
	bin_05 BIGINT NOT NULL, 
	bin_06 BIGINT NOT NULL, 
	bin_07 BIGINT NOT NULL, 
	bin_08 BIGINT NOT NULL, 
	bin_09 BIGINT NOT NULL, 
	bin_10 BIGINT NOT NULL, 
	bin_11 BIGINT NOT NULL, 
	bin_12 BIGINT NOT NULL, 
	bin_13 BIGINT NOT NULL, 
	bin_14 BIGINT NOT NULL, 
	bin_15 BIGINT NOT NULL, 
	bin_16 BIGINT NOT NULL, 
	bin_17 BIGINT NOT NULL, 
	bin_18 BIGINT NOT NULL, 
	bin_19 BIGINT NOT NULL, 
	bin_20 BIGINT NOT NULL, 
	bin_21 BIGINT NOT NULL, 
	bin_22 BIGINT NOT NULL, 
	bin_23 BIGINT NOT NULL, 
	bin_24 BIGINT NOT NULL, 
	bin_25 BIGINT NOT NULL, 
	bin_26 BIGINT NOT NULL, 
	bin_27 BIGINT NOT NULL, 
	bin_28 BIGINT NOT NULL, 
	bin_29 BIGINT NOT NULL, 
	bin_30 BIGINT NOT NULL, 
	bin_31 BIGINT NOT NULL, 
	bin_32 BIGINT NOT NULL, 
	bin_33 BIGINT NOT NULL, 
	bin_34 BIGINT NOT NULL, 
	bin_35 BIGINT NOT NULL, 
	bin_36 BIGINT NOT NULL, 
	bin_37 BIGINT NOT NULL, 
	bin_38 BIGINT NOT NULL, 
	bin_39 BIGINT NOT NULL, 
	PRIMARY KEY (minute, provider, model, task_type, submitter)
)
 WITHOUT ROWID

;
INSERT INTO "usage" VALUES(29931075,'anthropic','claude-haiku-5-5','general','local',1,1,0,0,0,0,13,0,0,201,0,101800,0,0,348972,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES(29931075,'gemini','gemini-3.5-flash-lite','general','local',1,1,0,0,0,0,13,0,0,83,0,211400,0,0,348863,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES(29931075,'openai','gpt-6-luna','general','local',1,1,0,0,0,0,13,0,0,205,0,103800,0,0,651900,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES(29931076,'anthropic','claude-haiku-5-5','general','local',1,1,0,0,0,0,7,0,0,21,0,11200,0,0,222741,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES(29931076,'gemini','gemini-3.5-flash-lite','general','local',1,1,0,0,0,0,7,0,0,116,0,292100,0,0,449512,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES(29931076,'openai','gpt-6-luna','general','local',1,1,0,0,0,0,7,0,0,23,0,12200,0,0,393774,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
CREATE INDEX ix_tasks_batch ON tasks (batch_id, task_row);
CREATE INDEX ix_tasks_status ON tasks (status, task_row);
CREATE INDEX ix_settings_key ON settings ("key", version);
CREATE INDEX ix_commands_open ON commands (id) WHERE finished_at IS NULL;
CREATE INDEX ix_events_kind ON events (kind, id);
CREATE INDEX ix_tasks_deadline ON tasks (status, deadline_at) WHERE status = 'queued' AND leader_row IS NULL AND deadline_at IS NOT NULL;
CREATE INDEX ix_tasks_queue ON tasks (status, priority DESC, lane_id, task_row) WHERE status = 'queued' AND leader_row IS NULL;
CREATE INDEX ix_tasks_followers ON tasks (leader_row, task_row) WHERE status = 'queued' AND leader_row IS NOT NULL;
COMMIT;
