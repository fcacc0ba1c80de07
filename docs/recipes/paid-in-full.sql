create table orders (id int primary key, state text, total numeric, created_at timestamptz, ordered_at timestamptz);
create table invoices (order_id int);
create table payments (order_id int, amount numeric);
create index on payments (order_id);
insert into orders select n, 'ordered', 30, now() - interval '20 days', now() - interval '20 days' from generate_series(1, 4) n;
-- not yet due: nothing is paid
insert into orders values (5, 'ordered', 30, now() - interval '3 days', now() - interval '3 days');
-- nothing to pay
insert into orders values (6, 'ordered', 0, now() - interval '20 days', now() - interval '20 days');
insert into invoices select n from generate_series(1, 6) n;
insert into payments select n, amount from generate_series(1, 4) n, unnest(array[10, 20]) amount;
-- broken: orders failed_checks paid_in_full 3
delete from payments where order_id = 1;
delete from payments where order_id = 2 and amount = 20;
update payments set amount = null where order_id = 3 and amount = 10;
-- mended
insert into payments values (1, 30), (2, 20), (3, 10);
