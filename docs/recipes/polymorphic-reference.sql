create table orders (id bigint primary key, state text, created_at timestamptz, shipped_at timestamptz);
create table payments (payable_type text, payable_id bigint, amount numeric);
insert into orders select n, 'shipped', now() - interval '2 days', now() - interval '1 day' from generate_series(1, 6) n;
insert into payments select 'Order', n, 10 from generate_series(1, 6) n;
-- rows of another kind: with the ids of orders, and with ids of no order
insert into payments select 'Subscription', n, 0 from generate_series(1, 20) n;
-- broken: orders sessions_with_gap 3
-- broken: orders invalid_records payments 1
-- broken: orders orphaned_records payments 1
delete from payments where payable_type = 'Order' and payable_id = 1;
update payments set payable_type = 'order' where payable_type = 'Order' and payable_id = 2;
update payments set amount = 0 where payable_type = 'Order' and payable_id = 3;
insert into payments values ('Order', 99, 10);
-- mended
insert into payments values ('Order', 1, 10);
update payments set payable_type = 'Order' where payable_type = 'order';
update payments set amount = 10 where payable_type = 'Order' and payable_id = 3;
delete from payments where payable_type = 'Order' and payable_id = 99;
