BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE answers (
	task_row INTEGER NOT NULL, 
	output TEXT NOT NULL, 
	PRIMARY KEY (task_row)
);
INSERT INTO "answers" VALUES(1,'On “Is it so?”: It pays to write the test before deciding which of the two designs to keep.');
INSERT INTO "answers" VALUES(2,'On “Question 0?”: Start with the case that costs the most and leave the rare ones for later.');
INSERT INTO "answers" VALUES(5,'On “Question 3?”: The effect is real but small, and it disappears when the sample is doubled.');
INSERT INTO "answers" VALUES(11,'On “Question 9?”: Keep the names close to the words people already use for these things.');
INSERT INTO "answers" VALUES(12,'On “Question 0?”: Start with the case that costs the most and leave the rare ones for later.');
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
INSERT INTO "attempts" VALUES(1,1,1,'openai','gpt-6-luna','only','failed',1.79587353367020177838e+09,1.32215023040771484375e-02,'weighted','[["openai","gpt-6-luna",0.4,""]]',0,'Overloaded','openai: answered 503 server_error: The engine is currently unavailable, please try again later.',503,0,0,0,0,0,0,60);
INSERT INTO "attempts" VALUES(1,2,2,'openai','gpt-6-luna','only','ok',1.79587353469112610817e+09,1.00329232215881347656e+00,'failover','[["openai","gpt-6-luna",0.2,""]]',0,'','',NULL,7,0,0,23,0,12200,60);
INSERT INTO "attempts" VALUES(2,1,1,'openai','gpt-6-luna','only','failed',1.79587354266013789171e+09,7.2171688079833984375e-03,'weighted','[["openai","gpt-6-luna",0.4,""]]',0,'Overloaded','openai: answered 503 server_error: The engine is currently unavailable, please try again later.',503,0,0,0,0,0,0,60);
INSERT INTO "attempts" VALUES(2,2,2,'openai','gpt-6-luna','only','failed',1.79587357873504924773e+09,4.01020050048828125e-03,'failover','[["openai","gpt-6-luna",0.020150572776794436,""]]',0,'Overloaded','openai: answered 503 server_error: The engine is currently unavailable, please try again later.',503,0,0,0,0,0,0,60);
INSERT INTO "attempts" VALUES(2,3,3,'openai','gpt-6-luna','only','ok',1.79587358074071550364e+09,1.43314766883850097656e+00,'failover','[["openai","gpt-6-luna",0.061467815090981245,""]]',0,'','',NULL,7,0,0,23,0,12200,60);
INSERT INTO "attempts" VALUES(3,1,1,'openai','gpt-6-luna','only','failed',1.79587354265804266927e+09,5.92708587646484375e-03,'weighted','[["openai","gpt-6-luna",0.4,""]]',0,'Overloaded','openai: answered 503 server_error: The engine is currently unavailable, please try again later.',503,0,0,0,0,0,0,60);
INSERT INTO "attempts" VALUES(3,2,2,'openai','gpt-6-luna','only','failed',1.79587358217648577693e+09,7.7037811279296875e-03,'failover','[["openai","gpt-6-luna",0.09308571953000122,""]]',0,'Overloaded','openai: answered 503 server_error: The engine is currently unavailable, please try again later.',503,0,0,0,0,0,0,60);
INSERT INTO "attempts" VALUES(4,1,1,'openai','gpt-6-luna','only','failed',1.79587354338096714025e+09,1.39811038970947265625e-02,'weighted','[["openai","gpt-6-luna",0.2,""]]',0,'Overloaded','openai: answered 503 server_error: The engine is currently unavailable, please try again later.',503,0,0,0,0,0,0,60);
INSERT INTO "attempts" VALUES(5,1,1,'openai','gpt-6-luna','only','ok',1.79587357875100183486e+09,1.02702474594116210937e+00,'weighted','[["openai","gpt-6-luna",0.020563868999481205,""]]',0,'','',NULL,7,0,0,24,0,12700,60);
INSERT INTO "attempts" VALUES(6,1,1,'openai','gpt-6-luna','only','failed',1.79587357978057551386e+09,6.886005401611328125e-03,'weighted','[["openai","gpt-6-luna",0.04064950154354132,""]]',0,'Overloaded','openai: answered 503 server_error: The engine is currently unavailable, please try again later.',503,0,0,0,0,0,0,60);
INSERT INTO "attempts" VALUES(7,1,1,'openai','gpt-6-luna','only','failed',1.79587357978998255728e+09,9.368419647216796875e-03,'weighted','[["openai","gpt-6-luna",0.04019229646586493,""]]',0,'Overloaded','openai: answered 503 server_error: The engine is currently unavailable, please try again later.',503,0,0,0,0,0,0,60);
INSERT INTO "attempts" VALUES(8,1,1,'openai','gpt-6-luna','only','failed',1.79587357980595350263e+09,4.7588348388671875e-03,'weighted','[["openai","gpt-6-luna",0.03991146069193158,""]]',0,'Overloaded','openai: answered 503 server_error: The engine is currently unavailable, please try again later.',503,0,0,0,0,0,0,60);
INSERT INTO "attempts" VALUES(9,1,1,'openai','gpt-6-luna','only','failed',1.7958735551276810169e+09,7.1556568145751953125e-03,'probe','[["openai","gpt-6-luna",0.2,""]]',0,'Overloaded','openai: answered 503 server_error: The engine is currently unavailable, please try again later.',503,0,0,0,0,0,0,60);
INSERT INTO "attempts" VALUES(10,1,1,'openai','gpt-6-luna','only','failed',1.79587354715002655985e+09,2.90966033935546875e-03,'probe','[["openai","gpt-6-luna",0.2,""]]',0,'Overloaded','openai: answered 503 server_error: The engine is currently unavailable, please try again later.',503,0,0,0,0,0,0,60);
INSERT INTO "attempts" VALUES(11,1,1,'openai','gpt-6-luna','only','ok',1.79587357983003950115e+09,7.131900787353515625e-01,'weighted','[["openai","gpt-6-luna",0.03971487671082299,""]]',0,'','',NULL,7,0,0,22,0,11700,60);
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
INSERT INTO "batch_calls" VALUES(1,'openai','gpt-6-luna',2,1,1,0,0,0,7,0,0,23,0,12200,0,0,1003292,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "batch_calls" VALUES(2,'openai','gpt-6-luna',13,3,10,0,0,0,21,0,0,69,0,36600,0,0,3173361,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
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
INSERT INTO "batch_tasks" VALUES(1,'only','economy',1,1,0,12200,0,244000,0);
INSERT INTO "batch_tasks" VALUES(2,'only','economy',4,4,0,36600,0,732000,0);
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
INSERT INTO "batches" VALUES(1,'./first.results.jsonl','first.jsonl','first.results.jsonl','{"ids":2}','local',1.79587353183511781694e+09);
INSERT INTO "batches" VALUES(2,'./out.jsonl','tasks.jsonl','out.jsonl','{"ids":2}','local',1.79587353973794317243e+09);
INSERT INTO "batches" VALUES(3,'questions','','','{}','anna',1.79587358254136252402e+09);
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
INSERT INTO "commands" VALUES(1,'reset','{"provider":"openai"}','admin',1.79587358254136252402e+09,NULL,NULL,'',NULL);
CREATE TABLE counts (
	batch_id INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	tasks BIGINT NOT NULL, 
	PRIMARY KEY (batch_id, status)
)
 WITHOUT ROWID

;
INSERT INTO "counts" VALUES(0,'queued',3);
INSERT INTO "counts" VALUES(0,'running',7);
INSERT INTO "counts" VALUES(0,'succeeded',5);
INSERT INTO "counts" VALUES(1,'queued',0);
INSERT INTO "counts" VALUES(1,'running',0);
INSERT INTO "counts" VALUES(1,'succeeded',1);
INSERT INTO "counts" VALUES(2,'queued',2);
INSERT INTO "counts" VALUES(2,'running',7);
INSERT INTO "counts" VALUES(2,'succeeded',4);
INSERT INTO "counts" VALUES(3,'queued',1);
CREATE TABLE covers (
	orchestrator_id INTEGER NOT NULL, 
	provider TEXT NOT NULL, 
	batch TEXT NOT NULL, 
	submitter TEXT NOT NULL, 
	nanos BIGINT NOT NULL, 
	PRIMARY KEY (orchestrator_id, provider, batch, submitter)
);
INSERT INTO "covers" VALUES(2,'openai','./out.jsonl','local',66750);
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
INSERT INTO "events" VALUES(1,1.79587353364469218255e+09,'started','info','','','ready after 0.9 s: openai','{"start_s":0.85}');
INSERT INTO "events" VALUES(2,1.79587354258321642871e+09,'started','info','','','ready after 1.9 s: openai','{"start_s":1.93}');
INSERT INTO "events" VALUES(3,1.79587354339494824403e+09,'provider_open','alert','openai','','openai gets no tasks: 3 failures in a row','{"until":1795873547.1442366}');
INSERT INTO "events" VALUES(4,1.79587357766544532776e+09,'provider_half_open','info','openai','','openai is tried with one call: one probe decides','{}');
INSERT INTO "events" VALUES(5,1.79587357871046304704e+09,'canary','info','openai','','openai: the canary (one token) was answered, so the failures before it are the tasks'' own','{}');
INSERT INTO "events" VALUES(6,1.79587357871046304704e+09,'provider_degraded','alert','openai','','openai is back: degraded, 100% of recent calls failed','{}');
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
INSERT INTO "lanes" VALUES(3,3,'anna','general');
CREATE TABLE leaders (
	batch_id INTEGER NOT NULL, 
	content_hash BLOB NOT NULL, 
	task_row INTEGER NOT NULL, 
	PRIMARY KEY (batch_id, content_hash)
)
 WITHOUT ROWID

;
INSERT INTO "leaders" VALUES(2,X'4016C3E90020BD2F4C43F2FEE08742D2',5);
INSERT INTO "leaders" VALUES(2,X'5589FC41B8AEF89914C665D3AAD9E162',2);
INSERT INTO "leaders" VALUES(2,X'5E20B92EB1101583DC9105A93DDA2600',6);
INSERT INTO "leaders" VALUES(2,X'5F84311D9E5E9D6BD6110E053C820CFC',9);
INSERT INTO "leaders" VALUES(2,X'644C5F3D6D4853279E59B02D09908220',7);
INSERT INTO "leaders" VALUES(2,X'7A322F7F02EFDB64CB443B9724C21977',4);
INSERT INTO "leaders" VALUES(2,X'B38AB2CCFC7D1DEC747C075C6018CD68',8);
INSERT INTO "leaders" VALUES(2,X'DEE61A0BC835376CA554CA035CA431D5',3);
INSERT INTO "leaders" VALUES(2,X'EC8261124E6D91D83C769E16A423EA98',10);
INSERT INTO "leaders" VALUES(2,X'F8A39F0FF13A64395810F4948616A2EB',11);
CREATE TABLE leadership (
	id INTEGER NOT NULL, 
	epoch BIGINT NOT NULL, 
	holder TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	lease_s FLOAT NOT NULL, 
	renewals BIGINT NOT NULL, 
	renewed_at FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "leadership" VALUES(1,2,'vm-24357-01730b3f',24357,'vm',2.0,3,0.0);
CREATE TABLE learned (
	base_url TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	payload TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (base_url, fingerprint)
);
INSERT INTO "learned" VALUES('http://OPENAI/v1','57870e17bb7e4840','{"groups":{},"estimates":{"general":{"tokens_per_char":0.25,"outputs":[23]}}}',1.7958735357705090046e+09);
CREATE TABLE meta (
	"key" TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('simulated',0);
INSERT INTO "meta" VALUES('last_task_row',15);
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
INSERT INTO "orchestrators" VALUES(1,'vm-24254-4da4d402',24254,'vm','live','./first.results.jsonl',1.79587353279409527775e+09,1.79587353578310322766e+09,1.79587353579616069792e+09,1);
INSERT INTO "orchestrators" VALUES(2,'vm-24357-01730b3f',24357,'vm','live','./out.jsonl',1.79587354065289402007e+09,1.7958735821402387619e+09,NULL,3);
CREATE TABLE outdated (
	batch_id INTEGER NOT NULL, 
	task_row INTEGER NOT NULL, 
	PRIMARY KEY (batch_id, task_row)
)
 WITHOUT ROWID

;
INSERT INTO "outdated" VALUES(2,14);
CREATE TABLE prompts (
	task_row INTEGER NOT NULL, 
	preview TEXT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (task_row)
);
INSERT INTO "prompts" VALUES(1,'Is it so?','{"messages":[["user","Is it so?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(2,'Question 0?','{"messages":[["user","Question 0?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(3,'Question 1?','{"messages":[["user","Question 1?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(4,'Question 2?','{"messages":[["user","Question 2?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(5,'Question 3?','{"messages":[["user","Question 3?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(6,'Question 4?','{"messages":[["user","Question 4?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(7,'Question 5?','{"messages":[["user","Question 5?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(8,'Question 6?','{"messages":[["user","Question 6?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(9,'Question 7?','{"messages":[["user","Question 7?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(10,'Question 8?','{"messages":[["user","Question 8?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(11,'Question 9?','{"messages":[["user","Question 9?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(12,'Question 0?','{"messages":[["user","Question 0?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(13,'Question 1?','{"messages":[["user","Question 1?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(14,'Question 9?','{"messages":[["user","Question 9?"]],"task_type":"general","max_tokens":60}');
INSERT INTO "prompts" VALUES(15,'And this?','{"messages":[["user","And this?"]],"task_type":"general","max_tokens":60}');
CREATE TABLE settings (
	version INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	previous TEXT NOT NULL, 
	who TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "settings" VALUES(1,'max_cost_usd:./out.jsonl','2.0','null','run',1.79587354052940487863e+09);
INSERT INTO "settings" VALUES(2,'weights','{"openai":0.5,"anthropic":0.3,"gemini":0.2}','null','admin',1.79587358254136252402e+09);
CREATE TABLE snapshots (
	orchestrator_id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (orchestrator_id)
);
INSERT INTO "snapshots" VALUES(1,1.79587353578273391718e+09,'{"at":1795873535.782734,"providers":[{"name":"openai","state":"degraded","reason":"50% of recent calls failed","until":null,"weight":0.4,"score":0.27264566932921486,"performance_multiplier":0.75,"time_multiplier":0.9088188977640494,"share":1.0,"error_rate":0.5,"avg_response_s":1.0032923221588135,"p50_s":1.0032923221588135,"p95_s":1.0032923221588135,"in_flight":0,"calls":2,"succeeded":1,"failed":1,"neutral":0,"prompt_tokens":7,"output_tokens":23,"cost_nanos":12200,"limits":[{"group":"*","dimension":"requests","level":950.0,"capacity":950.0,"per_minute":60000.0,"source":"told","window_s":60.0}],"last_errors":["Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later."],"models":["gpt-6-luna"],"opened_count":0,"concurrency_limit":2},{"name":"anthropic","state":"not_configured","reason":"no key in ANTHROPIC_API_KEY","until":null,"weight":0.3,"score":0.0,"performance_multiplier":1.0,"time_multiplier":1.0,"share":0.0,"error_rate":0.0,"avg_response_s":null,"p50_s":null,"p95_s":null,"in_flight":0,"calls":0,"succeeded":0,"failed":0,"neutral":0,"prompt_tokens":0,"output_tokens":0,"cost_nanos":0,"limits":[],"last_errors":[],"models":[],"opened_count":0,"concurrency_limit":0},{"name":"gemini","state":"not_configured","reason":"no key in GOOGLE_API_KEY or GEMINI_API_KEY","until":null,"weight":0.3,"score":0.0,"performance_multiplier":1.0,"time_multiplier":1.0,"share":0.0,"error_rate":0.0,"avg_response_s":null,"p50_s":null,"p95_s":null,"in_flight":0,"calls":0,"succeeded":0,"failed":0,"neutral":0,"prompt_tokens":0,"output_tokens":0,"cost_nanos":0,"limits":[],"last_errors":[],"models":[],"opened_count":0,"concurrency_limit":0}],"agents":[{"name":"only","home":"openai","task_types":[],"in_flight":0,"slots":2,"done":1}],"waiting":0,"in_flight":0,"waiting_for":[],"offline_since":null,"oldest_waiting_at":null}');
INSERT INTO "snapshots" VALUES(2,1.79587358213995170594e+09,'{"at":1795873582.1399517,"providers":[{"name":"openai","state":"degraded","reason":"82% of recent calls failed","until":null,"weight":0.4,"score":0.2174436989420626,"performance_multiplier":0.5909090909090908,"time_multiplier":0.9199541109087266,"share":1.0,"error_rate":0.8181818181818182,"avg_response_s":0.8701074123382568,"p50_s":1.027024745941162,"p95_s":1.027024745941162,"in_flight":1,"calls":12,"succeeded":3,"failed":9,"neutral":0,"prompt_tokens":19,"output_tokens":47,"cost_nanos":25400,"limits":[{"group":"*","dimension":"requests","level":950.0,"capacity":950.0,"per_minute":60000.0,"source":"told","window_s":60.0}],"last_errors":["Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later.","Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later.","Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later.","Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later.","Overloaded: openai: answered 503 server_error: The engine is currently unavailable, please try again later."],"models":["gpt-6-luna","gpt-6.1-terra","gpt-6.1-sol"],"opened_count":1,"concurrency_limit":2},{"name":"anthropic","state":"not_configured","reason":"no key in ANTHROPIC_API_KEY","until":null,"weight":0.3,"score":0.0,"performance_multiplier":1.0,"time_multiplier":1.0,"share":0.0,"error_rate":0.0,"avg_response_s":null,"p50_s":null,"p95_s":null,"in_flight":0,"calls":0,"succeeded":0,"failed":0,"neutral":0,"prompt_tokens":0,"output_tokens":0,"cost_nanos":0,"limits":[],"last_errors":[],"models":[],"opened_count":0,"concurrency_limit":0},{"name":"gemini","state":"not_configured","reason":"no key in GOOGLE_API_KEY or GEMINI_API_KEY","until":null,"weight":0.3,"score":0.0,"performance_multiplier":1.0,"time_multiplier":1.0,"share":0.0,"error_rate":0.0,"avg_response_s":null,"p50_s":null,"p95_s":null,"in_flight":0,"calls":0,"succeeded":0,"failed":0,"neutral":0,"prompt_tokens":0,"output_tokens":0,"cost_nanos":0,"limits":[],"last_errors":[],"models":[],"opened_count":0,"concurrency_limit":0}],"agents":[{"name":"only","home":"openai","task_types":[],"in_flight":1,"slots":2,"done":3}],"waiting":7,"in_flight":1,"waiting_for":[{"what":"openai: recovering: calls are let in slowly","tasks":7,"until":1795873583.1559074}],"offline_since":null,"oldest_waiting_at":1795873542.6221626}');
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
INSERT INTO "tasks" VALUES(1,1,'f',1,'succeeded',0,1,NULL,1.79587353183511781694e+09,1.79587353569441843031e+09,X'A7525BBD1FECEDC83250D42FE25E1D8F',1,NULL,2,12200,0,'openai','gpt-6-luna','only','economy','stop',0,'','',244000,NULL);
INSERT INTO "tasks" VALUES(2,2,'t0',2,'succeeded',0,1,NULL,1.79587353973794317243e+09,1.79587358217386317254e+09,X'5589FC41B8AEF89914C665D3AAD9E162',1,NULL,3,12200,0,'openai','gpt-6-luna','only','economy','stop',0,'','',244000,NULL);
INSERT INTO "tasks" VALUES(3,2,'t1',2,'running',0,2,NULL,1.79587353973794317243e+09,1.7958735425938022137e+09,X'DEE61A0BC835376CA554CA035CA431D5',1,2,2,0,0,'','','','','',0,'','',NULL,NULL);
INSERT INTO "tasks" VALUES(4,2,'t2',2,'running',0,3,NULL,1.79587353973794317243e+09,1.7958735425938022137e+09,X'7A322F7F02EFDB64CB443B9724C21977',1,2,1,0,0,'','','','','',0,'','',NULL,NULL);
INSERT INTO "tasks" VALUES(5,2,'t3',2,'succeeded',0,4,NULL,1.79587353973794317243e+09,1.79587357977802658083e+09,X'4016C3E90020BD2F4C43F2FEE08742D2',1,NULL,1,12700,0,'openai','gpt-6-luna','only','economy','stop',0,'','',254000,NULL);
INSERT INTO "tasks" VALUES(6,2,'t4',2,'running',0,5,NULL,1.79587353973794317243e+09,1.7958735425938022137e+09,X'5E20B92EB1101583DC9105A93DDA2600',1,2,1,0,0,'','','','','',0,'','',NULL,NULL);
INSERT INTO "tasks" VALUES(7,2,'t5',2,'running',0,6,NULL,1.79587353973794317243e+09,1.7958735425938022137e+09,X'644C5F3D6D4853279E59B02D09908220',1,2,1,0,0,'','','','','',0,'','',NULL,NULL);
INSERT INTO "tasks" VALUES(8,2,'t6',2,'running',0,7,NULL,1.79587353973794317243e+09,1.7958735425938022137e+09,X'B38AB2CCFC7D1DEC747C075C6018CD68',1,2,1,0,0,'','','','','',0,'','',NULL,NULL);
INSERT INTO "tasks" VALUES(9,2,'t7',2,'running',0,8,NULL,1.79587353973794317243e+09,1.7958735425938022137e+09,X'5F84311D9E5E9D6BD6110E053C820CFC',1,2,1,0,0,'','','','','',0,'','',NULL,NULL);
INSERT INTO "tasks" VALUES(10,2,'t8',2,'running',0,9,NULL,1.79587353973794317243e+09,1.7958735425938022137e+09,X'EC8261124E6D91D83C769E16A423EA98',1,2,1,0,0,'','','','','',0,'','',NULL,NULL);
INSERT INTO "tasks" VALUES(11,2,'t9',2,'succeeded',0,10,NULL,1.79587353973794317243e+09,1.79587358054322957989e+09,X'F8A39F0FF13A64395810F4948616A2EB',1,NULL,1,11700,0,'openai','gpt-6-luna','only','economy','stop',0,'','',234000,NULL);
INSERT INTO "tasks" VALUES(12,2,'t10',2,'succeeded',0,11,NULL,1.79587353973794317243e+09,1.79587358217386317254e+09,X'5589FC41B8AEF89914C665D3AAD9E162',0,NULL,0,0,0,'openai','gpt-6-luna','only','economy','stop',0,'','',0,2);
INSERT INTO "tasks" VALUES(13,2,'t11',2,'queued',0,12,NULL,1.79587353973794317243e+09,1.79587353973794317243e+09,X'DEE61A0BC835376CA554CA035CA431D5',0,NULL,0,0,0,'','','','','',0,'','',NULL,3);
INSERT INTO "tasks" VALUES(14,2,'t12',2,'queued',0,13,NULL,1.79587353973794317243e+09,1.79587358254136252402e+09,X'F8A39F0FF13A64395810F4948616A2EB',0,NULL,0,0,0,'','','','','',0,'','',NULL,NULL);
INSERT INTO "tasks" VALUES(15,3,'question',3,'queued',0,NULL,NULL,1.79587358254136252402e+09,1.79587358254136252402e+09,X'C325A3B4CD87F0EDEB0598A318C01926',0,NULL,0,0,0,'','','','','',0,'','',NULL,NULL);
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
INSERT INTO "usage" VALUES(29931225,'openai','gpt-6-luna','general','local',7,1,6,0,0,0,7,0,0,23,0,12200,0,0,1003292,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES(29931226,'openai','gpt-6-luna','canary','',1,1,0,0,0,0,5,0,0,1,0,1000,0,0,1030621,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES(29931226,'openai','gpt-6-luna','general','local',8,3,5,0,0,0,21,0,0,69,0,36600,0,0,3173361,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
CREATE INDEX ix_tasks_batch ON tasks (batch_id, task_row);
CREATE INDEX ix_tasks_status ON tasks (status, task_row);
CREATE INDEX ix_settings_key ON settings ("key", version);
CREATE INDEX ix_commands_open ON commands (id) WHERE finished_at IS NULL;
CREATE INDEX ix_events_kind ON events (kind, id);
CREATE INDEX ix_tasks_deadline ON tasks (status, deadline_at) WHERE status = 'queued' AND leader_row IS NULL AND deadline_at IS NOT NULL;
CREATE INDEX ix_tasks_queue ON tasks (status, priority DESC, lane_id, task_row) WHERE status = 'queued' AND leader_row IS NULL;
CREATE INDEX ix_tasks_followers ON tasks (leader_row, task_row) WHERE status = 'queued' AND leader_row IS NOT NULL;
COMMIT;
