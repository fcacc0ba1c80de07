-- Expected: production.workorder, whose names join words (startdate), record production.workorderrouting.
create schema production;
create schema sales;
create table production.product (productid serial primary key, name text, sellstartdate timestamp, sellenddate timestamp, discontinueddate timestamp, modifieddate timestamp);
create table production.scrapreason (scrapreasonid serial primary key, name text, modifieddate timestamp);
create table production.workorder (
  workorderid serial primary key, productid int not null references production.product, orderqty int, scrappedqty int,
  startdate timestamp not null, enddate timestamp, duedate timestamp not null,
  scrapreasonid int references production.scrapreason, modifieddate timestamp not null default now()
);
create table production.workorderrouting (
  workorderid int not null references production.workorder, productid int not null, operationsequence int not null,
  scheduledstartdate timestamp not null, scheduledenddate timestamp not null, actualstartdate timestamp,
  actualenddate timestamp, modifieddate timestamp not null default now(),
  primary key (workorderid, productid, operationsequence)
);
create table sales.customer (customerid serial primary key, modifieddate timestamp);
insert into production.product (name, sellstartdate) select 'p' || n, now() - interval '3 years' from generate_series(1, 10) n;
insert into production.scrapreason (name) values ('bent'), ('burnt');
insert into production.workorder (productid, orderqty, startdate, enddate, duedate, scrapreasonid)
select 1 + n % 10, 5, date '2014-06-01' - n, case when n > 20 then date '2014-06-01' - n + 10 end, date '2014-06-01' - n + 11,
  case when n % 97 = 0 then 1 end
from generate_series(1, 300) n;
insert into production.workorderrouting (workorderid, productid, operationsequence, scheduledstartdate, scheduledenddate)
select workorderid, productid, s, startdate, duedate from production.workorder, generate_series(1, 2) s where workorderid <> 77;
