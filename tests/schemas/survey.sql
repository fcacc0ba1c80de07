-- Expected: "Response" with the flag finished, names in camel case, record "ResponseInsight".
create table "Survey" (id text primary key, name text not null, status text not null, "createdAt" timestamp not null default now(), "updatedAt" timestamp);
create table "Contact" (id text primary key, "createdAt" timestamp not null default now());
create table "Response" (
  id text primary key, "createdAt" timestamp not null, "updatedAt" timestamp not null, finished boolean not null default false,
  "surveyId" text not null references "Survey", "contactId" text references "Contact", data jsonb not null default '{}', language text
);
create table "ResponseInsight" (
  id text primary key, "responseId" text not null references "Response", "createdAt" timestamp not null, sentiment text
);
create table "ResponseNote" (
  id text primary key, "responseId" text not null references "Response", "createdAt" timestamp not null, text text
);
create table "Tag" (id text primary key, name text, "createdAt" timestamp);
create table "TagsOnResponses" ("responseId" text references "Response", "tagId" text references "Tag", primary key ("responseId", "tagId"));
insert into "Survey" (id, name, status) select 's' || n, 'survey', 'inProgress' from generate_series(1, 3) n;
insert into "Contact" (id) select 'c' || n from generate_series(1, 30) n;
insert into "Response" (id, "createdAt", "updatedAt", finished, "surveyId", "contactId")
select 'r' || n, now() - n * interval '90 minutes', now() - n * interval '90 minutes' + interval '4 minutes', n % 5 <> 0,
  's' || (1 + n % 3), case when n % 2 = 0 then 'c' || (1 + n % 30) end
from generate_series(1, 600) n;
insert into "ResponseInsight" select 'i' || id, id, "updatedAt" + interval '30 seconds', 'good' from "Response" where finished and id not in ('r101', 'r202');
insert into "ResponseNote" select 'n' || id, id, now(), 'call back' from "Response" where id like 'r1_';
insert into "Tag" values ('t', 'vip', now());
insert into "TagsOnResponses" select id, 't' from "Response" where id like 'r2_';
