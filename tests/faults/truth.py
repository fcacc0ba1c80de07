"""What is true of the sample platform, by plain SQL of a superuser that goes through no proxy."""

from typing import Final

GAPS: Final = """
select count(*) from public.assessment_sessions s
where s.status = 'completed' and s.completed_questions > 0
  and s.created_at >= timestamptz '2025-08-01 00:00+00'
  and s.completed_at <= now() - interval '5 minutes'
  and (
    not exists (select 1 from public.profiles p where p.session_id = s.id)
    or not exists (
      select 1 from public.fc_scores f where f.session_id = s.id and f.version = 'v1.2' and f.fc_kind = 'functions'
    )
  )
"""
"""The gaps of the sample config, counted without a line of the exporter."""

SPOILED: Final = 5
SPOIL: Final = f"""
delete from public.fc_scores where session_id in (
  select s.id from public.assessment_sessions s
  where s.status = 'completed' and s.completed_questions > 0 and s.created_at >= timestamptz '2025-08-01 00:20+00'
    and s.completed_at < now() - interval '1 day'
  order by s.created_at limit {SPOILED}
)
"""
"""Makes the truth bad: sessions without scores."""
