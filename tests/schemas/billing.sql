-- Expected: invoices, a status of integers (finalized is 1), records fees, and payments by a pair of type and id.
create table organizations (id uuid primary key default gen_random_uuid(), name text, created_at timestamp, updated_at timestamp);
create table customers (
  id uuid primary key default gen_random_uuid(), organization_id uuid references organizations, name text,
  created_at timestamp not null, updated_at timestamp, deleted_at timestamp
);
create table invoices (
  id uuid primary key default gen_random_uuid(), organization_id uuid references organizations,
  customer_id uuid references customers, status int not null, payment_due_date date, number text,
  created_at timestamp not null, updated_at timestamp not null, finalized_at timestamp, voided_at timestamp
);
create table fees (
  id uuid primary key default gen_random_uuid(), invoice_id uuid references invoices, amount_cents bigint,
  created_at timestamp not null, updated_at timestamp not null
);
create table payment_requests (id uuid primary key default gen_random_uuid(), customer_id uuid references customers, created_at timestamp);
create table payments (
  id uuid primary key default gen_random_uuid(), payable_type text not null, payable_id uuid not null, status text,
  created_at timestamp not null, updated_at timestamp not null
);
create table credit_notes (
  id uuid primary key default gen_random_uuid(), invoice_id uuid not null references invoices, reason int,
  created_at timestamp not null
);
insert into organizations (name, created_at) values ('one', now()), ('two', now());
insert into customers (organization_id, name, created_at) select id, 'c' || n, now() from organizations, generate_series(1, 5) n;
insert into invoices (organization_id, customer_id, status, created_at, updated_at, finalized_at)
select c.organization_id, c.id, case when n % 10 = 0 then 0 else 1 end, now() - n * interval '3 hours', now(),
  case when n % 10 <> 0 then now() - n * interval '3 hours' + interval '20 minutes' end
from generate_series(1, 400) n join lateral (select * from customers order by md5(n::text || name) limit 1) c on true;
insert into fees (invoice_id, amount_cents, created_at, updated_at)
select id, 100, created_at, now() from invoices, generate_series(1, 2);
insert into payments (payable_type, payable_id, status, created_at, updated_at)
select 'Invoice', id, 'succeeded', finalized_at + interval '10 minutes', now() from invoices
where status = 1 and created_at < now() - interval '20 hours';
insert into payment_requests (customer_id, created_at) select id, now() from customers;
insert into payments (payable_type, payable_id, status, created_at, updated_at)
select 'PaymentRequest', id, 'succeeded', now(), now() from payment_requests;
insert into credit_notes (invoice_id, reason, created_at) select id, 1, now() from invoices where status = 1 limit 12;
