"""What one round found and how that is judged, and what is known of every pipeline.  Pure."""
