create table documents (id int primary key, status text, created_at timestamptz, published_at timestamptz,
  deleted_at timestamptz);
create table search_entries (document_id int, deleted_at timestamptz);
insert into documents select n, 'published', now() - interval '9 days', now() - interval '8 days' from generate_series(1, 5) n;
insert into search_entries select n from generate_series(1, 5) n;
update documents set deleted_at = now() where id = 1;
update search_entries set deleted_at = now() where document_id = 1;
-- broken: documents sessions_with_gap 1
-- broken: documents detached_records search_entries 1
update documents set deleted_at = now() where id = 2;
update search_entries set deleted_at = now() where document_id = 3;
-- mended
update search_entries set deleted_at = now() where document_id = 2;
update search_entries set deleted_at = null where document_id = 3;
